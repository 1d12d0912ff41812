"""JSON patches (RFC 6902) with the ways of the library that Kubernetes uses (evanphx/json-patch v4): negative indices, `1` is not `1.0`.

Its messages are those of the library where clients see them: when the patch of a webhook does not apply.
"""

from __future__ import annotations

import copy
import re
from typing import Any

OPERATIONS_MAX = 10_000
COPIED_BYTES_MAX = 3 * 1024 * 1024
"""What `copy` operations may add together (Kubernetes' request size limit)."""
_INDEX = re.compile(r"[+-]?[0-9]{1,9}\Z", re.ASCII)


class PatchFailed(Exception):
    """An operation does not apply, or a test failed."""


class TestFailed(PatchFailed):
    """A `test` operation did not hold."""

    __test__ = False  # pytest would take it for tests by its name


class _NoPath(PatchFailed):
    """What leads to the last element of a path is missing."""


def apply_operations(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after all operations, in order. Changes `document` in place where it can. Raises PatchFailed."""
    copied = 0
    for operation in operations:
        try:
            copied = _apply(document, operation, copied)
        except _NoPath:
            path = operation["path"] if operation["op"] == "replace" else f'"{operation["path"]}"'
            raise PatchFailed(f"{operation['op']} operation does not apply: doc is missing path: {path}: missing value") from None
    return document


def _apply(document: Any, operation: dict[str, Any], copied: int) -> int:
    """Carry out one operation; `copied` and the answer are what `copy` operations have added in all."""
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise PatchFailed("operation missing path field")
    if kind == "add":
        _add(document, path, operation.get("value"))
    elif kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        _replace(document, path, operation.get("value"))
    elif kind == "move":
        source = _source(operation)
        value = _get(document, source)
        _remove(document, source)
        _add(document, path, value)
    elif kind == "copy":
        value = copy.deepcopy(_get(document, _source(operation)))
        copied += len(repr(value))
        if copied > COPIED_BYTES_MAX:
            raise PatchFailed("unable to complete the copy, the accumulated size increase is too large")
        _add(document, path, value)
    elif kind == "test":
        _test(document, path, operation.get("value"))
    else:
        raise PatchFailed(f"Unexpected kind: {kind}")
    return copied


def _source(operation: dict[str, Any]) -> str:
    source = operation.get("from")
    if not isinstance(source, str):
        raise PatchFailed("operation, missing from field")
    return source


def _container(document: Any, path: str) -> tuple[Any, str]:
    """The dict or list that holds the path's last element, and that element's key."""
    parts = path.split("/")
    if len(parts) < 2:
        raise _NoPath(path)
    for part in parts[1:-1]:
        document = _child(document, _unescape(part))
    if not isinstance(document, dict | list):
        raise _NoPath(path)
    return document, _unescape(parts[-1])


def _unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _child(container: Any, key: str) -> Any:
    if isinstance(container, dict):
        if key not in container:
            raise _NoPath(key)
        return container[key]
    if isinstance(container, list):
        return container[_index(key, len(container))]
    raise _NoPath(key)


def _index(key: str, size: int) -> int:
    """An index of an existing element, given size elements; negative ones count from the end."""
    if not _INDEX.match(key):
        raise PatchFailed(f"value was not a proper array index: {key!r}")
    index = int(key)
    if not -size <= index < size:
        raise PatchFailed(f"Unable to access invalid index: {index}")
    return index % size


def _get(document: Any, path: str) -> Any:
    return _child(*_container(document, path))


def _add(document: Any, path: str, value: Any) -> None:
    container, key = _container(document, path)
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        container.insert(_index(key, len(container) + 1), value)


def _remove(document: Any, path: str) -> None:
    container, key = _container(document, path)
    if isinstance(container, dict):
        if key not in container:
            raise PatchFailed(f"error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        del container[key]
    else:
        del container[_index(key, len(container))]


def _replace(document: Any, path: str, value: Any) -> None:
    container, key = _container(document, path)
    if isinstance(container, dict):
        if key not in container:
            raise PatchFailed(f"replace operation does not apply: doc is missing key: {path}: missing value")
        container[key] = value
    else:
        container[_index(key, len(container))] = value


def _test(document: Any, path: str, value: Any) -> None:
    container, key = _container(document, path)
    found = container.get(key) if isinstance(container, dict) else _child(container, key)
    if not equal(found, value):
        raise TestFailed(f"testing value {path} failed: test failed")


def equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same, where `1`, `1.0` and `true` are three values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(equal(one, other) for one, other in zip(left, right, strict=True))
    return bool(left == right)

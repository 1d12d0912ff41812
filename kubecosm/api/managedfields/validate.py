"""Whether an applied object fits its kind's shape, in the words of structured-merge-diff (typed/validate.go)."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.managedfields.sets import print_element
from kubecosm.api.managedfields.shapes import AtomicList, DeducedShape, KeyProblem, ListShape, MapShape, Shape


def complaints(shape: Shape, value: Any) -> str:
    """The error text of an applied object that does not fit; empty if it does."""
    found = _validate(shape, value, "")
    if len(found) <= 1:
        return "".join(found)
    return "\n".join(["errors:", *(f"  {line}" for line in found)])


def _at(path: str, why: str) -> str:
    return f"{path}: {why}" if path else why


def _validate(shape: Shape, value: Any, path: str) -> list[str]:
    if value is None:
        return []
    if isinstance(shape, DeducedShape) and type(value) is not dict:
        return []
    if isinstance(shape, MapShape):
        return _validate_map(shape, value, path)
    if isinstance(shape, ListShape | AtomicList):
        return _validate_list(shape, value, path)
    why = _scalar_problem(shape.scalar, value)
    return [_at(path, why)] if why else []


def _scalar_problem(expected: str, value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected == "numeric" and not is_number:
        return f"expected numeric (int or float), got {_go_type(value)}"
    if expected == "string" and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{_go_value(value)}}}"
    if expected == "boolean" and not isinstance(value, bool):
        return f"expected boolean, got {_go_print(value)}"
    if expected == "untyped" and isinstance(value, dict | list):
        return f"expected any scalar, got {_go_print(value)}"
    return ""


def _validate_map(shape: MapShape, value: Any, path: str) -> list[str]:
    if type(value) is not dict:
        return [_at(path, f"expected map, got {_go_print(value)}")]
    found: list[str] = []
    for name in sorted(value):
        below = f"{path}.{name}"
        child = shape.child(name)
        if child is None:
            return [*found, _at(below, "field not declared in schema")]
        found += _validate(child, value[name], below)
    return found


def _validate_list(shape: ListShape | AtomicList, value: Any, path: str) -> list[str]:
    if type(value) is not list:
        return [_at(path, f"expected list, got {_go_print(value)}")]
    found: list[str] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        below = f"{path}[{index}]"
        if isinstance(shape, ListShape):
            try:
                key = shape.key(item)
            except KeyProblem as problem:
                found.append(_at(path, f"element {index}: {problem}"))
                continue
            if key in seen:
                found.append(_at(path, f"duplicate entries for key {print_element(key)}"))
            seen.add(key)
            below = path + print_element(key)
        found += _validate(shape.elem, item, below)
    return found


def _go_type(value: Any) -> str:
    """%T of a decoded JSON value."""
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {str: "string", dict: "map[string]interface {}", list: "[]interface {}"}
    return names.get(type(value), "float64")


def _go_value(value: Any) -> str:
    """%#v of a decoded JSON value."""
    if isinstance(value, dict):
        return "map[string]interface {}{" + ", ".join(f"{_quoted(key)}:{_go_value(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_go_value, value)) + "}"
    if value is None:
        return "interface {}(nil)"
    return _quoted(value)


def _go_print(value: Any) -> str:
    """%v of structured-merge-diff's value, which prints as JSON-like text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}:{_go_print(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_go_print, value)) + "]"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return orjson.dumps(value).decode()

"""What can be done at which path, out of the resource table: the rows that both OpenAPI versions render.

Imitates k8s.io/apiserver/pkg/endpoints/installer.go. Left out: the deprecated /watch paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kubecosm.api.resources import Resource, Subresource
from kubecosm.api.schema import schemas
from kubecosm.api.schema.model import META

JSON_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
WATCH_TYPES = (*JSON_TYPES, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
PATCH_TYPES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip

LIST_QUERY = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch",
    "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
WRITE_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents", "propagationPolicy")
_COLLECTION = tuple(name for name in LIST_QUERY if name not in ("allowWatchBookmarks", "watch"))
PARAMETER_TYPES = {
    **dict.fromkeys(("allowWatchBookmarks", "force", "ignoreStoreReadErrorWithClusterBreakingPotential"), "boolean"),
    **dict.fromkeys(("orphanDependents", "sendInitialEvents", "watch"), "boolean"),
    **dict.fromkeys(("gracePeriodSeconds", "limit", "timeoutSeconds"), "integer"),
}
"""Query parameters that are not text."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Bodies are short names of definitions, or full ones after a `#`; empty means none (or plain text, as answer).

    An empty action means that it is about no resource; then `kind` says nothing.
    """

    path: str
    method: str
    action: str
    id: str
    kind: tuple[str, str, str]
    """(group, version, kind) that it deals in."""
    tag: str
    query: tuple[str, ...] = ()
    body: str = ""
    body_required: bool = True
    answer: str = ""
    codes: tuple[int, ...] = (200,)
    consumes: tuple[str, ...] = ("*/*",)
    produces: tuple[str, ...] = JSON_TYPES
    description: str = ""

    @property
    def path_parameters(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def operations(rows: Iterable[Resource]) -> Iterator[Operation]:
    """All operations on these built-in resources, in order of their paths."""
    found = [operation for row in rows for operation in _of_resource(row)]
    return iter(sorted(found, key=lambda operation: operation.path))


def definition_name(group: str, version: str, kind: str) -> str:
    """The definition of a kind, or empty without one (custom resources are described by their own schema, elsewhere)."""
    found = schemas().of_kind(f"{group}/{version}" if group else version, kind)
    if found is None and kind in ("DeleteOptions", "Status"):
        return META + kind
    return found.name if found is not None else ""


def tag_of(group: str, version: str = "") -> str:
    """`apps_v1`, `core_v1`, `rbacAuthorization_v1`; `apps` without a version."""
    word = _group_word(group) or "core"
    return f"{word}_{version}" if version else word


def group_name(group: str) -> str:
    """`Core`, `Apps`, `RbacAuthorization`, as ids of operations name groups."""
    return _camel(_group_word(group) or "core")


def version_name(version: str) -> str:
    return _camel(version)


def _group_word(group: str) -> str:
    """`rbac.authorization.k8s.io` → `rbacAuthorization`."""
    words = group.removesuffix(".k8s.io").split(".")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _camel(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of_resource(row: Resource) -> Iterator[Operation]:
    scope = "Namespaced" if row.namespaced else ""
    prefix = f"{group_name(row.group)}{version_name(row.version)}"
    collection, item = row.path("{namespace}"), row.path("{namespace}", "{name}")
    definition = definition_name(row.group, row.version, row.kind)
    listed = definition_name(row.group, row.version, row.list_kind)
    kind, tag, status = (row.group, row.version, row.kind), tag_of(row.group, row.version), f"{META}Status"

    def make(path: str, method: str, action: str, verb: str, **more: Any) -> Operation:
        name = f"{verb}{prefix}{more.pop('infix', '')}{scope}{row.kind}"
        return Operation(path, method, action, name, kind, tag, **{"answer": definition, **more})

    verbs = set(row.verbs)
    if "list" in verbs:
        yield make(collection, "get", "list", "list", query=LIST_QUERY, answer=listed, produces=WATCH_TYPES)
        if row.namespaced:
            everywhere = f"list{prefix}{row.kind}ForAllNamespaces"
            yield Operation(row.path(), "get", "list", everywhere, kind, tag, LIST_QUERY, answer=listed, produces=WATCH_TYPES)
    if "create" in verbs:
        yield make(collection, "post", "post", "create", query=WRITE_QUERY, body=definition, codes=(200, 201, 202))
    if "deletecollection" in verbs:
        query = tuple(sorted({*_DELETE, *_COLLECTION}))
        yield make(collection, "delete", "deletecollection", "delete", infix="Collection", query=query, body=f"{META}DeleteOptions",
                   body_required=False, answer=status)  # fmt: skip
    if "get" in verbs:
        yield make(item, "get", "get", "read")
    if "update" in verbs:
        yield make(item, "put", "put", "replace", query=WRITE_QUERY, body=definition, codes=(200, 201))
    if "patch" in verbs:
        yield make(item, "patch", "patch", "patch", query=(*WRITE_QUERY, "force"), body=f"{META}Patch", consumes=PATCH_TYPES,
                   codes=(200, 201))  # fmt: skip
    if "delete" in verbs:
        yield make(item, "delete", "delete", "delete", query=_DELETE, body=f"{META}DeleteOptions", body_required=False, answer=status,
                   codes=(200, 202))  # fmt: skip
    for sub in row.subresources:
        yield from _of_subresource(row, sub, prefix, scope + row.kind, tag)


def _of_subresource(row: Resource, sub: Subresource, prefix: str, word: str, tag: str) -> Iterator[Operation]:
    path = row.path("{namespace}", "{name}", sub.name)
    group, version = (sub.group, sub.version) if sub.version else (row.group, row.version)
    kind = (group, version, sub.kind)
    definition = definition_name(*kind)
    word = prefix + word + "".join(_camel(part) for part in sub.name.split("/"))
    if not definition:
        for verb in sub.verbs:
            method = {"create": "post", "get": "get", "update": "put", "patch": "patch", "delete": "delete"}.get(verb)
            if method:
                name = f"connect{prefix}{_camel(method)}{word.removeprefix(prefix)}"
                yield Operation(path, method, "connect", name, kind, tag, produces=("*/*",))
        return
    if "get" in sub.verbs:
        yield Operation(path, "get", "get", f"read{word}", kind, tag, answer=definition)
    if "create" in sub.verbs:
        yield Operation(path, "post", "post", f"create{word}", kind, tag, WRITE_QUERY, definition, answer=definition, codes=(200, 201, 202))
    if "update" in sub.verbs:
        yield Operation(path, "put", "put", f"replace{word}", kind, tag, WRITE_QUERY, definition, answer=definition, codes=(200, 201))
    if "patch" in sub.verbs:
        yield Operation(path, "patch", "patch", f"patch{word}", kind, tag, (*WRITE_QUERY, "force"), f"{META}Patch", answer=definition,
                        codes=(200, 201), consumes=PATCH_TYPES)  # fmt: skip

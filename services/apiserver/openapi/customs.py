"""Operations on custom resources, and the definitions of their lists.

Imitates apiextensions-apiserver's pkg/controller/openapi/builder, whose operations take fewer media types and parameters than those on
built-in resources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubecosm.api.resources import CustomResource, Object, Resource
from kubecosm.api.schema.model import META

from .definitions import reference
from .operations import LIST_QUERY, WRITE_QUERY, Operation, group_name, tag_of, version_name

_TYPES = ("application/json", "application/yaml")
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_DELETE = ("dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents", "propagationPolicy")


def custom_name(row: Resource, kind: str = "") -> str:
    """`stable.example.com/v1 CronTab` → `com.example.stable.v1.CronTab`; another kind of the same group and version."""
    return ".".join([*reversed(row.group.split(".")), row.version, kind or row.kind])


def custom_operations(row: CustomResource) -> Iterator[Operation]:
    """Everything that can be done with the instances of a definition."""
    scope = "Namespaced" if row.namespaced else ""
    prefix = f"{group_name(row.group)}{version_name(row.version)}"
    kind, tag = (row.group, row.version, row.kind), tag_of(row.group, row.version)
    own, listed, status = f"#{custom_name(row)}", f"#{custom_name(row, row.list_kind)}", f"{META}Status"
    collection, item = row.path("{namespace}"), row.path("{namespace}", "{name}")

    def make(path: str, method: str, action: str, name: str, *, answer: str = own, **more: Any) -> Operation:
        return Operation(path, method, action, name, kind, tag, answer=answer, **{"consumes": _TYPES, "produces": _TYPES, **more})

    def named(verb: str, infix: str = "", suffix: str = "") -> str:
        return f"{verb}{prefix}{infix}{scope}{row.kind}{suffix}"

    if row.namespaced:
        yield make(row.path(), "get", "list", f"list{prefix}{row.kind}ForAllNamespaces", answer=listed, query=LIST_QUERY)
    yield make(collection, "get", "list", named("list"), answer=listed, query=LIST_QUERY)
    yield make(collection, "post", "post", named("create"), query=WRITE_QUERY, body=own, codes=(200, 201, 202))
    yield make(collection, "delete", "deletecollection", named("delete", "Collection"), answer=status, query=LIST_QUERY)
    yield make(item, "delete", "delete", named("delete"), query=_DELETE, body=f"{META}DeleteOptions", body_required=False, answer=status,
               codes=(200, 202))  # fmt: skip
    parts = [("", own), ("Status", own), ("Scale", "autoscaling.v1.Scale")]
    for suffix, definition in parts:
        path = f"{item}/{suffix.lower()}" if suffix else item
        if suffix and row.subresource(suffix.lower()) is None:
            continue
        yield make(path, "get", "get", named("read", suffix=suffix), answer=definition, query=("resourceVersion",))
        yield make(path, "put", "put", named("replace", suffix=suffix), answer=definition, query=WRITE_QUERY, body=definition,
                   codes=(200, 201))  # fmt: skip
        yield make(path, "patch", "patch", named("patch", suffix=suffix), answer=definition, query=WRITE_QUERY, body=f"{META}Patch",
                   consumes=_PATCHES)  # fmt: skip


def list_definition(row: CustomResource, version: int) -> Object:
    """The schema of a list of instances."""
    metadata, items = reference(f"{META}ListMeta", version), reference(f"#{custom_name(row)}", version)
    return {
        "description": f"{row.list_kind} is a list of {row.kind}", "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {
                "description": f"List of {row.plural}. More info: "
                "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
                "type": "array", "items": items,
            },
            "kind": {"type": "string"}, "metadata": {"allOf": [metadata]} if version == 3 else metadata,
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "kind": row.list_kind, "version": row.version}],
    }  # fmt: skip

"""The shape of custom resources, out of the structural schema of their version.

Imitates the schema that apiextensions-apiserver publishes and structured-merge-diff reads: lists are atomic unless they say otherwise,
objects fall into fields, and what the schema does not describe is deduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecosm.api.managedfields.shapes import DEDUCED, AtomicList, ListShape, MapShape, Shape
from kubecosm.api.schema.structural import EMBEDDED, INT_OR_STRING, PRESERVE

_SCALARS = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}
_TEXT = Shape("string")


class CustomShape(MapShape):
    """An object with declared properties; `metadata` is the shape of ObjectMeta where this is a whole object."""

    def __init__(self, schema: Mapping[str, Any], metadata: Shape | None = None) -> None:
        super().__init__(Shape(), schema.get("x-kubernetes-map-type") == "atomic")
        self._properties: Mapping[str, Any] = schema.get("properties") or {}
        self._metadata = metadata
        self._preserves = bool(schema.get(PRESERVE)) or schema.get("additionalProperties") is True
        self._is_embedded = bool(schema.get(EMBEDDED))
        self._children: dict[str, Shape] = {}

    def child(self, name: str) -> Shape | None:
        if self._metadata is not None and name in ("apiVersion", "kind", "metadata"):
            return self._metadata if name == "metadata" else _TEXT
        found = self._children.get(name)
        if found is None:
            schema = self._properties.get(name)
            if schema is None:
                return DEDUCED if self._preserves or (self._is_embedded and name in ("apiVersion", "kind", "metadata")) else None
            found = self._children[name] = shape_of_schema(schema)
        return found

    def named(self, name: str) -> bool:
        return name in self._properties or (self._metadata is not None and name in ("apiVersion", "kind", "metadata"))

    def default(self, name: str) -> Any:
        return (self._properties.get(name) or {}).get("default")


def shape_of_schema(schema: Mapping[str, Any]) -> Shape:
    """The shape of a value below the root."""
    kind, additional = schema.get("type"), schema.get("additionalProperties")
    if schema.get(INT_OR_STRING):
        return Shape("untyped")
    if kind == "array":
        elem = shape_of_schema(schema.get("items") or {})
        list_type = schema.get("x-kubernetes-list-type")
        if list_type in ("map", "set"):
            return ListShape(elem, tuple(schema.get("x-kubernetes-list-map-keys") or ()))
        return AtomicList(elem)
    if kind == "object":
        if isinstance(additional, dict) and not schema.get("properties"):
            return MapShape(shape_of_schema(additional), schema.get("x-kubernetes-map-type") == "atomic")
        return CustomShape(schema)
    return Shape(_SCALARS[kind]) if kind in _SCALARS else DEDUCED

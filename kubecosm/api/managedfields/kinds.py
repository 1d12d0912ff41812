"""The shape of every kind, out of the schemas; custom resources are deduced."""

from __future__ import annotations

from functools import lru_cache

from kubecosm.api.managedfields.custom import CustomShape
from kubecosm.api.managedfields.sets import LEAF, SELF, Node
from kubecosm.api.managedfields.shapes import AtomicList, DeducedShape, ListShape, MapShape, Shape, StructShape
from kubecosm.api.resources import CustomResource, Resource
from kubecosm.api.schema.model import LIST, MAP, STRUCT, Field, Type, schemas

_SCALARS = {
    "string": "string", "bytes": "string", "time": "string", "microtime": "string", "bool": "boolean", "int32": "numeric",
    "int64": "numeric", "int": "numeric", "float64": "numeric", "quantity": "untyped", "intorstring": "untyped", "duration": "string",
}  # fmt: skip
_structs: dict[tuple[str, bool, bool], StructShape] = {}


def shape_of(api_version: str, kind: str, *, typed: bool = True) -> MapShape:
    """The shape of a kind's objects: typed for what the server holds, untyped where a client's configuration is laid over it."""
    definition = schemas().of_kind(api_version, kind)
    return _custom() if definition is None else _struct(definition.name, definition.map_type == "atomic", typed)


def shape_of_resource(resource: Resource, *, typed: bool = True) -> MapShape:
    """The shape of a resource's objects; that of a custom resource comes from the schema of its version."""
    if not isinstance(resource, CustomResource):
        return shape_of(resource.api_version, resource.kind, typed=typed)
    found: MapShape | None = resource.derived.get("shape")
    if found is None:
        found = resource.derived["shape"] = CustomShape(resource.schema, _struct("apimachinery.pkg.apis.meta.v1.ObjectMeta", False, True))
    return found


def _struct(name: str, atomic: bool, typed: bool) -> StructShape:
    found = _structs.get((name, atomic, typed))
    if found is None:
        found = _structs[name, atomic, typed] = StructShape(schemas().definition(name), atomic, typed, _of_field)
    return found


def _of_field(field: Field, typed: bool) -> Shape:
    if field.type.kind == LIST:
        assert field.type.elem is not None
        if field.list_type in ("map", "set"):
            return ListShape(_of_type(field.type.elem, "", typed), field.list_keys)
        return AtomicList(_of_type(field.type.elem, "", typed))
    return _of_type(field.type, field.map_type, typed)


def _of_type(kind: Type, map_type: str, typed: bool) -> Shape:
    if kind.kind == STRUCT:
        definition = schemas().definition(kind.ref)
        return Shape() if definition.special else _struct(kind.ref, (map_type or definition.map_type) == "atomic", typed)
    if kind.kind == MAP:
        assert kind.elem is not None
        return MapShape(_of_type(kind.elem, "", typed), map_type == "atomic")
    if kind.kind == LIST:
        assert kind.elem is not None
        return AtomicList(_of_type(kind.elem, "", typed))
    return Shape(_SCALARS.get(kind.kind, "any"))


@lru_cache(maxsize=1)
def _custom() -> DeducedShape:
    """Custom resources: their metadata is typed, the rest deduced."""
    return DeducedShape(_struct("apimachinery.pkg.apis.meta.v1.ObjectMeta", False, True))


def ensure_named(shape: Shape | None, node: Node) -> Node:
    """The set with every declared field on the way to a member made a member too (Set.EnsureNamedFieldsAreMembers)."""
    result: Node = {}
    for key, below in node.items():
        inner = _below(shape, key)
        deeper = ensure_named(inner, below) if below else below
        if below and SELF not in below and key[0] == "f" and shape is not None and shape.named(key[2:]):
            deeper = {SELF: LEAF, **deeper}
        result[key] = deeper
    return result


def _below(shape: Shape | None, key: str) -> Shape | None:
    if key[0] == "f":
        return None if shape is None else shape.child(key[2:])
    return getattr(shape, "elem", None)

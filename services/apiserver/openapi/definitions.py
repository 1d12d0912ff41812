"""The schema of a definition as OpenAPI writes it, for v2 and v3. kubecosm's data holds facts only; `descriptions` adds the prose.

Imitates k8s.io/kube-openapi's generated definitions, equal to the published documents but for the descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.api.schema import Definition, Field, Type, schemas
from kubecosm.api.schema.model import LIST, MAP, META, SPECIALS, STRUCT

_PLAIN: dict[str, Object] = {
    "string": {"type": "string"}, "bool": {"type": "boolean"}, "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"}, "int": {"type": "integer", "format": "int32"},
    "float64": {"type": "number", "format": "double"}, "bytes": {"type": "string", "format": "byte"},
}  # fmt: skip
_SPECIAL_REFS = {
    "quantity": "apimachinery.pkg.api.resource.Quantity", "intorstring": "apimachinery.pkg.util.intstr.IntOrString",
    "raw": "apimachinery.pkg.runtime.RawExtension", "time": f"{META}Time", "microtime": f"{META}MicroTime", "duration": f"{META}Duration",
    "fieldsv1": f"{META}FieldsV1",
}  # fmt: skip
_EXTENSIONS = "apiextensions-apiserver.pkg.apis.apiextensions.v1."
_EXTENSION_REFS = {
    "json": "JSON", "schema-or-array": "JSONSchemaPropsOrArray", "schema-or-bool": "JSONSchemaPropsOrBool",
    "schema-or-strings": "JSONSchemaPropsOrStringArray",
}  # fmt: skip
_V3_SPECIALS: dict[str, Object] = {
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intorstring": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}
_ZEROS: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, "int": 0, "float64": 0}
V2_PREFIX, V3_PREFIX = "#/definitions/", "#/components/schemas/"


def full_name(name: str) -> str:
    """`core.v1.Pod` → `io.k8s.api.core.v1.Pod`, as documents name definitions."""
    first = name.partition(".")[0]
    return f"io.k8s.{name}" if first in ("apimachinery", "apiextensions-apiserver", "kube-aggregator") else f"io.k8s.api.{name}"


def special_name(kind: str) -> str:
    """The definition of a type with a JSON form of its own."""
    return _SPECIAL_REFS.get(kind) or _EXTENSIONS + _EXTENSION_REFS[kind]


def reference(name: str, version: int) -> Object:
    """A reference to a definition: by its short name, or by its full one after a `#`."""
    return {"$ref": (V2_PREFIX if version == 2 else V3_PREFIX) + (name[1:] if name.startswith("#") else full_name(name))}


def schema_of(definition: Definition, version: int) -> Object:
    """The schema object of a definition in OpenAPI version 2 or 3."""
    if definition.special:
        return dict(_V3_SPECIALS.get(definition.special, definition.document) if version == 3 else definition.document)
    result: Object = {"type": "object"}
    properties = {field.name: _property(field, version) for field in definition.fields.values()}
    if properties:
        result["properties"] = properties
    required = [field.name for field in definition.fields.values() if field.required]
    if required:
        result["required"] = required
    if definition.map_type:
        result["x-kubernetes-map-type"] = definition.map_type
    if definition.kinds:
        result["x-kubernetes-group-version-kind"] = [
            {"group": group, "kind": kind, "version": kind_version} for group, kind_version, kind in definition.kinds
        ]
    if definition.unions:
        result["x-kubernetes-unions"] = list(definition.unions)
    return result


def _property(field: Field, version: int) -> Object:
    result = _type(field.type, version)
    extras: Object = {}
    if field.list_type:
        extras["x-kubernetes-list-type"] = field.list_type
    if field.list_keys:
        extras["x-kubernetes-list-map-keys"] = list(field.list_keys)
    if field.map_type:
        extras["x-kubernetes-map-type"] = field.map_type
    if field.merge_key:
        extras["x-kubernetes-patch-merge-key"] = field.merge_key
    if field.patch_strategy:
        extras["x-kubernetes-patch-strategy"] = ",".join(field.patch_strategy)
    if version == 2:
        return {**result, **extras}
    default = _default(field)
    if default is not None:
        extras["default"] = default
    if "$ref" in result and extras:
        return {"allOf": [result], **extras}
    return {**result, **extras}


def _default(field: Field) -> Any:
    """Declared, or what Go's zero value makes of a field that is never omitted; v2 documents leave defaults out."""
    if field.default is not None:
        return field.default
    if field.type.pointer:
        return None
    if field.type.kind == STRUCT or field.type.kind in ("quantity", "time", "microtime", "intorstring", "raw"):
        return {} if field.type.kind == STRUCT else None
    return None if field.omitempty else _ZEROS.get(field.type.kind)


def _type(kind: Type, version: int) -> Object:
    if kind.kind == STRUCT:
        return reference(kind.ref, version)
    if kind.kind in SPECIALS:
        return reference(special_name(kind.kind), version)
    if kind.kind == LIST:
        assert kind.elem is not None
        return {"type": "array", "items": _inner(kind.elem, version)}
    if kind.kind == MAP:
        assert kind.elem is not None
        return {"type": "object", "additionalProperties": _inner(kind.elem, version)}
    return dict(_PLAIN[kind.kind])


def _inner(kind: Type, version: int) -> Object:
    """The type of items and map values; v3 gives them defaults too."""
    result = _type(kind, version)
    if version == 3 and not kind.pointer:
        if kind.kind == STRUCT:
            return {"allOf": [result], "default": {}}
        if kind.kind in _ZEROS:
            return {**result, "default": _ZEROS[kind.kind]}
    return result


def reachable(names: Iterable[str]) -> list[str]:
    """These definitions and all that they refer to, sorted."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for field in schemas().definition(name).fields.values():
            waiting += _mentioned(field.type)
    return sorted(found)


def _mentioned(kind: Type | None) -> Iterator[str]:
    while kind is not None:
        if kind.kind == STRUCT:
            yield kind.ref
        elif kind.kind in SPECIALS:
            yield special_name(kind.kind)
        kind = kind.elem

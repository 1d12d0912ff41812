"""Schemas of custom resources as OpenAPI publishes them, for `kubectl explain`, editors, and clients that validate.

Imitates apiextensions-apiserver's openapi builder, its v2 conversion and structural-schema unfolding.
"""

from __future__ import annotations

from typing import Any

from kubecosm.api.resources import CustomResource, Object, Resource
from kubecosm.api.schema.model import META
from kubecosm.api.schema.structural import EMBEDDED, INT_OR_STRING, PRESERVE

from ..openapi.definitions import reference

_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")
_EITHER: Object = {"anyOf": [{"type": "integer"}, {"type": "string"}]}


def published_schema(row: Resource, version: int) -> Object | None:
    """The schema of a version with the fields that every object has; None for what is not custom."""
    if not isinstance(row, CustomResource):
        return None
    schema = row.schema
    if version == 2:
        if schema.get(PRESERVE):
            return {"type": "object"}
        schema = _v2(schema)
    found = _published(schema, version)
    return {**found, "type": "object", "properties": {**(found.get("properties") or {}), **_object_fields(found, version)}}


def _object_fields(schema: Object, version: int) -> Object:
    """apiVersion, kind and metadata are what they are in every object, however the schema describes them."""
    described = schema.get("properties") or {}
    metadata: Object = reference(f"{META}ObjectMeta", version)
    metadata = {"allOf": [metadata]} if version == 3 else metadata
    fields = {name: {"type": "string", **_description(described.get(name))} for name in ("apiVersion", "kind")}
    return {**fields, "metadata": {**metadata, **_description(described.get("metadata"))}}


def _description(schema: Any) -> Object:
    """What the definition says of a field of every object; the server's own words, where it has them, take its place."""
    return {"description": schema["description"]} if isinstance(schema, dict) and schema.get("description") else {}


def _published(schema: Object, version: int) -> Object:
    """Shortcuts written out, and embedded resources with the fields that they have."""
    found = dict(schema)
    if version == 3 and found.get(INT_OR_STRING):
        found = _unfolded(found)
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: _published(child, version) for name, child in found["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = _published(found[name], version)
    if not found.get(EMBEDDED) or (version == 2 and found.get(PRESERVE)):
        return found
    found["properties"] = {**(found.get("properties") or {}), **_object_fields(found, version)}
    required = list(found.get("required") or ())
    found["required"] = [*required, *(name for name in ("kind", "apiVersion") if name not in required)]
    return found


def _unfolded(schema: Object) -> Object:
    """x-kubernetes-int-or-string with the anyOf that it stands for."""
    if schema.get("anyOf") == _EITHER["anyOf"] or ((schema.get("allOf") or [{}])[0].get("anyOf") == _EITHER["anyOf"]):
        return schema
    if "anyOf" not in schema:
        return {**schema, **_EITHER}
    return {**schema, "allOf": [_EITHER, *(schema.get("allOf") or ())]}


def _v2(schema: Any) -> Any:
    """Without what the older format, or kubectl reading it, does not cope with."""
    if not isinstance(schema, dict):
        return schema
    found = {name: value for name, value in schema.items() if name not in _JUNCTORS and name != "nullable"}
    if schema.get("nullable"):
        found.pop("type", None)
    if schema.get("nullable") or schema.get(PRESERVE):
        found.pop("items", None)
        found.pop("properties", None)
    kind = found.get("type")
    if (kind == "array" and "items" not in found) or (kind == "object" and schema.get(PRESERVE)):
        del found["type"]
    properties, additional = found.get("properties"), found.get("additionalProperties")
    if isinstance(properties, dict):
        required = [name for name in found.get("required") or () if not (properties.get(name) or {}).get("nullable")]
        found = {**{name: value for name, value in found.items() if name != "required"}, **({"required": required} if required else {})}
        found["properties"] = {name: _v2(child) for name, child in properties.items()}
    if isinstance(additional, dict):
        if additional.get("nullable"):
            found.pop("required", None)
        found["additionalProperties"] = _v2(additional)
    if "items" in found:
        found["items"] = _v2(found["items"])
    return found

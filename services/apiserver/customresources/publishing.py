"""Schemas of custom resources as OpenAPI publishes them, for `kubectl explain` and editors.

Imitates apiextensions-apiserver's openapi builder. Left out: operations' bodies, and lists as definitions of their own.
"""

from __future__ import annotations

from typing import Any

from kubecosm.api.resources import CustomResource, Object, Resource
from kubecosm.api.schema.model import META

from ..openapi.definitions import reference

_KEPT_IN_V2 = frozenset((
    "type", "description", "format", "properties", "items", "additionalProperties", "required", "default", "enum", "title",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems",
))  # fmt: skip
"""Keywords that the older format knows."""


def published_schema(row: Resource, version: int) -> Object | None:
    """The schema of a version with the fields that every object has; None for what is not custom."""
    if not isinstance(row, CustomResource):
        return None
    schema = _v2(row.schema) if version == 2 else row.schema
    metadata: Object = {"description": "Standard object's metadata.", **reference(f"{META}ObjectMeta", version)}
    if version == 3:
        metadata = {"description": metadata.pop("description"), "allOf": [metadata]}
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    properties = {**own, **(schema.get("properties") or {}), "metadata": metadata}
    return {**schema, "type": "object", "properties": properties}


def _v2(schema: Any) -> Any:
    """Without nullable, junctors and CEL rules; a nullable value has no type, as older clients would refuse null."""
    if not isinstance(schema, dict):
        return schema
    result = {name: value for name, value in schema.items() if name in _KEPT_IN_V2}
    if schema.get("nullable"):
        result.pop("type", None)
    if isinstance(result.get("properties"), dict):
        result["properties"] = {name: _v2(child) for name, child in result["properties"].items()}
    for name in ("items", "additionalProperties"):
        if name in result:
            result[name] = _v2(result[name])
    return result

"""Whole objects inside custom resources (x-kubernetes-embedded-resource): where they are, and their metadata as ObjectMeta.

Imitates k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from kubecosm.api.field import invalid_value
from kubecosm.api.schema import gojson
from kubecosm.api.schema.explain import DecodeError
from kubecosm.api.schema.explain import decode as explain
from kubecosm.api.schema.model import META, schemas
from kubecosm.api.schema.structural import EMBEDDED, Schema


def embedded_resources(schema: Schema, value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, object) of each whole object below a value, outer ones first."""
    if isinstance(value, dict):
        if path and schema.get(EMBEDDED):
            yield path, value
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            child = properties.get(name)
            if child is not None:
                yield from embedded_resources(child, item, f"{path}.{name}" if path else name)
            elif isinstance(additional, dict):
                yield from embedded_resources(additional, item, f"{path}[{name}]")
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from embedded_resources(items, item, f"{path}[{index}]")


def coerce_embedded(schema: Schema, obj: dict[str, Any]) -> None:
    """The metadata of whole objects as a round trip through ObjectMeta leaves it, in place. DecodeError if something is of a wrong type."""
    for path, found in embedded_resources(schema, obj):
        for name in ("apiVersion", "kind"):
            if name in found and not isinstance(found[name], str):
                raise DecodeError(str(invalid_value(f"{path}.{name}", found[name], "must be a string")))
        if "metadata" not in found:
            continue
        try:
            node = gojson.parse(orjson.dumps(found["metadata"]))
            found["metadata"], _ = explain(schemas().definition(META + "ObjectMeta"), node, strict=False)
        except DecodeError as error:
            raise DecodeError(str(invalid_value(f"{path}.metadata", found["metadata"], str(error)))) from None

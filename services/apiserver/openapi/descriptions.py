"""What fields mean, in Kubernetes' own words: prose that kubecosm does not carry, read from the optional package kubernetes-validate.

Installed by `pip install kubecosm[explain]`. Documents describe nothing without it. Nothing is kept in memory between documents.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

import kubecosm
from kubecosm.api.resources import Object


@lru_cache(maxsize=1)
def source() -> Path | None:
    """The file of definitions of our Kubernetes version, if the package is there and knows it."""
    found = find_spec("kubernetes_validate")
    if found is None or not found.submodule_search_locations:
        return None
    minor = ".".join(kubecosm.KUBERNETES_VERSION.lstrip("v").split(".")[:2])
    folders = Path(found.submodule_search_locations[0]).joinpath("kubernetes-json-schema")
    return next(iter(sorted(folders.glob(f"v{minor}.*-local/_definitions.json"))), None)


def describe(schemas: Object) -> None:
    """Add descriptions, in place, to schemas by full definition name."""
    path = source()
    if path is None:
        return
    texts: dict[str, Any] = orjson.loads(path.read_bytes()).get("$defs", {})
    for name, schema in schemas.items():
        known = texts.get(name)
        if known is None:
            continue
        if text := known.get("description"):
            schema["description"] = text
        for field, prop in schema.get("properties", {}).items():
            text = known.get("properties", {}).get(field, {}).get("description")
            if text:
                schema["properties"][field] = _with(prop, text)


def describe_objects(schemas: Object) -> None:
    """Say of apiVersion, kind and metadata, in place, what is said of them in every object."""
    path = source()
    if path is None or not schemas:
        return
    known: dict[str, Any] = orjson.loads(path.read_bytes()).get("$defs", {})
    for schema in schemas.values():
        like = known.get(f"io.k8s.api.core.v1.{'NamespaceList' if 'items' in schema.get('properties', {}) else 'Namespace'}", {})
        for field in ("apiVersion", "kind", "metadata"):
            text = like.get("properties", {}).get(field, {}).get("description")
            if text and field in schema.get("properties", {}):
                schema["properties"][field] = _with(schema["properties"][field], text)


def _with(prop: Object, text: str) -> Object:
    """A property with its description; OpenAPI v3 lets nothing stand beside a reference but in allOf."""
    if prop.get("$ref", "").startswith("#/components/"):
        return {"allOf": [prop], "description": text}
    return {**prop, "description": text}

"""Structural schemas of custom resources: pruning of fields they do not know, and defaults.

Imitates k8s.io/apiextensions-apiserver/pkg/apiserver/schema (pruning, defaulting). Pure functions over JSON values.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from kubecosm.api.schema.fast import Doubt, checker
from kubecosm.api.schema.model import META, schemas

Schema = Mapping[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
OBJECT_FIELDS = ("apiVersion", "kind", "metadata")
"""What every object has, whether its schema says so or not."""


def prune_unknown(schema: Schema, obj: dict[str, Any], *, remove: bool = True) -> list[str]:
    """The paths of the fields that a whole object has and its schema does not know, in order; they are removed in place.

    With `remove` False they are only found, and so are fields of embedded resources that are not of their type, or not plainly so.
    """
    found: list[str] = []
    _prune_object(schema, obj, "", found, is_object=True, removes=remove)
    return found


def _prune(schema: Schema, value: Any, path: str, found: list[str], removes: bool) -> None:
    if isinstance(value, dict):
        _prune_object(schema, value, path, found, is_object=bool(schema.get(EMBEDDED)), removes=removes)
    elif isinstance(value, list):
        items = schema.get("items")
        for index, item in enumerate(value):
            if isinstance(items, dict):
                _prune(items, item, f"{path}[{index}]", found, removes)


def _prune_object(schema: Schema, obj: dict[str, Any], path: str, found: list[str], *, is_object: bool, removes: bool) -> None:
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    keeps = bool(schema.get(PRESERVE)) or additional is True
    for name in list(obj):
        below = f"{path}.{name}" if path else name
        if is_object and name in OBJECT_FIELDS:
            if path:
                _prune_embedded(name, obj[name], below, found, removes)
            continue
        child = properties.get(name, additional if isinstance(additional, dict) else None)
        if child is not None:
            _prune(child, obj[name], below, found, removes)
        elif not keeps:
            found.append(below)
            if removes:
                del obj[name]


def _prune_embedded(field: str, value: Any, path: str, found: list[str], removes: bool) -> None:
    """The metadata of an embedded resource is ObjectMeta, whatever the schema around it keeps."""
    if field != "metadata":
        if not removes and not isinstance(value, str):
            found.append(path)
        return
    if isinstance(value, dict):
        for name in [name for name in value if name not in _metadata_fields()]:
            found.append(f"{path}.{name}")
            if removes:
                del value[name]
    if not removes and not _is_metadata(value):
        found.append(path)


def _is_metadata(value: Any) -> bool:
    try:
        checker(META + "ObjectMeta")(value)
    except (Doubt, ValueError):
        return False
    return True


@cache
def _metadata_fields() -> frozenset[str]:
    return frozenset(schemas().definition(META + "ObjectMeta").fields)


def fill_defaults(schema: Schema, value: Any) -> None:
    """Defaults where a property is missing, or null without being nullable; other such nulls are dropped. In place, idempotent."""
    if isinstance(value, dict):
        _fill_object(schema, value)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for item in value:
            fill_defaults(items, item)


def _fill_object(schema: Schema, obj: dict[str, Any]) -> None:
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, child in properties.items():
        unset = name not in obj or (obj[name] is None and not child.get("nullable"))
        if unset and "default" in child and child["default"] is not None:
            obj[name] = copy.deepcopy(child["default"])
        elif unset and name in obj:
            del obj[name]
    for name, value in obj.items():
        child = properties.get(name, additional if isinstance(additional, dict) else None)
        if child is not None:
            fill_defaults(child, value)


def has_defaults(schema: Any) -> bool:
    """Whether reading an object by this schema can add anything to it."""
    if isinstance(schema, list):
        return any(has_defaults(part) for part in schema)
    if not isinstance(schema, dict):
        return False
    return ("default" in schema and "type" in schema) or any(has_defaults(part) for part in schema.values())

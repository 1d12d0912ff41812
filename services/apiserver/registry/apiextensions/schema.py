"""Validation of the structural schema inside a CustomResourceDefinition (OpenAPI v3 with Kubernetes' extensions)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kubecosm.api.field import forbidden_field, invalid_value, not_supported, required
from kubecosm.api.schema.structural import EMBEDDED, fill_defaults, prune_unknown

from ...customresources.validation import pattern_problem, validate_at
from ..formats import Errors
from .rules import check_programs, check_texts

TYPES = ("array", "boolean", "integer", "number", "object", "string")
LIST_TYPES = ("atomic", "map", "set")
MAP_TYPES = ("atomic", "granular")
_FORBIDDEN = ("definitions", "dependencies", "patternProperties", "id", "$ref", "additionalItems", "deprecated", "discriminator",
              "readOnly", "writeOnly", "xml")  # fmt: skip
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_NOT_IN_JUNCTORS = ("type", "additionalProperties", "default", "title", "description", "nullable")

Schema = Mapping[str, Any]


def check_schema(schema: Schema, path: str, errors: Errors, *, is_stored: bool = False) -> None:
    """The root of a version's schema; `is_stored`: the definition has had it before."""
    kind = schema.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must not be empty at the root"))
    elif kind != "object" and kind in TYPES:
        errors.append(invalid_value(f"{path}.type", kind, "must be object at the root"))
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    before = len(errors)
    _check_level(schema, path, errors, root=True)
    if len(errors) == before:
        check_programs(schema, path, errors, is_stored=is_stored)


def _check_level(schema: Schema, path: str, errors: Errors, *, root: bool = False) -> None:
    kind = schema.get("type", "")
    if kind and kind not in TYPES:
        errors.append(not_supported(f"{path}.type", kind, TYPES))
    int_or_string, preserves = schema.get("x-kubernetes-int-or-string"), schema.get("x-kubernetes-preserve-unknown-fields")
    if not kind and not int_or_string and not preserves and not root:
        errors.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if int_or_string and kind:
        errors.append(invalid_value(f"{path}.type", kind, "must be empty if x-kubernetes-int-or-string is true"))
    errors.extend(forbidden_field(f"{path}.{field}", f"{field} is not supported") for field in _FORBIDDEN if schema.get(field))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", detail))
    if preserves is False:
        errors.append(invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    _check_embedded(schema, kind, path, errors)
    _check_lists(schema, kind, path, errors)
    _check_children(schema, path, errors)
    _check_pattern(schema, path, errors)
    _check_default(schema, path, errors)
    check_texts(schema, path, errors)


def _check_embedded(schema: Schema, kind: str, path: str, errors: Errors) -> None:
    if not schema.get("x-kubernetes-embedded-resource"):
        return
    if kind != "object":
        errors.append(invalid_value(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true"))
    if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        errors.append(required(f"{path}.properties", detail))


def _check_lists(schema: Schema, kind: str, path: str, errors: Errors) -> None:
    list_type, keys, map_type = (schema.get(f"x-kubernetes-{f}") for f in ("list-type", "list-map-keys", "map-type"))
    if list_type is not None:
        if kind != "array":
            errors.append(invalid_value(f"{path}.type", kind, "must be array if x-kubernetes-list-type is specified"))
        if list_type not in LIST_TYPES:
            errors.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, LIST_TYPES))
    if keys and list_type != "map":
        errors.append(invalid_value(f"{path}.x-kubernetes-list-type", list_type, "must be map if x-kubernetes-list-map-keys is non-empty"))
    if list_type == "map" and not keys:
        errors.append(required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"))
    if list_type == "map" and keys:
        _check_map_keys(schema, keys, path, errors)
    if map_type is not None:
        if kind != "object":
            errors.append(invalid_value(f"{path}.type", kind, "must be object if x-kubernetes-map-type is specified"))
        if map_type not in MAP_TYPES:
            errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, MAP_TYPES))


def _check_map_keys(schema: Schema, keys: list[str], path: str, errors: Errors) -> None:
    """Keys of a list that is a map are scalars that every item has."""
    items = schema.get("items")
    if not isinstance(items, dict):
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
        return
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid_value(f"{path}.items.type", items.get("type", ""), detail))
    if len(set(keys)) != len(keys):
        errors.append(invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, "must not contain duplicate entries"))
    told = "this property is in x-kubernetes-list-map-keys, so it"
    for key in keys:
        child, here = (items.get("properties") or {}).get(key), f"{path}.items.properties[{key}]"
        if child is None:
            errors.append(invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties"))
            continue
        if child.get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid_value(f"{here}.type", child["type"], detail))
        if child.get("nullable"):
            errors.append(forbidden_field(f"{here}.nullable", f"{told} cannot be nullable"))
        if key not in (items.get("required") or ()) and child.get("default") is None:
            errors.append(required(f"{here}.default", f"{told} must have a default or be a required property"))


def _check_default(schema: Schema, path: str, errors: Errors) -> None:
    """A default knows no fields that its schema does not, and fits it."""
    value = schema.get("default")
    if value is None:
        return
    pruned = copy.deepcopy(value)
    if isinstance(pruned, dict) and not schema.get(EMBEDDED) and prune_unknown(schema, pruned):
        errors.append(invalid_value(f"{path}.default", value, "must not have unknown fields"))
    else:
        fill_defaults(schema, pruned)
        errors.extend(validate_at(schema, pruned, f"{path}.default"))


def _check_pattern(schema: Schema, path: str, errors: Errors) -> None:
    pattern = schema.get("pattern")
    if pattern and (problem := pattern_problem(pattern)):
        errors.append(invalid_value(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {problem}"))


def _check_children(schema: Schema, path: str, errors: Errors) -> None:
    properties, additional, items = schema.get("properties"), schema.get("additionalProperties"), schema.get("items")
    if properties and additional is not None:
        errors.append(forbidden_field(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"))
    if additional is False:
        errors.append(forbidden_field(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    for name, child in (properties or {}).items():
        _check_level(child, f"{path}.properties[{name}]", errors)
    if isinstance(additional, dict):
        _check_level(additional, f"{path}.additionalProperties", errors)
    if isinstance(items, dict):
        _check_level(items, f"{path}.items", errors)
    elif isinstance(items, list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    elif schema.get("type") == "array":
        errors.append(required(f"{path}.items", "must be specified"))
    for junctor in _JUNCTORS:
        for i, child in enumerate(schema.get(junctor) or ()):
            _check_junctor(child, schema, f"{path}.{junctor}[{i}]", errors)
    if isinstance(schema.get("not"), dict):
        _check_junctor(schema["not"], schema, f"{path}.not", errors)


def _check_junctor(child: Schema, parent: Schema, path: str, errors: Errors) -> None:
    """Below a logical junctor only value constraints may stand, about properties that the structure has."""
    allowed_type = parent.get("x-kubernetes-int-or-string")
    for field in _NOT_IN_JUNCTORS:
        if child.get(field) and not (field == "type" and allowed_type):
            how = "empty" if field == "type" else "undefined"
            errors.append(forbidden_field(f"{path}.{field}", f"must be {how} to be structural"))
    _check_pattern(child, path, errors)
    known = parent.get("properties") or {}
    for name, grandchild in (child.get("properties") or {}).items():
        if name not in known and not isinstance(parent.get("additionalProperties"), dict):
            detail = f'because it is defined in {path}.properties[{name}]'
            errors.append(required(f"{path.rpartition('.')[0]}.properties[{name}]", detail))
        else:
            _check_junctor(grandchild, known.get(name) or {}, f"{path}.properties[{name}]", errors)

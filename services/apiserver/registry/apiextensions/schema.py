"""Validation of the structural schema inside a CustomResourceDefinition (OpenAPI v3 with Kubernetes' extensions)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.schema.structural import EMBEDDED, fill_defaults, prune_unknown

from ...customresources.validation import pattern_problem, validate_at
from ..formats import Errors
from .rules import check_programs, check_texts

TYPES = ("array", "boolean", "integer", "number", "object", "string")
LIST_TYPES = ("atomic", "map", "set")
MAP_TYPES = ("atomic", "granular")
_FORBIDDEN = ("definitions", "dependencies", "patternProperties", "id", "$ref", "additionalItems", "deprecated", "discriminator",
              "readOnly", "writeOnly", "xml")  # fmt: skip
ROOT, FIELD, ITEM = "at the root", "for specified object fields", "for specified array items"
"""Where in a schema a level stands, as complaints say it."""
_AT_ROOT_SHOWN = (
    "description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items", "properties", "externalDocs", "example",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
)  # fmt: skip
_AT_ROOT = frozenset(_AT_ROOT_SHOWN)
_GO_NAMES = {"x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields", "x-kubernetes-validations": "XValidations"}
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_NOT_IN_JUNCTORS = ("type", "additionalProperties", "default", "title", "description", "nullable")

Schema = Mapping[str, Any]


def check_schema(schema: Schema, path: str, errors: Errors, *, is_stored: bool = False) -> None:
    """The root of a version's schema; `is_stored`: the definition has had it before."""
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    if isinstance(schema.get("additionalProperties"), dict):
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used at the root"))
    before = len(errors)
    _check_level(schema, path, errors, ROOT)
    if len(errors) == before:
        check_programs(schema, path, errors, is_stored=is_stored)


def check_root_beside_status(schema: Schema, path: str, errors: Errors) -> None:
    """With a status of its own, an object's parts are validated apart, so the root may say nothing of the whole."""
    if any(schema.get(field) and field not in _AT_ROOT for field in schema):
        shown = " ".join(field[0].upper() + field[1:] if not field.startswith("x-") else _GO_NAMES[field] for field in _AT_ROOT_SHOWN)
        detail = f"only [{shown}] fields are allowed at the root of the schema if the status subresource is enabled"
        errors.append(invalid_value(path, schema, detail))


def _check_level(schema: Schema, path: str, errors: Errors, level: str) -> None:
    kind = schema.get("type", "")
    if kind and kind not in TYPES:
        errors.append(not_supported(f"{path}.type", kind, TYPES))
    int_or_string, preserves = schema.get("x-kubernetes-int-or-string"), schema.get("x-kubernetes-preserve-unknown-fields")
    if not kind and not int_or_string and not preserves and not schema.get(EMBEDDED):
        errors.append(required(f"{path}.type", f"must not be empty {level}"))
    if level == ROOT and kind and kind != "object" and kind in TYPES:
        errors.append(invalid_value(f"{path}.type", kind, "must be object at the root"))
    if int_or_string and kind:
        errors.append(invalid_value(f"{path}.type", kind, "must be empty if x-kubernetes-int-or-string is true"))
    for field in ("x-kubernetes-preserve-unknown-fields", EMBEDDED):
        if int_or_string and schema.get(field):
            errors.append(invalid_value(f"{path}.{field}", True, "must be false if x-kubernetes-int-or-string is true"))
    errors.extend(forbidden_field(f"{path}.{field}", f"{field} is not supported") for field in _FORBIDDEN if schema.get(field))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden_field(f"{path}.uniqueItems", detail))
    if preserves is False:
        errors.append(invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    _check_embedded(schema, kind, path, errors)
    _check_identity(schema, path, errors, level)
    _check_lists(schema, kind, path, errors)
    _check_children(schema, path, errors)
    _check_pattern(schema, path, errors)
    _check_default(schema, path, errors)
    check_texts(schema, path, errors)


def _check_embedded(schema: Schema, kind: str, path: str, errors: Errors) -> None:
    if not schema.get(EMBEDDED):
        return
    if kind != "object":
        errors.append(_misplaced(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true"))
    if schema.get("additionalProperties") is not None:
        errors.append(forbidden_field(f"{path}.additionalProperties", "must not be used if x-kubernetes-embedded-resource is set"))
    if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        errors.append(required(f"{path}.properties", detail))


def _misplaced(path: str, kind: str, detail: str) -> FieldError:
    """A type that something else asks to be another one."""
    return invalid_value(path, kind, detail) if kind else required(path, detail)


def _check_identity(schema: Schema, path: str, errors: Errors, level: str) -> None:
    """What every object has is what it is, whatever its schema says."""
    if level != ROOT and not schema.get(EMBEDDED):
        return
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            errors.append(invalid_value(f"{path}.properties[{name}].type", properties[name].get("type", ""), "must be string"))
    for name in ("apiVersion", "kind", "metadata"):
        if name in properties and level == ROOT:
            _forbid_defaults(properties[name], f"{path}.properties[{name}]", f"in top-level {name}", errors)
    meta = properties.get("metadata")
    if meta is None:
        return
    here = f"{path}.properties[metadata]"
    if meta.get("type") != "object":
        errors.append(invalid_value(f"{here}.type", meta.get("type", ""), "must be object"))
    if level != ROOT:
        return
    said = {field for field, value in meta.items() if field not in ("type", "properties", "default") and value}
    if said or not (meta.get("properties") or {}).keys() <= {"name", "generateName"}:
        detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        errors.append(forbidden_field(here, detail))


def _forbid_defaults(schema: Schema, path: str, where: str, errors: Errors) -> None:
    if schema.get("default") is not None:
        errors.append(forbidden_field(f"{path}.default", f"must not be set {where}"))
    for name, child in (schema.get("properties") or {}).items():
        _forbid_defaults(child, f"{path}.properties[{name}]", where, errors)


def _check_lists(schema: Schema, kind: str, path: str, errors: Errors) -> None:
    list_type, keys, map_type = (schema.get(f"x-kubernetes-{f}") for f in ("list-type", "list-map-keys", "map-type"))
    if list_type is not None:
        if kind != "array":
            errors.append(_misplaced(f"{path}.type", kind, "must be array if x-kubernetes-list-type is specified"))
        elif list_type == "set":
            _check_set(schema, path, errors)
        if list_type not in LIST_TYPES:
            errors.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, LIST_TYPES))
    if keys and list_type != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(_misplaced(f"{path}.x-kubernetes-list-type", list_type or "", detail))
    if list_type == "map" and not keys:
        errors.append(required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"))
    if list_type == "map" and keys:
        _check_map_keys(schema, keys, path, errors)
    if map_type is not None:
        if kind != "object":
            errors.append(_misplaced(f"{path}.type", kind, "must be object if x-kubernetes-map-type is specified"))
        if map_type not in MAP_TYPES:
            errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, MAP_TYPES))


def _check_set(schema: Schema, path: str, errors: Errors) -> None:
    """The items of a set are compared as a whole, and so must be merged as a whole."""
    items = schema.get("items")
    if not isinstance(items, dict):
        return
    detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
    inner, kind = items.get("x-kubernetes-list-type"), items.get("type")
    if kind == "array" and inner not in (None, "atomic"):
        errors.append(invalid_value(f"{path}.items.x-kubernetes-list-type", inner, detail))
    if kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
        errors.append(invalid_value(f"{path}.items.x-kubernetes-map-type", inner, detail))
    if items.get("nullable"):
        errors.append(forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set"))


def _check_map_keys(schema: Schema, keys: list[str], path: str, errors: Errors) -> None:
    """Keys of a list that is a map are scalars that every item has."""
    items = schema.get("items")
    if not isinstance(items, dict):
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
        return
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid_value(f"{path}.items.type", items.get("type", ""), detail))
    if items.get("nullable"):
        errors.append(forbidden_field(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is map"))
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
        _check_level(child, f"{path}.properties[{name}]", errors, FIELD)
    if isinstance(additional, dict):
        _check_level(additional, f"{path}.additionalProperties", errors, FIELD)
    if isinstance(items, dict):
        _check_level(items, f"{path}.items", errors, ITEM)
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

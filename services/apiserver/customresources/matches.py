"""How closely a value comes to a schema: by this kube-openapi chooses whose complaints are told when no schema of an anyOf or oneOf fits.

Every check that is made counts, and those of types, numbers, lists and junctors once more when they come to an end. Imitates the
MatchCount of kube-openapi/pkg/validation/validate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubecosm.api.schema.structural import INT_OR_STRING

from .formats import is_known

Schema = Mapping[str, Any]
Fits = Callable[[Schema, Any], bool]
"""Whether there is no complaint about a value."""


def type_name(value: Any) -> str:
    """The JSON type of a value, whole numbers being integers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "number"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return "integer"
    return {float: "number", str: "string", dict: "object", list: "array"}[type(value)]


def expected_type(schema: Schema) -> str:
    """The type or types of a schema, as complaints name them; empty if any will do."""
    return "integer,string" if schema.get(INT_OR_STRING) else str(schema.get("type", ""))


def is_of_type(schema: Schema, value: Any) -> bool:
    expected, actual = expected_type(schema).split(","), type_name(value)
    return expected == [""] or actual in expected or (actual == "integer" and "number" in expected)


def match_count(schema: Schema, value: Any, fits: Fits) -> int:
    """What a value has in common with a schema."""
    count = int((value is None and bool(schema.get("nullable"))) or is_of_type(schema, value))
    if value is None:
        return count
    checks = 2 + (1 if expected_type(schema) or schema.get("format") else 0)  # of enums and junctors always
    count = (count if checks == 3 else 0) + checks + 1 + _junctors(schema, value, fits)
    if isinstance(value, str):
        kind, form = schema.get("type", ""), schema.get("format", "")
        return count + 1 + bool(form and is_known(kind, form))
    if isinstance(value, dict):
        return count + 1 + _members(schema, value, fits)
    if isinstance(value, list):
        items = schema.get("items")
        return count + 2 + (sum(match_count(items, item, fits) for item in value) if isinstance(items, dict) else 0)
    return count if isinstance(value, bool) else count + 2


def closest(schemas: Iterable[Schema], value: Any, fits: Fits) -> int:
    """The index of the schema that a value that fits none comes closest to, the first of equals."""
    counts = [match_count(schema, value, fits) for schema in schemas]
    return counts.index(max(counts))


def _members(schema: Schema, value: Mapping[str, Any], fits: Fits) -> int:
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if (most is not None and len(value) > most) or (least is not None and len(value) < least):
        return 0
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    known = ((properties.get(name, additional), item) for name, item in value.items())
    return sum(match_count(child, item, fits) for child, item in known if isinstance(child, dict))


def _junctors(schema: Schema, value: Any, fits: Fits) -> int:
    count = 1 + sum(match_count(part, value, fits) for part in schema.get("allOf") or ())
    for name in ("anyOf", "oneOf"):
        parts = schema.get(name) or ()
        fitting = [part for part in parts if fits(part, value)]
        if not fitting and parts:
            count += max(match_count(part, value, fits) for part in parts)
        elif len(fitting) == 1 or (fitting and name == "anyOf"):
            count += match_count(fitting[0], value, fits)
    return count

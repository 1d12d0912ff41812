"""Validation of the CEL rules inside a CustomResourceDefinition: their texts, and that they compile.

Imitates ValidateCustomResourceDefinitionOpenAPISchema. What rules may cost is estimated in `rulecosts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecosm.api.field import internal, invalid_value, not_supported, required
from kubecosm.api.schema.structural import EMBEDDED

from ...customresources.strategy import mentions_rules
from ..formats import Errors

if TYPE_CHECKING:
    from .rulecosts import Budget

Schema = Mapping[str, Any]
RULES = "x-kubernetes-validations"
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


def check_texts(schema: Schema, path: str, errors: Errors) -> None:
    """The rules of one level, as they are written."""
    for i, rule in enumerate(schema.get(RULES) or ()):
        here = f"{path}.{RULES}[{i}]"
        text, message = rule.get("rule") or "", rule.get("message") or ""
        if not text.strip():
            errors.append(required(f"{here}.rule", "rule is not specified"))
        elif message and not message.strip():
            errors.append(invalid_value(f"{here}.message", message, "message must be non-empty if specified"))
        elif "\n" in message.strip():
            errors.append(invalid_value(f"{here}.message", message, "message must not contain line breaks"))
        elif "\n" in text.strip() and not message.strip():
            errors.append(required(f"{here}.message", "message must be specified if rule contains line breaks"))
        if rule.get("messageExpression") and not rule["messageExpression"].strip():
            errors.append(required(f"{here}.messageExpression", "messageExpression must be non-empty if specified"))
        if rule.get("reason") is not None and rule["reason"] not in REASONS:
            errors.append(not_supported(f"{here}.reason", rule["reason"], REASONS))
        if rule.get("fieldPath"):
            _check_field_path(rule["fieldPath"], schema, f"{here}.fieldPath", errors)


def _check_field_path(field: str, schema: Schema, path: str, errors: Errors) -> None:
    if not field.strip():
        errors.append(invalid_value(path, field, "fieldPath must be non-empty if specified"))
    elif "\n" in field:
        errors.append(invalid_value(path, field, "fieldPath must not contain line breaks"))
    elif followed(field, schema)[1]:
        errors.append(invalid_value(path, field, "fieldPath must be a valid path"))


def followed(field: str, schema: Schema) -> tuple[Schema, str]:
    """Where a path of names (`.a.b`, `['c']`) leads in a schema, and why it does not; the reason is empty if it does."""
    rest, at = field, schema
    while rest:
        if rest.startswith("['"):
            name, closed, rest = rest[2:].partition("']")
            if not closed:
                return at, "unexpected end of JSON path"
        elif rest.startswith("["):
            inner = rest[1:].partition("]")[0]
            return at, f"expected single quoted string but got {inner}" if inner else "unexpected end of JSON path"
        elif rest.startswith("."):
            name = rest[1:].partition(".")[0].partition("[")[0]
            rest = rest[1 + len(name) :]
            if not name:
                return at, "unexpected end of JSON path"
        else:
            return at, f"expected [ or . but got: {rest.partition('.')[0].partition('[')[0]}"
        properties, additional = at.get("properties"), at.get("additionalProperties")
        if properties is not None and name in properties:
            at = properties[name]
        elif properties is None and isinstance(additional, dict):
            at = additional
        else:
            return at, "does not refer to a valid field"
    return at, ""


def check_programs(schema: Schema, path: str, errors: Errors, *, is_stored: bool = False) -> None:
    """All rules of a schema that is sound otherwise: they must compile and not cost too much. CEL is loaded only if there are any.

    `is_stored`: the definition has had this very schema before, so no single rule is refused for its cost.
    """
    if not mentions_rules(schema):
        return
    from .rulecosts import Budget

    budget = Budget(path, errors, is_stored=is_stored)
    _visit(schema, path, budget, Place(is_root=True))
    budget.settle()


@dataclass(frozen=True)
class Place:
    """Where in a schema something stands."""

    is_root: bool = False
    uncorrelatable: str = ""
    """The path of the list or map above whose old and new parts cannot be told to be the same."""
    times: int | None = 1
    """How often it may be there, by the bounds of the lists and maps around it; None if one of them has none."""


def _visit(schema: Schema, path: str, budget: Budget, place: Place) -> None:
    for kind, limit in (("additionalProperties", "maxProperties"), ("items", "maxItems")):
        child = schema.get(kind)
        if isinstance(child, dict):
            lost = kind == "items" and schema.get("x-kubernetes-list-type") != "map"
            its = place.uncorrelatable or (path if lost else "")
            most = schema.get(limit)
            times = place.times * max(most, 0) if place.times is not None and most is not None else None
            _visit(child, f"{path}.{kind}", budget, Place(bool(child.get(EMBEDDED)), its, times))
    lost = schema.get("x-kubernetes-map-type") == "atomic"
    for name, child in (schema.get("properties") or {}).items():
        its = place.uncorrelatable or (path if lost else "")
        _visit(child, f"{path}.properties[{name}]", budget, Place(bool(child.get(EMBEDDED)), its, place.times))
    if schema.get(RULES):
        _check_level(schema, path, budget, place)


def _check_level(schema: Schema, path: str, budget: Budget, place: Place) -> None:
    from ...customresources.celschema import declared_type  # who has no rules does not pay for CEL
    from ...customresources.rules import compile_rule

    errors = budget.errors
    typed = declared_type(schema, "selfType", is_root=place.is_root)
    if typed is None:
        detail = "internal error: failed to retrieve type information for x-kubernetes-validations"
        errors.append(internal(f"{path}.{RULES}", detail))
        return
    for i, spec in enumerate(schema[RULES]):
        here, rule = f"{path}.{RULES}[{i}]", compile_rule(spec, typed)
        if rule.program is not None:
            budget.rule(f"{here}.rule", rule.program, typed, place.times)
        if rule.problem:
            errors.append(invalid_value(f"{here}.rule", _shown(spec), rule.problem))
        if rule.message_problem:
            errors.append(invalid_value(f"{here}.messageExpression", _shown(spec), rule.message_problem))
        elif rule.message is not None:
            budget.message(f"{here}.messageExpression", rule.message, typed)
        if rule.uses_old and place.uncorrelatable:
            detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelatable}"
            errors.append(invalid_value(f"{here}.rule", spec["rule"], detail))
        elif spec.get("optionalOldSelf") is not None and rule.program is not None and not rule.uses_old:
            detail = "may not be set if oldSelf is not used in rule"
            errors.append(invalid_value(f"{here}.optionalOldSelf", spec["optionalOldSelf"], detail))


def _shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as the message shows it: the unversioned type, all fields in the order of their declaration."""
    return {
        "Rule": spec.get("rule", ""), "Message": spec.get("message", ""), "MessageExpression": spec.get("messageExpression", ""),
        "Reason": spec.get("reason"), "FieldPath": spec.get("fieldPath", ""), "OptionalOldSelf": spec.get("optionalOldSelf"),
    }  # fmt: skip

"""What kube-scheduler objects to in the terms of NodeAffinity's addedAffinity (component-helpers' nodeaffinity)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubecosm.api.field import FieldError, invalid_value, not_supported
from kubecosm.api.selectors import EXISTS, GREATER, IN, LESS, NOT_EXISTS, NOT_IN, requirement_errors

LABEL_OPERATORS = {"DoesNotExist": NOT_EXISTS, "Exists": EXISTS, "Gt": GREATER, "In": IN, "Lt": LESS, "NotIn": NOT_IN}
FIELD_OPERATORS = ("In", "NotIn")


def term_errors(term: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    """All that cannot be understood in a term: labels first, then fields."""
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        yield from _label_errors(expression, f"{path}.matchExpressions[{index}]")
    for index, expression in enumerate(term.get("matchFields") or ()):
        yield from _field_errors(expression, f"{path}.matchFields[{index}]")


def _label_errors(expression: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    operator = expression.get("operator") or ""
    known = LABEL_OPERATORS.get(operator)
    if known is None:
        yield not_supported(f"{path}.operator", operator, LABEL_OPERATORS)
        return
    yield from requirement_errors(expression.get("key") or "", known, sorted(set(expression.get("values") or ())), path)


def _field_errors(expression: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator not in FIELD_OPERATORS:
        yield not_supported(f"{path}.operator", operator, FIELD_OPERATORS)
    elif len(values) != 1:
        yield invalid_value(f"{path}.values", values, "must have one element")

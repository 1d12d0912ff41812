"""Label selectors: requirements on labels, out of queries, LabelSelector objects and plain maps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from kubecosm.api import validation
from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.selectors.matching import Labels, Match, SelectorError, all_of

IN, NOT_IN, EXISTS, NOT_EXISTS = "in", "notin", "exists", "!"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "gt", "lt"
BINARY_OPERATORS = "in, notin, =, ==, !=, gt, lt"


class Requirement(NamedTuple):
    """One clause; values are sorted and without repeats."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == NOT_EXISTS:
            return f"!{self.key}"
        joined = ",".join(self.values)
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({joined})"
        return f"{self.key}{ {GREATER: '>', LESS: '<'}.get(self.operator, self.operator) }{joined}"

    def compiled(self) -> Match:
        """A test of this clause alone."""
        key, values = self.key, self.values
        if self.operator in (IN, EQUALS, DOUBLE_EQUALS):
            if len(values) == 1:
                value = values[0]
                return lambda labels: labels.get(key) == value
            accepted = frozenset(values)
            return lambda labels: labels.get(key) in accepted
        if self.operator in (NOT_IN, NOT_EQUALS):
            refused = frozenset(values)
            return lambda labels: labels.get(key) not in refused
        if self.operator == EXISTS:
            return lambda labels: key in labels
        if self.operator == NOT_EXISTS:
            return lambda labels: key not in labels
        return _compare(key, int(values[0]), greater=self.operator == GREATER)


@dataclass(frozen=True)
class LabelSelector:
    """All requirements must hold. Without any it matches everything; `nothing` matches nothing at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @cached_property
    def matches(self) -> Match:
        """The compiled test: `selector.matches(labels)`."""
        if self.nothing:
            return lambda labels: False
        return all_of([requirement.compiled() for requirement in self.requirements])

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.nothing

    def exact_value(self, key: str) -> str | None:
        """The single value that label `key` must have, if the selector demands one."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in (EQUALS, DOUBLE_EQUALS, IN) and len(requirement.values) == 1:
                return requirement.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


_MATCH_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS}


def from_label_selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A LabelSelector object (matchLabels, matchExpressions): none selects nothing, an empty one everything.

    SelectorError if an expression is invalid (metav1.LabelSelectorAsSelector).
    """
    if selector is None:
        return NOTHING
    requirements = [new_requirement(key, EQUALS, [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = _MATCH_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f"{quote(expression.get('operator', ''))} is not a valid label selector operator")
        requirements.append(new_requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def from_labels(labels: Labels | None) -> LabelSelector:
    """A selector that demands exactly these labels, as in a Service's spec.selector; none or empty selects everything."""
    return LabelSelector(tuple(Requirement(key, EQUALS, (labels[key],)) for key in sorted(labels or ()))) if labels else EVERYTHING


def new_requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    """A checked clause; SelectorError with the words of labels.NewRequirement."""
    chosen = tuple(sorted(set(values)))
    errors = [str(error) for error in requirement_errors(key, operator, chosen)]
    if errors:
        raise SelectorError(errors[0] if len(errors) == 1 else f"[{', '.join(dict.fromkeys(errors))}]")
    return Requirement(key, operator, chosen)


def requirement_errors(key: str, operator: str, values: Sequence[str], path: str = "") -> Iterator[FieldError]:
    """What is wrong with a clause of sorted values that stands at `path`."""
    at = f"{path}.values" if path else "values"
    if found := validation.qualified_name(key):
        yield invalid_value(f"{path}.key" if path else "key", key, "; ".join(found))
    if operator in (IN, NOT_IN) and not values:
        yield invalid_value(at, values, "for 'in', 'notin' operators, values set can't be empty")
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS) and len(values) != 1:
        yield invalid_value(at, values, "exact-match compatibility requires one single value")
    elif operator in (EXISTS, NOT_EXISTS) and values:
        yield invalid_value(at, values, "values set must be empty for exists and does not exist")
    elif operator in (GREATER, LESS):
        yield from _integer_errors(values, at)
    for index, value in enumerate(values):
        if found := validation.label_value(value):
            yield invalid_value(f"{at}[{index}][{key}]", value, "; ".join(found))


def _integer_errors(values: Sequence[str], path: str) -> Iterator[FieldError]:
    if len(values) != 1:
        yield invalid_value(path, values, "for 'Gt', 'Lt' operators, exactly one value is required")
    for index, value in enumerate(values):
        if _int64(value) is None:
            yield invalid_value(f"{path}[{index}]", value, "for 'Gt', 'Lt' operators, the value must be an integer")


def _compare(key: str, bound: int, *, greater: bool) -> Match:
    def test(labels: Labels) -> bool:
        number = _int64(labels.get(key, ""))
        return number is not None and (number > bound if greater else number < bound)

    return test


def _int64(text: str) -> int | None:
    """strconv.ParseInt(text, 10, 64)."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text, re.ASCII):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def quote(text: str) -> str:
    """Go's %q for ordinary text."""
    return orjson.dumps(text).decode()

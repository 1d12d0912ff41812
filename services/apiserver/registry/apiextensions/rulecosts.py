"""What the CEL rules of a definition may cost: each at most StaticEstimatedCostLimit, all together StaticEstimatedCRDCostLimit.

A rule is run for each value that its schema describes, so its cost counts as often as such a value may be there: by the bounds of the lists
and maps around it, or else as often as the smallest one fits into a request. Imitates apiextensions-apiserver's validation.go and
cel_validation.go.
"""

from __future__ import annotations

from kubecosm.api.field import forbidden_field
from kubecosm.cel.environment import Program
from kubecosm.cel.estimation import estimate
from kubecosm.cel.spans import UNLIMITED
from kubecosm.cel.types import Type

from ...customresources.celschema import REQUEST_BYTES_MAX
from ..formats import Errors

RULE_COST_MAX = 10_000_000
SCHEMA_COST_MAX = 100_000_000
TOLD_MAX = 4
"""So many of the most expensive rules are named when all together cost too much."""


class Budget:
    """The costs of one schema."""

    def __init__(self, path: str, errors: Errors, *, is_stored: bool) -> None:
        self.errors = errors
        self._path, self._is_stored = path, is_stored
        self._total = 0
        self._expensive: list[tuple[int, str]] = []

    def rule(self, path: str, program: Program, typed: Type, times: int | None) -> None:
        """A rule about values of a type that may be there so many times; None: without bound."""
        cost = estimate(program.tree, typed).most
        often = times if times is not None else REQUEST_BYTES_MAX // (typed.least_bytes + 1)
        self._observe(path, min(cost * often, UNLIMITED), "estimated rule cost")

    def message(self, path: str, program: Program, typed: Type) -> None:
        self._observe(path, estimate(program.tree, typed).most, "estimated messageExpression cost")

    def _observe(self, path: str, cost: int, told: str) -> None:
        if cost > RULE_COST_MAX and not self._is_stored:
            self.errors.append(forbidden_field(path, _exceeds(told, cost, RULE_COST_MAX)))
        self._total = min(self._total + cost, UNLIMITED)
        if cost >= SCHEMA_COST_MAX // 100:
            self._expensive.append((cost, path))

    def settle(self) -> None:
        """All rules have been seen: complain if they cost too much together."""
        if self._total <= SCHEMA_COST_MAX:
            return
        named = sorted(self._expensive, key=lambda one: -one[0])[:TOLD_MAX]
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        self.errors.extend(forbidden_field(path, detail) for _, path in named)
        told = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        self.errors.append(forbidden_field(self._path, _exceeds(told, self._total, SCHEMA_COST_MAX)))


def _exceeds(told: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    hint = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared"
    return f"{told} exceeds budget by factor of {shown} ({hint})"

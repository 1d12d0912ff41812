"""Sizes and costs from the least to the most there may be, in 64 bits that do not overflow; and what estimates are made about."""

from __future__ import annotations

import math
from typing import NamedTuple

from .nodes import Node
from .types import Type

UNLIMITED = 2**64 - 1
Path = tuple[str, ...]
"""How a value is reached: a variable, then names of fields, `@items`, `@keys` or `@values`. Empty for what is made."""


class Span(NamedTuple):
    """A size or a cost."""

    least: int
    most: int

    def plus(self, *others: Span) -> Span:
        least, most = self
        for other in others:
            least, most = least + other.least, most + other.most
        return Span(min(least, UNLIMITED), min(most, UNLIMITED))

    def times(self, other: Span) -> Span:
        return Span(min(self.least * other.least, UNLIMITED), min(self.most * other.most, UNLIMITED))

    def scaled(self, factor: float) -> Span:
        """Each end times the factor, rounded up."""
        return Span(_scaled(self.least, factor), _scaled(self.most, factor))

    def union(self, other: Span) -> Span:
        return Span(min(self.least, other.least), max(self.most, other.most))


NOTHING, ONE, UNBOUNDED = Span(0, 0), Span(1, 1), Span(0, UNLIMITED)


def _scaled(value: int, factor: float) -> int:
    return min(math.ceil(float(value) * factor), UNLIMITED)


class Estimated(NamedTuple):
    """The cost of a call, and the size of its result if that can be told."""

    cost: Span
    size: Span | None = None


class Operand(NamedTuple):
    """The target or an argument of a call; `node` is None for the items of a list."""

    path: Path
    type: Type
    node: Node | None
    computed: Span | None

    @property
    def size(self) -> Span:
        return self.computed or UNBOUNDED

    def size_in(self, root: Type) -> Span:
        """The computed size, else the declared one."""
        return self.computed or self.declared_size(root) or UNBOUNDED

    def declared_size(self, root: Type) -> Span | None:
        """The bound of the declared type that the path leads to. The variable it begins with is always the root."""
        if not self.path:
            return None
        at = root
        for name in self.path[1:]:
            below = _below(at, name)
            if below is None:
                return None
            at = below
        return Span(0, at.size_max)

    def items(self) -> Operand | None:
        """The items of a list, if this may be one."""
        if not self.type.params:
            return None
        return Operand((*self.path, "@items") if self.path else (), self.type.params[0], None, None)


def _below(found: Type, name: str) -> Type | None:
    if name == "@items" and found.kind == "list":
        return found.params[0]
    if name in ("@values", "@items") and found.kind == "map":
        return found.params[1]
    if name == "@values" and found.kind == "list":
        return found.params[0]
    if name == "@keys":
        return found.params[0] if found.kind == "map" else None
    return found.fields.get(name) if found.fields is not None else None

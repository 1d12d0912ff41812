"""How many seats each priority level has: its nominal share, and what it lends or borrows. Pure.

Imitates apiserver/pkg/util/flowcontrol (apf_controller.go, conc_alloc.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

TARGET_MIN = 0.001
"""Smaller targets count as this much: proportions need something to go by."""
BISECTIONS = 60
"""Halvings of the interval that the fair proportion lies in: more than a float can tell apart."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seats of a level: by its shares, and the least and the most it can have."""

    nominal: int
    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class Want:
    """What one level asks for in a division of seats; lower <= target, lower <= upper."""

    target: float
    lower: float
    upper: float


def bounds_of(shares: int, shares_total: int, seats_total: int, lendable_percent: int, borrowing_percent: int | None) -> Bounds:
    """A level's seats out of `seats_total`; `borrowing_percent` None: it may borrow whatever there is."""
    nominal = ceil(seats_total * shares / shares_total) if shares_total else 0
    lent = round(nominal * lendable_percent / 100)
    upper = seats_total if borrowing_percent is None else nominal + round(nominal * borrowing_percent / 100)
    return Bounds(nominal, nominal - lent, max(upper, nominal))


def divide(total: float, wants: Sequence[Want]) -> list[float]:
    """Seats for each, adding up to `total` as far as the bounds let them: in proportion to the targets, within the bounds."""
    targets = [max(want.target, TARGET_MIN) for want in wants]

    def seats(proportion: float) -> list[float]:
        return [max(w.lower, min(w.upper, proportion * target)) for w, target in zip(wants, targets, strict=True)]

    if total >= sum(want.upper for want in wants):
        return [want.upper for want in wants]
    if total <= sum(want.lower for want in wants):
        return [want.lower for want in wants]
    low, high = 0.0, max((w.upper if w.upper < inf else total) / target for w, target in zip(wants, targets, strict=True))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if sum(seats(middle)) < total:
            low = middle
        else:
            high = middle
    return seats(high)


@dataclass(frozen=True, slots=True)
class Used:
    """What a level did in the period that ends: the most seats it could have used at once, and its smoothed demand."""

    bounds: Bounds
    highest: int
    smoothed: float

    @property
    def least(self) -> float:
        """Nobody borrows what its owner has just used, up to what is its own."""
        return max(self.bounds.lower, min(self.bounds.nominal, self.highest))

    @property
    def target(self) -> float:
        return max(self.smoothed, float(self.highest > 0), self.least)


def lend(used: Sequence[Used]) -> list[float]:
    """The seats of each level in the next period (updateBorrowingLocked)."""
    if all(one.target <= one.bounds.lower for one in used):
        return [float(one.bounds.nominal) for one in used]  # nobody wants anything: all as configured
    return divide(sum(one.bounds.nominal for one in used), [Want(one.target, one.least, one.bounds.upper) for one in used])

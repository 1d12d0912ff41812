"""How much of a device's capacity a request takes, where several claims may share a device (KEP 5075, consumable capacity)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object

Amounts = Mapping[str, Quantity]
ZERO = Quantity(0)


@dataclass(frozen=True)
class Policy:
    """What may be asked of a capacity (CapacityRequestPolicy): one of `values`, or a step of a range, or anything."""

    default: Quantity | None = None
    values: tuple[Quantity, ...] = ()
    least: Quantity | None = None
    most: Quantity | None = None
    step: Quantity | None = None

    def granted(self, asked: Quantity) -> Quantity | None:
        """What is taken for what is asked, rounded up; None if so much may not be asked."""
        if self.values:
            return next((value for value in self.values if value >= asked), None)
        if self.least is None:
            return asked
        given = max(asked, self.least)
        if self.step is not None and self.step:
            steps = -(-(given.nanos - self.least.nanos) // self.step.nanos)
            given = self.least + self.step * steps
        return None if self.most is not None and given > self.most else given


@dataclass(frozen=True)
class Capacity:
    value: Quantity
    policy: Policy | None = None

    def taken(self, asked: Quantity | None) -> Quantity | None:
        """For a request that asks for nothing: what the policy says, else all."""
        if asked is None:
            return self.value if self.policy is None or self.policy.default is None else self.policy.default
        return asked if self.policy is None else self.policy.granted(asked)


def capacity_of(raw: Object) -> Capacity:
    """A DeviceCapacity."""
    policy = raw.get("requestPolicy")
    return Capacity(quantity(raw.get("value")) or ZERO, _policy(policy) if policy else None)


def _policy(raw: Object) -> Policy:
    limits = raw.get("validRange") or {}
    values = sorted(value for one in raw.get("validValues") or () if (value := quantity(one)) is not None)
    return Policy(
        quantity(raw.get("default")), tuple(values), quantity(limits.get("min")), quantity(limits.get("max")), quantity(limits.get("step"))
    )


def quantity(raw: str | int | float | None) -> Quantity | None:
    """None for nothing, and for what is no quantity."""
    try:
        return None if raw is None else Quantity.of(raw)
    except QuantityError:
        return None


def consumption(asked: Amounts, capacities: Mapping[str, Capacity]) -> Amounts | None:
    """What a request takes of every capacity; None if it asks for one the device has not, or for more than it gives."""
    if any(name not in capacities for name in asked):
        return None
    taken: dict[str, Quantity] = {}
    for name, capacity in capacities.items():
        amount = capacity.taken(asked.get(name))
        if amount is None or amount > capacity.value:
            return None
        taken[name] = amount
    return taken


def added(some: Amounts, more: Amounts) -> dict[str, Quantity]:
    return {name: some.get(name, ZERO) + more.get(name, ZERO) for name in (*some, *(name for name in more if name not in some))}

"""Whether a node has room for a pod that was bound to it: the kubelet's last word when schedulers disagree (lifecycle/predicate.go).

Looks at cpu, memory, ephemeral storage and the number of pods. Leaves out: node affinity, ports and extended resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kubecosm.api import podresources
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

RESOURCES = ("cpu", "memory", "ephemeral-storage")
Amounts = dict[str, int]
"""In nanos of each resource."""


def amounts(quantities: Mapping[str, object] | None) -> Amounts:
    return {name: Quantity.of(str(value)).nanos for name, value in (quantities or {}).items() if name in RESOURCES}


def pod_requests(pod: Object) -> Amounts:
    """What the pod needs at most at once."""
    return {name: quantity.nanos for name, quantity in podresources.pod_requests(pod).items() if name in RESOURCES}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {*one, *other}} if one and other else dict(one or other)


class Refused(NamedTuple):
    """Why a pod is not let in, as its event and its status tell."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod does not get more: `may_come` says whether it could once others leave."""

    may_come: bool
    message: str


@dataclass(slots=True)
class NodeBudget:
    """What the pods of one node have taken of it."""

    allocatable: Amounts
    pods_max: int
    _taken: dict[str, Amounts] = field(default_factory=dict)
    _used: Amounts = field(default_factory=dict)

    def take(self, pod: Object, *, force: bool = False) -> Refused | None:
        """Make room for a pod; why not if there is none. `force` is for pods that run already."""
        wanted = pod_requests(pod)
        verdict = None if force else self._refusal(wanted)
        if verdict is None:
            self._taken[pod["metadata"]["uid"]] = wanted
            self._used = _sum(self._used, wanted)
        return verdict

    def resize(self, pod: Object) -> Refusal | None:
        """Give a pod that runs here what it asks for now; why not, if there is no room. Then it keeps what it has."""
        uid, wanted = pod["metadata"]["uid"], pod_requests({**pod, "status": {}})  # what is wanted, whatever is in effect
        held = self._taken.get(uid, {})
        for name in RESOURCES:
            amount, capacity = wanted.get(name, 0), self.allocatable.get(name, 0)
            used = self._used.get(name, 0) - held.get(name, 0)
            if amount <= held.get(name, 0):
                continue
            if amount > capacity:
                return Refusal(
                    False,
                    f"Node didn't have enough capacity: {name}, requested: {_shown(name, amount)}, capacity: {_shown(name, capacity)}",
                )
            if used + amount > capacity:
                return Refusal(True, _shortage(name, amount, used, capacity))
        self.release(uid)
        self._taken[uid] = wanted
        self._used = _sum(self._used, wanted)
        return None

    def release(self, uid: str) -> None:
        """The pod has ended. Idempotent."""
        for name, amount in self._taken.pop(uid, {}).items():
            self._used[name] -= amount

    def _refusal(self, wanted: Amounts) -> Refused | None:
        if len(self._taken) >= self.pods_max:
            counts = f"pods, requested: 1, used: {len(self._taken)}, capacity: {self.pods_max}"
            return _out_of("pods", f"Node didn't have enough resource: {counts}")
        for name in RESOURCES:
            used, capacity = self._used.get(name, 0), self.allocatable.get(name, 0)
            if wanted.get(name, 0) and used + wanted[name] > capacity:
                return _out_of(name, _shortage(name, wanted[name], used, capacity))
        return None


def _shown(resource: str, amount: int) -> int:
    """Millicores, or whole units."""
    return amount // (10**6 if resource == "cpu" else 10**9)


def _shortage(resource: str, requested: int, used: int, capacity: int) -> str:
    shown = (_shown(resource, amount) for amount in (requested, used, capacity))
    return "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}".format(resource, *shown)


def _out_of(resource: str, detail: str) -> Refused:
    return Refused(f"OutOf{resource}", detail)

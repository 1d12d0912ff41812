"""Whether a node has room for a pod that was bound to it: the kubelet's last word when schedulers disagree (lifecycle/predicate.go).

Looks at resources (extended ones too, if the node has them), host ports and the number of pods. Leaves out: node affinity and taints,
since this process does not follow Node objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kubecosm.api import podresources
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from .spec import is_sidecar

ANY_ADDRESS = "0.0.0.0"
NO_FREE_PORTS = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
HostPort = tuple[str, str, int]
"""Address, protocol, number."""
Amounts = dict[str, int]
"""In nanos of each resource."""


def amounts(quantities: Mapping[str, object] | None) -> Amounts:
    return {name: Quantity.of(str(value)).nanos for name, value in (quantities or {}).items()}


def pod_requests(pod: Object) -> Amounts:
    """What the pod needs at most at once."""
    return {name: quantity.nanos for name, quantity in podresources.pod_requests(pod).items()}


def host_ports(pod: Object) -> frozenset[HostPort]:
    """The ports of the node that the pod's containers want for themselves."""
    spec = pod["spec"]
    containers = [*(spec.get("containers") or ()), *(one for one in spec.get("initContainers") or () if is_sidecar(one))]
    wanted = [port for one in containers for port in one.get("ports") or () if port.get("hostPort")]
    return frozenset((port.get("hostIP") or ANY_ADDRESS, port.get("protocol", "TCP"), port["hostPort"]) for port in wanted)


def conflicts(one: HostPort, other: HostPort) -> bool:
    """The same port of the same address; all addresses include each."""
    return one[1:] == other[1:] and (one[0] == other[0] or ANY_ADDRESS in (one[0], other[0]))


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
    _ports: dict[str, frozenset[HostPort]] = field(default_factory=dict)
    _used: Amounts = field(default_factory=dict)

    def take(self, pod: Object, *, force: bool = False) -> Refused | None:
        """Make room for a pod; why not if there is none. `force` is for pods that run already."""
        wanted, ports = pod_requests(pod), host_ports(pod)
        verdict = None if force else self._refusal(wanted) or self._port_refusal(ports)
        if verdict is None:
            if ports:
                self._ports[pod["metadata"]["uid"]] = ports
            self._taken[pod["metadata"]["uid"]] = wanted
            self._used = _sum(self._used, wanted)
        return verdict

    def resize(self, pod: Object) -> Refusal | None:
        """Give a pod that runs here what it asks for now; why not, if there is no room. Then it keeps what it has."""
        uid, wanted = pod["metadata"]["uid"], pod_requests({**pod, "status": {}})  # what is wanted, whatever is in effect
        held = self._taken.get(uid, {})
        for name, capacity in self.allocatable.items():
            amount = wanted.get(name, 0)
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
        self._give_back(uid)
        self._taken[uid] = wanted
        self._used = _sum(self._used, wanted)
        return None

    def release(self, uid: str) -> None:
        """The pod has ended. Idempotent."""
        self._ports.pop(uid, None)
        self._give_back(uid)

    def _give_back(self, uid: str) -> None:
        for name, amount in self._taken.pop(uid, {}).items():
            self._used[name] -= amount

    def _port_refusal(self, ports: frozenset[HostPort]) -> Refused | None:
        """Somebody else has one of these ports."""
        if any(conflicts(mine, theirs) for mine in ports for taken in self._ports.values() for theirs in taken):
            return Refused("NodePorts", NO_FREE_PORTS)
        return None

    def _refusal(self, wanted: Amounts) -> Refused | None:
        if len(self._taken) >= self.pods_max:
            counts = f"pods, requested: 1, used: {len(self._taken)}, capacity: {self.pods_max}"
            return _out_of("pods", f"Node didn't have enough resource: {counts}")
        for name, capacity in self.allocatable.items():
            used = self._used.get(name, 0)
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

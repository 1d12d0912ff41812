"""Whether a pod would fit on a node, without asking the scheduler: resources, node selectors and affinity, taints, ports.

Pure. Imitates what cluster-autoscaler has from the scheduler's framework. What other nodes' pods have to do with it stands in world.py,
what volumes have to do with it in volumes.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubecosm.api.podresources import pod_requests
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from ...common.nodes import NO_EXECUTE, NO_SCHEDULE, matches_node, matches_terms, taints_of, untolerated
from .volumes import NO_VOLUMES, VolumeNeeds

EFFECTS = (NO_SCHEDULE, NO_EXECUTE)
UNSCHEDULABLE, AFFINITY = "node(s) were unschedulable", "node(s) didn't match Pod's node affinity/selector"
TAINTED, PORTS = "node(s) had untolerated taint(s)", "node(s) didn't have free ports for the requested pod ports"
ANTI_AFFINITY, FULL = "node(s) didn't match pod anti-affinity rules", "Too many pods"
PODS = "pods"


@dataclass(frozen=True)
class Ask:
    """A pod that looks for a place, with what it requests in nanos."""

    pod: Object
    requests: dict[str, int]
    ports: frozenset[tuple[int, str]]
    volumes: VolumeNeeds = NO_VOLUMES

    @property
    def size(self) -> tuple[int, int]:
        return self.requests.get("cpu", 0), self.requests.get("memory", 0)


@dataclass
class Room:
    """A node, or one that might be made, and what is left of it."""

    node: Object
    free: dict[str, int]
    capacity: dict[str, int]
    pods: list[Object] = field(default_factory=list)
    ports: set[tuple[int, str]] = field(default_factory=set)

    def take(self, ask: Ask) -> None:
        for name, amount in ask.requests.items():
            self.free[name] = self.free.get(name, 0) - amount
        self.free[PODS] = self.free.get(PODS, 0) - Quantity.from_value(1).nanos
        self.pods.append(ask.pod)
        self.ports |= ask.ports

    def utilization(self) -> float:
        """The larger share of CPU and memory that is requested."""
        return max(self.share("cpu"), self.share("memory"))

    def share(self, name: str) -> float:
        """How much of a resource is requested: 0 to 1."""
        whole = self.capacity.get(name, 0)
        return (whole - self.free.get(name, 0)) / whole if whole else 0.0


def ask_of(pod: Object, volumes: VolumeNeeds = NO_VOLUMES) -> Ask:
    requests = {name: quantity.nanos for name, quantity in pod_requests(pod).items() if quantity.nanos}
    ports = {
        (port["hostPort"], port.get("protocol") or "TCP")
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }
    return Ask(pod, requests, frozenset(ports), volumes)


def room_of(node: Object, pods: Iterable[Object] = ()) -> Room:
    """A node with these pods on it. One that has not told what it offers offers its capacity."""
    status = node.get("status") or {}
    offered = status.get("allocatable") or status.get("capacity") or {}
    capacity = {name: Quantity.of(value).nanos for name, value in offered.items()}
    room = Room(node, dict(capacity), capacity)
    for pod in pods:
        room.take(ask_of(pod))
    return room


def why_not(ask: Ask, room: Room) -> str | None:
    """Why the pod does not fit, in the scheduler's words; None if it does."""
    spec, node = ask.pod["spec"], room.node
    if (node.get("spec") or {}).get("unschedulable"):
        return UNSCHEDULABLE
    if not matches_node(spec, node):
        return AFFINITY
    if untolerated(taints_of(node), spec.get("tolerations") or (), EFFECTS) is not None:
        return TAINTED
    if room.free.get(PODS, 0) < Quantity.from_value(1).nanos:
        return FULL
    for name, amount in ask.requests.items():
        if amount > room.free.get(name, 0):
            return f"Insufficient {name}"
    if ask.ports & room.ports:
        return PORTS
    return _why_out_of_reach(ask.volumes, node)


def _why_out_of_reach(volumes: VolumeNeeds, node: Object) -> str | None:
    if volumes.refusal:
        return volumes.refusal
    return next((reach.reason for reach in volumes.reaches if not matches_terms(reach.terms, node)), None)


def largest_first(asks: Iterable[Ask]) -> list[Ask]:
    """The order in which first fit packs best; equal ones by name, so that the plan is always the same."""
    return sorted(asks, key=lambda ask: (*(-amount for amount in ask.size), ask.pod["metadata"]["namespace"], ask.pod["metadata"]["name"]))

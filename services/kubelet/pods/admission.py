"""Whether a node takes a pod that was bound to it: the kubelet's last word when schedulers disagree.

Looks at the operating system, resources (extended ones too, if the node has them), the number of pods, node affinity, host ports, taints
that end pods, and sysctls (lifecycle/predicate.go, sysctl/allowlist.go). Leaves out: making room for critical pods, AppArmor, topology and
device managers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kubecosm.api import podresources
from kubecosm.api.meta import labels_of
from kubecosm.api.names import LABEL_OS
from kubecosm.api.placement import NO_EXECUTE, matches_node, taints_of, untolerated
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from .spec import is_sidecar

ANY_ADDRESS = "0.0.0.0"
NODE_OS = "linux"
NODE_AFFINITY = "NodeAffinity"
SAFE_SYSCTLS = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
))  # fmt: skip
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


def _predicate(name: str, reason: str) -> Refused:
    return Refused(name, f"Predicate {name} failed: {reason}")


def refusal_of(pod: Object, node: Object | None, budget: NodeBudget) -> Refused | None:
    """Why the node does not take a new pod; None if it does. `node` has labels and taints; what is not known of it speaks for the pod."""
    spec = pod["spec"]
    if labels_of(pod).get(LABEL_OS, NODE_OS) != NODE_OS:
        return Refused("PodOSSelectorNodeLabelDoesNotMatch", f"Failed to admit pod as the `{LABEL_OS}` label doesn't match node label")
    if (spec.get("os") or {}).get("name", NODE_OS) != NODE_OS:
        return Refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if refused := budget.resource_refusal(pod):
        return refused
    if node is not None and not matches_node(spec, node):
        return _predicate(NODE_AFFINITY, "node(s) didn't match Pod's node affinity/selector")
    if refused := budget.port_refusal(pod):
        return refused
    if node is not None and untolerated(taints_of(node), spec.get("tolerations") or (), (NO_EXECUTE,)) is not None:
        return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return _sysctl_refusal(spec)


def _sysctl_refusal(spec: Object) -> Refused | None:
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = sysctl["name"].replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return Refused("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')
    return None


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
    _asked: tuple[str, Amounts] = field(default=("", {}))
    """What the pod (uid) wants that was looked at last: most are let in next."""

    def take(self, pod: Object) -> None:
        """The pod runs here: its room is gone."""
        uid, ports = pod["metadata"]["uid"], host_ports(pod)
        if ports:
            self._ports[uid] = ports
        self._give_back(uid)
        self._taken[uid] = wanted = self._asked[1] if self._asked[0] == uid else pod_requests(pod)
        self._used = _sum(self._used, wanted)

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

    def port_refusal(self, pod: Object) -> Refused | None:
        """Somebody else has one of the ports of the node that the pod wants."""
        if self._ports and any(conflicts(mine, theirs) for mine in host_ports(pod) for taken in self._ports.values() for theirs in taken):
            return _predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
        return None

    def resource_refusal(self, pod: Object) -> Refused | None:
        """The node is full, or has too little of something that the pod requests."""
        wanted = pod_requests(pod)
        self._asked = pod["metadata"]["uid"], wanted
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

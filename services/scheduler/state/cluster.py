"""The scheduler's view of the cluster: node table, placed pods and everything derived from them (backend/cache and its snapshot in one).

Scheduling is synchronous, so the live state is the snapshot: nothing changes while one pod is judged. Pods are assumed on their node as
soon as it is chosen and forgotten again if binding fails. A pod may arrive before its node: such pods wait in `_homeless`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object
from kubecosm.api.selectors import LabelSelector

from .counters import PodCounters, PodsByNamespace
from .match import NodeMatcher
from .nodes import NodeTable
from .podinfo import HostPort, PodInfo
from .terms import TermGroups

UsedPorts = dict[tuple[str, int], dict[tuple[str, int], int]]
"""(protocol, port) → (host IP, row) → how many pods hold it there."""


class ClusterState:
    """What plugins read. All changes go through the methods here, so that every derived figure follows."""

    def __init__(self) -> None:
        self.nodes = NodeTable()
        self.matcher = NodeMatcher(self.nodes)
        self.placed = PodsByNamespace()
        self.counters = PodCounters(self.nodes.columns, self.placed)
        self.terms = TermGroups(self.nodes.columns)
        self.used_ports: UsedPorts = {}
        self.claim_users: dict[str, dict[str, int]] = {}
        """namespace/claim → uid of each placed pod that uses it → its row."""
        self.priorities: dict[int, int] = {}
        """How many placed pods have each priority."""
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._row_of_pod: dict[str, int] = {}
        self._pods: dict[str, PodInfo] = {}
        self._assumed: set[str] = set()
        self._homeless: dict[str, dict[str, PodInfo]] = {}

    # ---- nodes

    def set_node(self, node: Object) -> int:
        """Add or update a node; pods that came before it find their place."""
        row = self.nodes.set_node(node)
        for pod in self._homeless.pop(node["metadata"]["name"], {}).values():
            self._place(row, pod)
        return row

    def remove_node(self, name: str) -> None:
        """Forget a node; its pods wait for its return or their own deletion."""
        row = self.nodes.row_of.get(name)
        if row is None:
            return
        for pod in list(self.nodes.pods[row].values()):
            self._displace(row, pod)
            self._homeless.setdefault(name, {})[pod.uid] = pod
        self.nodes.remove_node(name)

    # ---- pods

    @property
    def pod_count(self) -> int:
        return len(self._pods)

    @property
    def assumed_count(self) -> int:
        return len(self._assumed)

    def pod(self, uid: str) -> PodInfo | None:
        """The pod as placed or assumed."""
        return self._pods.get(uid)

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def assume(self, pod: PodInfo, node_name: str) -> None:
        """Count `pod` on a node before it is bound there; sets its `node_name`."""
        pod.node_name = node_name
        self._assumed.add(pod.uid)
        self._insert(pod)

    def confirm(self, uid: str) -> None:
        """The API server says of an assumed pod exactly what was assumed."""
        self._assumed.discard(uid)

    def forget(self, pod: PodInfo) -> None:
        """Take an assumed pod back; nothing happens if it has been confirmed meanwhile."""
        if pod.uid in self._assumed:
            self.remove_pod(pod.uid)
            pod.node_name = ""

    def set_pod(self, pod: PodInfo) -> None:
        """A pod that runs on a node, as the API server says: adds, updates, or confirms an assumption."""
        self.remove_pod(pod.uid)
        self._insert(pod)

    def remove_pod(self, uid: str) -> None:
        """Forget a placed pod; unknown ones are none of our business."""
        self._assumed.discard(uid)
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        row = self._row_of_pod.get(uid)
        if row is not None:
            self._displace(row, pod)
        else:
            waiting = self._homeless.get(pod.node_name, {})
            waiting.pop(uid, None)
            if not waiting:
                self._homeless.pop(pod.node_name, None)

    def touch(self, uid: str) -> None:
        """Something changed about a placed pod that only preemption looks at: when it started."""
        row = self._row_of_pod.get(uid)
        if row is not None:
            self.nodes.generations[row] += 1

    def _insert(self, pod: PodInfo) -> None:
        self._pods[pod.uid] = pod
        row = self.nodes.row_of.get(pod.node_name)
        if row is None:
            self._homeless.setdefault(pod.node_name, {})[pod.uid] = pod
        else:
            self._place(row, pod)

    def _place(self, row: int, pod: PodInfo) -> None:
        self._row_of_pod[pod.uid] = row
        self.priorities[pod.priority] = self.priorities.get(pod.priority, 0) + 1
        self.nodes.add_pod(row, pod)
        self.placed.add(row, pod)
        self.counters.pod_added(row, pod)
        self.terms.pod_added(row, pod)
        if pod.host_ports:
            self._use_ports(row, pod.host_ports, 1)
        for claim in pod.claims:
            self.claim_users.setdefault(f"{pod.namespace}/{claim}", {})[pod.uid] = row

    def _displace(self, row: int, pod: PodInfo) -> None:
        del self._row_of_pod[pod.uid]
        self.priorities[pod.priority] -= 1
        if not self.priorities[pod.priority]:
            del self.priorities[pod.priority]
        self.nodes.remove_pod(row, pod)
        self.placed.remove(pod)
        self.counters.pod_removed(row, pod)
        self.terms.pod_removed(row, pod)
        if pod.host_ports:
            self._use_ports(row, pod.host_ports, -1)
        for claim in pod.claims:
            users = self.claim_users[f"{pod.namespace}/{claim}"]
            users.pop(pod.uid, None)
            if not users:
                del self.claim_users[f"{pod.namespace}/{claim}"]

    def _use_ports(self, row: int, ports: Iterable[HostPort], sign: int) -> None:
        for ip, protocol, port in ports:
            used = self.used_ports.setdefault((protocol, port), {})
            used[ip, row] = used.get((ip, row), 0) + sign
            if not used[ip, row]:
                del used[ip, row]
            if not used:
                del self.used_ports[protocol, port]

    @contextmanager
    def without(self, row: int, pods: Iterable[PodInfo]) -> Iterator[Simulation]:
        """What if these pods of one node were gone? They are back when the block ends."""
        simulation = Simulation(self, row)
        try:
            for pod in pods:
                simulation.remove(pod)
            yield simulation
        finally:
            simulation.restore()

    @contextmanager
    def with_extra(self, row: int, pods: Iterable[PodInfo]) -> Iterator[None]:
        """What if these (nominated) pods ran on one node as well? They are gone when the block ends."""
        added = [pod for pod in pods if pod.uid not in self._pods]
        try:
            for pod in added:
                self._place(row, pod)
            yield
        finally:
            for pod in added:
                self._displace(row, pod)

    # ---- namespaces

    def set_namespace(self, namespace: Object) -> None:
        self._namespaces[namespace["metadata"]["name"]] = labels_of(namespace)

    def remove_namespace(self, name: str) -> None:
        self._namespaces.pop(name, None)

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        return self._namespaces.get(name, {})

    def namespaces_matching(self, names: frozenset[str], selector: LabelSelector) -> frozenset[str] | None:
        """`names` and every namespace whose labels match (mergeAffinityTermNamespacesIfNotEmpty); None: all there are or will be."""
        if selector.is_everything:
            return None
        if selector.nothing:
            return names
        return names | {name for name, labels in self._namespaces.items() if selector.matches(labels)}


class Simulation:
    """Takes pods of one node out of the state and puts them back."""

    def __init__(self, cluster: ClusterState, row: int) -> None:
        self._cluster = cluster
        self._row = row
        self._removed: dict[str, PodInfo] = {}

    def remove(self, pod: PodInfo) -> None:
        self._cluster._displace(self._row, pod)
        self._removed[pod.uid] = pod

    def put_back(self, pod: PodInfo) -> None:
        self._cluster._place(self._row, self._removed.pop(pod.uid))

    def restore(self) -> None:
        for pod in list(self._removed.values()):
            self.put_back(pod)

"""Nominated pods: which pods expect to run on which node once their victims are gone (backend/queue/nominator.go)."""

from __future__ import annotations

from ..state.podinfo import PodInfo


class Nominator:
    def __init__(self) -> None:
        self._by_node: dict[str, dict[str, PodInfo]] = {}
        self._node_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._node_of)

    def add(self, pod: PodInfo, node_name: str) -> None:
        """The pod is nominated to run on the node, and nowhere else."""
        self.remove(pod.uid)
        self._by_node.setdefault(node_name, {})[pod.uid] = pod
        self._node_of[pod.uid] = node_name

    def remove(self, uid: str) -> None:
        node = self._node_of.pop(uid, None)
        if node is not None:
            pods = self._by_node[node]
            del pods[uid]
            if not pods:
                del self._by_node[node]

    def update(self, pod: PodInfo) -> None:
        """A pending pod as the API server has it now; a nomination that it does not know of yet stays."""
        if pod.nominated_node:
            self.add(pod, pod.nominated_node)
        elif node := self._node_of.get(pod.uid):
            self.add(pod, node)

    def node_of(self, uid: str) -> str:
        return self._node_of.get(uid, "")

    def any_on(self, node_name: str) -> bool:
        """Whether any pod is nominated to run there."""
        return node_name in self._by_node

    def on(self, node_name: str) -> list[PodInfo]:
        return list(self._by_node.get(node_name, {}).values())

    def nodes(self) -> list[str]:
        """The nodes with nominated pods."""
        return list(self._by_node)

    def before(self, pod: PodInfo, node_name: str) -> list[PodInfo]:
        """Pods nominated to a node that go before `pod`: of the same or a higher priority."""
        found = self._by_node.get(node_name, {})
        return [other for other in found.values() if other.priority >= pod.priority and other.uid != pod.uid]

"""NodeUnschedulable: keeps pods off cordoned nodes, unless they tolerate the taint that cordoning stands for."""

from __future__ import annotations

from typing import Any

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import unresolvable
from ..state.columns import Rows
from ..state.nodes import UNSCHEDULABLE_TAINT
from ..state.podinfo import PodInfo
from ..state.tolerations import tolerates

REASON = "node(s) were unschedulable"


class NodeUnschedulable:
    name = "NodeUnschedulable"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_TAINT), self._node_changed),
            HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_TOLERATION)),
        ]

    @staticmethod
    def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when a schedulable node came or a node was uncordoned."""
        was_closed = old is not None and bool((old.get("spec") or {}).get("unschedulable"))
        is_closed = bool((new.get("spec") or {}).get("unschedulable"))
        return (not is_closed and (old is None or was_closed)) or (old is None and tolerates(pod.tolerations, UNSCHEDULABLE_TAINT))

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        unschedulable = self._nodes.unschedulable[rows]
        if not unschedulable.any() or (pod.tolerations and tolerates(pod.tolerations, UNSCHEDULABLE_TAINT)):
            return None
        return Verdict(~unschedulable, (unresolvable(REASON),))

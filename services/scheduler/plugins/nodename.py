"""NodeName: a pod that names its node goes there or nowhere."""

from __future__ import annotations

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import unresolvable
from ..state.columns import Rows
from ..state.podinfo import PodInfo

REASON = "node(s) didn't match the requested node name"


class NodeName:
    name = "NodeName"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes

    def events_to_register(self) -> list[HintedEvent]:
        return [HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD))]

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        if not pod.node_name:
            return None
        ok = np.zeros(self._nodes.size, np.bool_)
        row = self._nodes.row_of.get(pod.node_name)
        if row is not None:
            ok[row] = True
        return Verdict(ok[rows], (unresolvable(REASON),))

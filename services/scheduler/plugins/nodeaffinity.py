"""NodeAffinity: nodeSelector, required and preferred node affinity, and the affinity that the scheduler's configuration adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable
from ..state.columns import IntArray, Rows
from ..state.nodeselector import compile_preferred, compile_required
from ..state.podinfo import PodInfo
from .helpers import default_normalize

REASON_POD = "node(s) didn't match Pod's node affinity/selector"
REASON_ENFORCED = "node(s) didn't match scheduler-enforced node affinity"
REASON_CONFLICT = "pod affinity terms conflict"


class NodeAffinity:
    name = "NodeAffinity"
    looks_at_pods = False

    def __init__(self, handle: Handle, added_affinity: Mapping[str, Any] | None = None) -> None:
        self._nodes = handle.cluster.nodes
        self._matcher = handle.cluster.matcher
        self._added_required = compile_required(None, dict(added_affinity)) if added_affinity else None
        self._added_preferred = compile_preferred(dict(added_affinity)) if added_affinity else ()

    def events_to_register(self) -> list[HintedEvent]:
        return [HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_LABEL), self._node_changed)]

    def _node_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the node matches now and did not before, or was not there."""
        return self._wants(pod, new) and not (old is not None and self._wants(pod, old))

    def _wants(self, pod: PodInfo, node: Object) -> bool:
        name, labels = node["metadata"]["name"], labels_of(node)
        return all(terms is None or terms.matches(name, labels) for terms in (self._added_required, pod.node_required))

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | frozenset[str] | None:
        if pod.node_required is None:
            return SKIP_STATUS if self._added_required is None else None
        only = pod.node_required.only_names
        if only is not None and not only:
            return unresolvable(REASON_CONFLICT)
        return only

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        if self._added_required is not None:
            ok = self._matcher.mask(self._added_required)[rows]
            if not ok.all():
                own = self._matcher.mask(pod.node_required)[rows] if pod.node_required is not None else np.ones_like(ok)
                return Verdict(ok & own, (unresolvable(REASON_ENFORCED), unresolvable(REASON_POD)), ok.astype(np.int64))
        if pod.node_required is None:
            return None
        ok = self._matcher.mask(pod.node_required)[rows]
        return None if ok.all() else Verdict(ok, (unresolvable(REASON_POD),))

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        return None if pod.node_preferred or self._added_preferred else SKIP_STATUS

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        total = np.zeros(self._nodes.size, np.int64)
        for weight, terms in (*self._added_preferred, *pod.node_preferred):
            total[self._matcher.mask(terms)] += weight
        return default_normalize(total[rows])

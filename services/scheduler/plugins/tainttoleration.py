"""TaintToleration: keeps pods off nodes with taints they do not tolerate, and away from those with PreferNoSchedule taints.

Nodes have few distinct lists of taints, so each list is judged once per set of tolerations and spread over the rows by index.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState, Verdict
from ..framework.status import unresolvable
from ..state.columns import BoolArray, IntArray, Rows
from ..state.nodes import taints_of
from ..state.podinfo import PodInfo, Toleration
from ..state.tolerations import count_unpreferred, untolerated
from .helpers import default_normalize

REASON = "node(s) had untolerated taint(s)"
CACHED_TOLERATIONS_MAX = 256


class _Judged(NamedTuple):
    """Per row, for one set of tolerations. None: all nodes pass; no node has a taint worth avoiding."""

    ok: BoolArray | None
    unpreferred: IntArray | None


class TaintToleration:
    name = "TaintToleration"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes
        self._judged: OrderedDict[tuple[Toleration, ...], _Judged] = OrderedDict()
        self._version = -1

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_TAINT), self._node_changed),
            HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_TOLERATION)),
        ]

    @staticmethod
    def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the node is tolerated now and was not before."""
        was_refused = old is None or untolerated(pod.tolerations, taints_of(old)) is not None
        return was_refused and untolerated(pod.tolerations, taints_of(new)) is None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        ok = self._judge(pod.tolerations).ok
        return None if ok is None else Verdict(ok[rows], (unresolvable(REASON),))

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        unpreferred = self._judge(pod.tolerations).unpreferred
        return SCORE_MAX if unpreferred is None else default_normalize(unpreferred[rows], reverse=True)

    def _judge(self, tolerations: tuple[Toleration, ...]) -> _Judged:
        if self._version != self._nodes.taints_version:
            self._version = self._nodes.taints_version
            self._judged.clear()
        judged = self._judged.get(tolerations)
        if judged is None:
            judged = self._judged[tolerations] = self._judge_all(tolerations)
            if len(self._judged) > CACHED_TOLERATIONS_MAX:
                self._judged.popitem(last=False)
        return judged

    def _judge_all(self, tolerations: tuple[Toleration, ...]) -> _Judged:
        lists = self._nodes.taint_lists.values
        ok = np.array([untolerated(tolerations, taints) is None for taints in lists])
        counts = np.array([count_unpreferred(tolerations, taints) for taints in lists], np.int64)
        ids = self._nodes.taint_ids
        return _Judged(None if ok.all() else ok[ids], counts[ids] if counts.any() else None)

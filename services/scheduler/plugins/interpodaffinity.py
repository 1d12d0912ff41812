"""InterPodAffinity: pods near to, or away from, other pods, within topology domains.

Three questions are asked of the domains: do placed pods refuse the incoming one (their required anti-affinity), does it refuse them, and
does it find the company it requires. Scores add up the preferred terms of both sides; required affinity of placed pods attracts, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import MISSING, BoolArray, IntArray, LabelColumn, Rows
from ..state.counters import PodQuery
from ..state.podinfo import NO_POD_AFFINITY, AffinityTerm, PodInfo
from ..state.terms import TermKind, term_matches

REASON_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
REASON_AFFINITY = "node(s) didn't match pod affinity rules"
REASON_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
STATUSES = (unresolvable(REASON_AFFINITY), unschedulable(REASON_ANTI_AFFINITY), unschedulable(REASON_EXISTING))
AFFINITY, ANTI_AFFINITY, EXISTING = range(3)

HARD_POD_AFFINITY_WEIGHT = 1
"""How much a placed pod's required affinity attracts the pods it is about."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """Per row what stands against a node; None where nothing does anywhere."""

    existing: BoolArray | None
    affinity: BoolArray | None
    anti_affinity: BoolArray | None


class InterPodAffinity:
    name = "InterPodAffinity"

    def __init__(self, handle: Handle, args: Mapping[str, Any] | None = None) -> None:
        self._cluster = handle.cluster
        self._nodes = handle.cluster.nodes
        args = args or {}
        self._hard_weight = int(args.get("hardPodAffinityWeight", HARD_POD_AFFINITY_WEIGHT))
        self._ignore_existing = bool(args.get("ignorePreferredTermsOfExistingPods", False))

    def events_to_register(self) -> list[HintedEvent]:
        pod_actions = Action.ADD | Action.DELETE | Action.UPDATE_POD_LABEL
        return [
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, pod_actions), self._pod_changed),
            HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_LABEL)),
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_LABEL), self._node_changed),
        ]

    def _pod_changed(self, pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
        """Worth a try when wanted company came, or unwanted company went: by being placed or deleted, or by its labels."""
        if new is not None and self._is_company(pod, new) and not (old is not None and self._is_company(pod, old)):
            return True
        return old is not None and self._is_unwanted(pod, old) and not (new is not None and self._is_unwanted(pod, new))

    def _is_company(self, pod: PodInfo, other: PodInfo) -> bool:
        """Whether all affinity that `pod` requires is about `other`."""
        required = pod.affinity.required
        return bool(required) and all(self._about(term, other) for term in required)

    def _is_unwanted(self, pod: PodInfo, other: PodInfo) -> bool:
        """Whether any required anti-affinity of the one is about the other."""
        mine, theirs = pod.affinity.anti_required, other.affinity.anti_required
        return any(self._about(term, other) for term in mine) or any(self._about(term, pod) for term in theirs)

    def _node_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the node brings, or changes, the value of a topology that a term of the pod is about."""
        before = ((old or {}).get("metadata") or {}).get("labels") or {}
        after = new["metadata"].get("labels") or {}
        keys = {term.topology_key for term in (*pod.affinity.required, *pod.affinity.anti_required)}
        return old is None or not keys or any(before.get(key) != after.get(key) for key in keys)

    def _about(self, term: AffinityTerm, pod: PodInfo) -> bool:
        return term_matches(term, pod, self._cluster.namespace_labels(pod.namespace))

    # ---- filter

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        """Nothing to filter when the pod requires nothing and no placed pod refuses it."""
        refused = _Refused(self._existing_refuse(pod), self._lacks_company(pod), self._meets_unwanted(pod))
        if refused.existing is None and refused.affinity is None and refused.anti_affinity is None:
            return SKIP_STATUS
        state.data[self.name] = refused
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        refused: _Refused = state.data[self.name]
        bad = np.zeros(len(self._nodes.exists[rows]), np.bool_)
        codes = np.zeros(len(bad), np.int64)
        for code, mask in ((EXISTING, refused.existing), (ANTI_AFFINITY, refused.anti_affinity), (AFFINITY, refused.affinity)):
            if mask is not None:
                bad |= mask[rows]
                codes[mask[rows]] = code
        return Verdict(~bad, STATUSES, codes) if bad.any() else None

    def _existing_refuse(self, pod: PodInfo) -> BoolArray | None:
        """Domains of placed pods whose required anti-affinity is about this pod."""
        refused: BoolArray | None = None
        labels = self._cluster.namespace_labels(pod.namespace)
        for term, per_node in self._cluster.terms.selecting(TermKind.ANTI_REQUIRED, pod, labels):
            blocked = self._nodes.labels.get(term.topology_key).in_same_domain(per_node > 0)
            refused = blocked if refused is None else refused | blocked
        return refused

    def _meets_unwanted(self, pod: PodInfo) -> BoolArray | None:
        """Domains with pods that this pod's required anti-affinity is about."""
        refused: BoolArray | None = None
        for term in pod.affinity.anti_required:
            per_node = self._cluster.counters.per_node(self._query((term,)))
            blocked = self._nodes.labels.get(term.topology_key).in_same_domain(per_node > 0)
            refused = blocked if refused is None else refused | blocked
        return refused

    def _lacks_company(self, pod: PodInfo) -> BoolArray | None:
        """Nodes outside the domains where pods match all required affinity terms (satisfyPodAffinity).

        The first pod of a group that requires itself may go to any node that has the topology labels.
        """
        required = pod.affinity.required
        if not required:
            return None
        counted = self._cluster.counters.per_node(self._query(required)) > 0
        columns = [self._nodes.labels.get(term.topology_key) for term in required]
        near = [column.in_same_domain(counted) for column in columns]
        if not any(rows.any() for rows in near) and all(self._about(term, pod) for term in required):
            unlabelled: BoolArray = np.logical_or.reduce([column.ids == MISSING for column in columns])
            return unlabelled
        return ~(near[0] if len(near) == 1 else np.logical_and.reduce(near))

    def _query(self, terms: tuple[AffinityTerm, ...]) -> PodQuery:
        """Pods that all the terms are about."""
        scopes = [self._cluster.namespaces_matching(term.namespaces, term.namespace_selector) for term in terms]
        limited = [scope for scope in scopes if scope is not None]
        return PodQuery(frozenset.intersection(*limited) if limited else None, tuple(term.selector for term in terms))

    # ---- score

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        """The sum of all attractions and repulsions per row; SKIP when there are none."""
        contributions = list(self._contributions(pod))
        if not contributions:
            return SKIP_STATUS
        total = np.zeros(self._nodes.size, np.int64)
        for column, weighted in contributions:
            if column.is_unique:
                total += np.where(column.ids == MISSING, 0, weighted)
            else:
                total += column.domain_sums(weighted)[column.ids]
        if not total.any():
            return SKIP_STATUS
        state.data[self.name + "/score"] = total
        return None

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        total: IntArray = state.data[self.name + "/score"]
        return total[rows]

    def normalize_score(self, state: CycleState, pod: PodInfo, scores: IntArray) -> IntArray:
        if not len(scores):
            return scores
        lowest, highest = int(scores.min()), int(scores.max())
        if highest == lowest:
            return np.zeros_like(scores)
        return (SCORE_MAX * ((scores - lowest) / (highest - lowest))).astype(np.int64)

    def _contributions(self, pod: PodInfo) -> Iterable[tuple[LabelColumn, IntArray]]:
        """(topology, weight × pods per node) of every term that says something about this pod and a placed one."""
        has_preferences = pod.affinity is not NO_POD_AFFINITY and (pod.affinity.preferred or pod.affinity.anti_preferred)
        for sign, terms in ((1, pod.affinity.preferred), (-1, pod.affinity.anti_preferred)):
            for term in terms:
                yield self._nodes.labels.get(term.topology_key), sign * term.weight * self._cluster.counters.per_node(self._query((term,)))
        if self._ignore_existing and not has_preferences:
            return
        labels = self._cluster.namespace_labels(pod.namespace)
        weights: Mapping[TermKind, Callable[[AffinityTerm], int]] = {
            TermKind.PREFERRED: lambda term: term.weight,
            TermKind.ANTI_PREFERRED: lambda term: -term.weight,
            TermKind.REQUIRED: lambda term: self._hard_weight,
        }
        for kind, weight_of in weights.items():
            for term, per_node in self._cluster.terms.selecting(kind, pod, labels):
                if weight := weight_of(term):
                    yield self._nodes.labels.get(term.topology_key), weight * per_node

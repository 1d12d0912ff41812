"""PodTopologySpread: hard constraints refuse nodes, soft ones (or the system's defaults) prefer the emptier domains.

Pods per node come from live counters; summing them over the domains of a topology is one bincount.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubecosm.api import names
from kubecosm.api.meta import labels_of
from kubecosm.api.selectors import LabelSelector

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import MISSING, BoolArray, FloatArray, IdArray, IntArray, LabelColumn, Rows
from ..state.counters import PodQuery
from ..state.nodes import NodeTable, taints_of
from ..state.podinfo import PodInfo, SpreadConstraint, compile_spread_constraints
from ..state.tolerations import untolerated

REASON_SKEW = "node(s) didn't match pod topology spread constraints"
REASON_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
NO_DOMAIN = 2**31 - 1
"""What the emptiest domain holds when there is none."""

SYSTEM_DEFAULTS = ((names.LABEL_HOSTNAME, 3), (names.LABEL_ZONE, 5))
"""Topology and maxSkew of the soft constraints for pods of Services and controllers that have none of their own."""


@dataclass(frozen=True, slots=True)
class _Domains:
    """One hard constraint, counted: per value id the matching pods of the domain, and the fewest of any eligible domain."""

    constraint: SpreadConstraint
    column: LabelColumn
    counts: IntArray
    fewest: int


@dataclass(frozen=True, slots=True)
class _SoftState:
    """What PreScore keeps: one count and weight per row for each constraint, and which rows are not judged."""

    ignored: BoolArray | None
    parts: Sequence[tuple[IntArray, IdArray, SpreadConstraint, float]]


class PodTopologySpread:
    name = "PodTopologySpread"

    def __init__(self, handle: Handle, args: Mapping[str, Any] | None = None) -> None:
        self._cluster = handle.cluster
        self._nodes: NodeTable = handle.cluster.nodes
        self._workloads = handle.workloads
        args = args or {}
        self._system_defaulted = (args.get("defaultingType") or "System") == "System"
        self._defaults = compile_spread_constraints(args.get("defaultConstraints") or [], {})

    def events_to_register(self) -> list[HintedEvent]:
        pod_actions = Action.ADD | Action.DELETE | Action.UPDATE_POD_LABEL
        node_actions = Action.ADD | Action.DELETE | Action.UPDATE_NODE_LABEL | Action.UPDATE_NODE_TAINT
        return [
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, pod_actions), self._pod_changed),
            HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_LABEL | Action.UPDATE_POD_TOLERATION)),
            HintedEvent(ClusterEvent(EventResource.NODE, node_actions), self._node_changed),
        ]

    def _pod_changed(self, pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
        """Worth a try when a pod of this namespace that a constraint counts came, went or changed sides."""
        constraints = self._constraints(pod, hard=True)
        changed = [other for other in (old, new) if other is not None and other.namespace == pod.namespace]
        if old is not None and new is not None:
            return any(c.selector.matches(old.labels) != c.selector.matches(new.labels) for c in constraints) if changed else False
        return any(c.selector.matches(other.labels) for c in constraints for other in changed)

    def _node_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when a node with all topology labels came, went, moved to another domain or has other taints."""
        keys = [c.topology_key for c in self._constraints(pod, hard=True)]
        before, after = ([labels_of(n or {"metadata": {}}).get(key) for key in keys] for n in (old, new))
        if old is None or new is None:
            return None not in (after if old is None else before)
        if (None in before) is not (None in after):
            return True
        return None not in after and (before != after or taints_of(old) != taints_of(new))

    # ---- filter

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        constraints = self._constraints(pod, hard=True)
        if not constraints:
            return SKIP_STATUS
        eligible = self._has_labels(constraints)
        state.data[self.name] = [self._count_domains(pod, constraint, eligible) for constraint in constraints]
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        domains: list[_Domains] = state.data[self.name]
        ok = np.ones(len(self._nodes.exists[rows]), np.bool_)
        codes = np.zeros(len(ok), np.int64)
        for domain in reversed(domains):
            ids = domain.column.ids[rows]
            constraint = domain.constraint
            own = 1 if constraint.selector.matches(pod.labels) else 0
            skewed = domain.counts[ids] + (own - domain.fewest) > constraint.max_skew
            lacking = ids == MISSING
            ok &= ~(skewed | lacking)
            codes = np.where(lacking, 1, np.where(skewed, 0, codes))
        return None if ok.all() else Verdict(ok, (unschedulable(REASON_SKEW), unresolvable(REASON_LABEL)), codes)

    def _count_domains(self, pod: PodInfo, constraint: SpreadConstraint, eligible: BoolArray) -> _Domains:
        column = self._nodes.labels.get(constraint.topology_key)
        counted = self._included(pod, constraint, eligible)
        counts = column.domain_sums(self._per_node(pod, constraint.selector), counted)
        present = np.bincount(column.ids[counted], minlength=len(counts)) > 0
        domain_count = int(np.count_nonzero(present))
        fewest = int(counts[present].min(initial=NO_DOMAIN)) if domain_count >= constraint.min_domains else 0
        return _Domains(constraint, column, counts, fewest)

    # ---- score

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        constraints = self._constraints(pod, hard=False)
        if not constraints:
            return SKIP_STATUS
        require_all = bool(pod.spread) or not self._system_defaulted
        everywhere = self._has_labels(constraints) if require_all else self._nodes.exists
        ignored = ~everywhere[rows] if require_all else None
        if ignored is not None and not ignored.any():
            ignored = None
        parts = [self._soft_part(pod, constraint, rows, everywhere, ignored) for constraint in constraints]
        state.data[self.name + "/score"] = _SoftState(ignored, parts)
        return None

    def _soft_part(
        self, pod: PodInfo, constraint: SpreadConstraint, rows: Rows, everywhere: BoolArray, ignored: BoolArray | None
    ) -> tuple[IntArray, IdArray, SpreadConstraint, float]:
        """Counts per asked row, their value ids, the constraint, and its weight: small topologies must not drown in large ones."""
        column = self._nodes.labels.get(constraint.topology_key)
        ids = column.ids[rows]
        judged = ids if ignored is None else ids[~ignored]
        per_node = self._per_node(pod, constraint.selector)
        if constraint.topology_key == names.LABEL_HOSTNAME:
            counts, size = per_node[rows], len(judged)
        else:
            size = int(np.count_nonzero(np.bincount(judged + 1, minlength=1)))
            counts = column.domain_sums(per_node, self._included(pod, constraint, everywhere))[ids]
        return counts, ids, constraint, math.log(size + 2)

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        soft: _SoftState = state.data[self.name + "/score"]
        total: FloatArray = np.zeros(len(soft.parts[0][0]))
        for counts, ids, constraint, weight in soft.parts:
            total += np.where(ids == MISSING, 0.0, counts * weight + (constraint.max_skew - 1))
        return np.floor(total + 0.5).astype(np.int64)

    def normalize_score(self, state: CycleState, pod: PodInfo, scores: IntArray) -> IntArray:
        ignored = state.data[self.name + "/score"].ignored
        judged = scores if ignored is None else scores[~ignored]
        if not len(judged):
            return np.zeros_like(scores)
        highest, lowest = int(judged.max()), int(judged.min())
        result = np.full_like(scores, SCORE_MAX) if highest == 0 else SCORE_MAX * (highest + lowest - scores) // highest
        if ignored is not None:
            result[ignored] = 0
        return result

    # ---- shared

    def _constraints(self, pod: PodInfo, *, hard: bool) -> tuple[SpreadConstraint, ...]:
        """The pod's own constraints of one kind, or else the defaults with the selector of its Services and controller."""
        if pod.spread:
            return tuple(constraint for constraint in pod.spread if constraint.hard is hard)
        if self._system_defaulted and hard:
            return ()
        selector = self._workloads.selector_of(pod)
        if selector is None:
            return ()
        if self._system_defaulted:
            return tuple(SpreadConstraint(key, skew, hard=False, selector=selector) for key, skew in SYSTEM_DEFAULTS)
        return tuple(
            SpreadConstraint(c.topology_key, c.max_skew, c.hard, selector, c.min_domains, c.honor_affinity, c.honor_taints)
            for c in self._defaults if c.hard is hard
        )  # fmt: skip

    def _per_node(self, pod: PodInfo, selector: LabelSelector) -> IntArray:
        """Live matching pods per row; a selector without requirements counts nobody (countPodsMatchSelector)."""
        if selector.is_everything:
            return np.zeros(self._nodes.size, np.int64)
        return self._cluster.counters.per_node(PodQuery(frozenset((pod.namespace,)), (selector,), live_only=True))

    def _has_labels(self, constraints: Sequence[SpreadConstraint]) -> BoolArray:
        """Nodes that carry all topology keys."""
        mask = self._nodes.exists.copy()
        for constraint in constraints:
            mask &= self._nodes.labels.get(constraint.topology_key).ids != MISSING
        return mask

    def _included(self, pod: PodInfo, constraint: SpreadConstraint, eligible: BoolArray) -> BoolArray:
        """Which eligible nodes count, by the constraint's node inclusion policies (matchNodeInclusionPolicies)."""
        if constraint.honor_affinity and pod.node_required is not None:
            eligible = eligible & self._cluster.matcher.mask(pod.node_required)
        if constraint.honor_taints:
            tolerated = np.array([untolerated(pod.tolerations, taints) is None for taints in self._nodes.taint_lists.values])
            eligible = eligible & tolerated[self._nodes.taint_ids]
        return eligible

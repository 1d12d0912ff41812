"""DefaultPreemption: when no node has room, finds one where removing lower-priority pods would make some, and nominates the pod there.

Which victims: as few and as unimportant as possible, sparing disruption budgets where that can be. Nodes are tried one by one against the
live state with the victims taken out of it, so the answer is exactly what a real attempt would say afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object

from ..framework.diagnosis import Diagnosis
from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Framework, Handle
from ..framework.interface import CycleState, PostFilterResult
from ..framework.status import Code, Status, fit_message, unresolvable, unschedulable
from ..state.cluster import Simulation
from ..state.podinfo import PodInfo
from .preemption_choice import Candidate, importance, split_by_budget
from .preemption_memory import UNKNOWN, Judged, Memory, Shortlist, search
from .preemption_quick import NO_VICTIMS, QuickVictims
from .preemption_victims import DISRUPTION_TARGET, REASON_PREEMPTED, evict

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NEVER = "not eligible due to preemptionPolicy=Never."
TERMINATING = "not eligible due to a terminating pod on the nominated node."
IN_PROGRESS = "waiting for the preemption for this pod to be finished"


@dataclass(frozen=True, slots=True)
class PreemptionArgs:
    """How many candidate nodes are enough: a share of all, but at least so many."""

    candidates_percent_min: int = 10
    candidates_min: int = 100

    @staticmethod
    def from_config(args: Mapping[str, Any]) -> PreemptionArgs:
        return PreemptionArgs(int(args.get("minCandidateNodesPercentage", 10)), int(args.get("minCandidateNodesAbsolute", 100)))


class DefaultPreemption:
    name = "DefaultPreemption"

    def __init__(self, handle: Handle, args: PreemptionArgs | None = None) -> None:
        self._handle = handle
        self._cluster = handle.cluster
        self._args = args or PreemptionArgs()
        self._in_progress: set[str] = set()
        self._quick = QuickVictims(handle.cluster.nodes, handle.nominator)

    def events_to_register(self) -> list[HintedEvent]:
        return [HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE))]

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        """While its victims are being told to go, another attempt of the same pod would find new ones."""
        return unresolvable(IN_PROGRESS) if pod.uid in self._in_progress else None

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        if self._handle.preemption_tried is not None:
            self._handle.preemption_tried()
        proposed = self.propose(pod, diagnosis)
        return proposed if isinstance(proposed, PostFilterResult) else self.carry_out(pod, proposed.best())

    def propose(self, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult | Shortlist:
        """The candidates to choose from, or why there are none."""
        why_not = self._ineligible(pod, diagnosis)
        if why_not:
            return PostFilterResult(None, unschedulable(f"preemption: {why_not}"))
        candidates, refusals = self._find_candidates(pod, diagnosis)
        if candidates is None:
            message = fit_message(diagnosis.node_count, _reasons(refusals, diagnosis.node_count))
            return PostFilterResult("", unschedulable(f"preemption: {message}"))
        return candidates

    def carry_out(self, pod: PodInfo, best: Candidate) -> PostFilterResult:
        """Take this candidate: its victims are asked to leave, the pod is nominated there."""
        self._preempt(pod, best)
        return PostFilterResult(self._cluster.nodes.names[best.row], victims=tuple(victim.key for victim in best.victims))

    def _ineligible(self, pod: PodInfo, diagnosis: Diagnosis) -> str:
        """Why the pod may not preempt (PodEligibleToPreemptOthers), or empty."""
        if pod.pod["spec"].get("preemptionPolicy") == "Never":
            return NEVER
        row = self._cluster.nodes.row_of.get(pod.nominated_node) if pod.nominated_node else None
        if row is None:
            return ""
        nominated_status = diagnosis.status_of(row) if row < len(diagnosis.of_row) else None
        if nominated_status is not None and nominated_status.code is Code.UNSCHEDULABLE_AND_UNRESOLVABLE:
            return ""
        leaving = any(other.priority < pod.priority and _is_preempted(other) for other in self._cluster.nodes.pods[row].values())
        return TERMINATING if leaving else ""

    @property
    def _framework(self) -> Framework:
        assert self._handle.framework is not None, "plugins are made by a profile"
        return self._handle.framework

    # ---- candidates

    def _find_candidates(self, pod: PodInfo, diagnosis: Diagnosis) -> tuple[Shortlist | None, list[Status]]:
        """Candidates from a random place on until there are enough; if there are none, why the nodes are none."""
        rows = diagnosis.rows_with(Code.UNSCHEDULABLE)
        if not len(rows):
            return None, []
        if pod.priority <= min(self._cluster.priorities, default=pod.priority):
            return None, [unresolvable(NO_VICTIMS)] * len(rows)  # as every node would say
        enough = min(max(len(rows) * self._args.candidates_percent_min // 100, self._args.candidates_min), len(rows))
        offset = self._handle.random.randrange(len(rows))
        budgets = list(self._handle.disruption_budgets.values())
        fit, nodes = self._framework.fit_by_resources(pod), self._cluster.nodes
        quick = self._quick.for_pod(pod, fit, budgets) if fit is not None else None
        memory = Memory(nodes.size) if quick is None else quick.memory
        holds = np.zeros(nodes.size, np.bool_) if quick is None else quick.remembered()

        def judge(row: int) -> Judged:
            judged = quick.try_node(row) if quick is not None else None
            return (self._try_node(pod, row, budgets), UNKNOWN) if judged is None else judged

        found, tried = search(np.roll(rows, -offset), enough, memory, holds, judge)
        return (found, []) if len(found) else (None, memory.refusals(tried))

    def _try_node(self, pod: PodInfo, row: int, budgets: Sequence[Object]) -> Candidate | Status:
        """The victims on one node, or why there is no use (SelectVictimsOnNode)."""
        priority = pod.priority
        lower = [other for other in self._cluster.nodes.pods[row].values() if other.priority < priority]
        if not lower:
            return unresolvable(NO_VICTIMS)
        with self._cluster.without(row, lower) as simulation:
            refusal = self._fits(pod, row)
            if refusal is not None:
                return refusal
            lower.sort(key=importance)
            violating, others = split_by_budget(lower, budgets)
            victims = [other for other in violating if not self._reprieve(pod, row, other, simulation)]
            violations = len(victims)
            victims += [other for other in others if not self._reprieve(pod, row, other, simulation)]
        return Candidate(row, tuple(sorted(victims, key=importance)), violations)

    def _reprieve(self, pod: PodInfo, row: int, victim: PodInfo, simulation: Simulation) -> bool:
        """Whether the victim may stay after all; if so it is back in the state."""
        simulation.put_back(victim)
        if self._fits(pod, row) is None:
            return True
        simulation.remove(victim)
        return False

    def _fits(self, pod: PodInfo, row: int) -> Status | None:
        """With and without the pods nominated there, as a real attempt would check."""
        framework = self._framework
        node = self._cluster.nodes.names[row]
        earlier = self._handle.nominator.before(pod, node)
        if earlier:
            with self._cluster.with_extra(row, earlier):
                refusal = framework.fits(pod, row)
            if refusal is not None:
                return refusal
        return framework.fits(pod, row)

    # ---- effects

    def _preempt(self, pod: PodInfo, chosen: Candidate) -> None:
        """Ask the victims to leave, in the background, and take back the nominations that the pod outranks."""
        handle = self._handle
        assert handle.runner is not None, "plugins run inside a scheduler"
        victims = [victim for victim in chosen.victims if not victim.is_terminating]
        if not victims:
            return  # all of them have been told to go
        node = self._cluster.nodes.names[chosen.row]
        outranked = [other for other in handle.nominator.on(node) if other.priority < pod.priority]
        for other in outranked:
            handle.nominator.remove(other.uid)
        if handle.preempted is not None:
            handle.preempted(len(chosen.victims))
        self._in_progress.add(pod.uid)
        handle.runner.spawn("preemption", self._finish(pod, node, victims, outranked))

    async def _finish(self, pod: PodInfo, node: str, victims: Sequence[PodInfo], outranked: Sequence[PodInfo]) -> None:
        runner = self._handle.runner
        assert runner is not None, "plugins run inside a scheduler"
        succeeded, started = False, self._handle.clock.monotonic()
        try:
            await evict(self._handle, pod, node, victims, outranked)
            succeeded = True
        finally:
            self._in_progress.discard(pod.uid)
            if self._handle.evicted is not None:
                self._handle.evicted("success" if succeeded else "error", self._handle.clock.monotonic() - started)
            if succeeded:
                runner.recheck_gates(pod.uid)
            else:
                runner.activate(pod.uid)
            for other in outranked:
                runner.activate(other.uid)


def _is_preempted(pod: PodInfo) -> bool:
    """The pod is leaving because a scheduler told it to (podTerminatingByPreemption)."""
    condition = get_condition(pod.pod, DISRUPTION_TARGET) if pod.is_terminating else None
    return condition is not None and condition.get("status") == "True" and condition.get("reason") == REASON_PREEMPTED


def _reasons(refusals: Sequence[Status], node_count: int) -> dict[str, int]:
    """How many nodes gave each reason; to those never tried preemption is no help."""
    counts: dict[str, int] = {}
    for status in refusals:
        for reason in status.reasons:
            counts[reason] = counts.get(reason, 0) + 1
    if node_count > len(refusals):
        counts[NOT_HELPFUL] = counts.get(NOT_HELPFUL, 0) + node_count - len(refusals)
    return counts

"""A scheduling cycle that asks extenders: the same steps as Scheduler.schedule_one, with HTTP requests in between.

The world goes on while an extender thinks: nodes are held by name, and those that have gone meanwhile are left out.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np

from .algorithm import Outcome
from .binding import Attempt
from .extenders.chain import Extenders
from .extenders.wire import ExtenderError
from .framework.diagnosis import Diagnosis
from .framework.failures import BUGS, PluginError
from .framework.interface import CycleState, PostFilterResult
from .framework.profile import PluginScores, Profile
from .framework.status import EXTENDER, Status, error, unschedulable
from .plugins.defaultpreemption import DefaultPreemption
from .plugins.preemption_choice import pick
from .queue.podqueue import QueuedPod
from .scheduler import Scheduler
from .state.columns import IntArray
from .state.podinfo import PodInfo


class ExtendedCycle:
    """Schedules the pods that concern extenders, one at a time like all others."""

    def __init__(self, scheduler: Scheduler, extenders: Extenders) -> None:
        self._scheduler, self._extenders = scheduler, extenders
        self._nodes = scheduler.cluster.nodes

    def concerns(self, pod: PodInfo) -> bool:
        """Whether any extender wants to be asked about the pod."""
        return bool(self._extenders.interested(pod))

    async def schedule_one(self, queued: QueuedPod) -> Coroutine[Any, Any, None] | None:
        """Decide about one pod. The binding cycle to run if it found a node; otherwise the pod is back in the queue."""
        attempt = self._scheduler.begin(queued)
        if attempt is None:
            return None
        in_flight = self._scheduler.queue.in_flight
        in_flight.leave(queued.uid, attempt.moves)
        binding = None
        try:
            binding = await self._attempt(attempt)
            return binding
        finally:
            if binding is None:
                in_flight.land(queued.uid)

    async def _attempt(self, attempt: Attempt) -> Coroutine[Any, Any, None] | None:
        scheduler = self._scheduler
        try:
            outcome = await self._find_node(attempt)
            if not self._is_wanted(attempt):
                return None
            if outcome.node:
                return scheduler.place(attempt, outcome)
            result = await self._post_filter(attempt, outcome)
        except (ExtenderError, PluginError) as failed:
            scheduler.failed(attempt, str(failed), frozenset(), frozenset(), nominated="")
            return None
        except BUGS as failed:
            scheduler.broken(attempt, failed)
            return None
        if self._is_wanted(attempt):
            scheduler.give_up(attempt, outcome, result)
        return None

    def _is_wanted(self, attempt: Attempt) -> bool:
        """The pod is still there and has no node; it may have changed, which the next attempt would see."""
        current = self._scheduler.pending.get(attempt.pod.uid)
        return current is not None and not current.is_terminating

    async def _find_node(self, attempt: Attempt) -> Outcome:
        """Filter by plugins, then extenders; score by both."""
        scheduler, profile, state, pod = self._scheduler, attempt.profile, attempt.state, attempt.pod
        diagnosis, rows = await self._filter(attempt)
        if len(rows) < 2:
            return scheduler.algorithm.choose(profile, state, pod, diagnosis, rows)
        names = [self._nodes.names[row] for row in rows.tolist()]
        total, scores = profile.run_score(state, pod, rows, len(rows))
        extra = await self._extenders.prioritize(pod, names)
        added = np.array([extra.get(name, 0) for name in names], np.int64)
        total = total + added
        left = [index for index, name in enumerate(names) if name in self._nodes.row_of]
        if not left:
            return Outcome(diagnosis)
        chosen = left[scheduler.algorithm.select(total[left])]
        return Outcome(diagnosis, names[chosen], rows, (*scores, PluginScores(EXTENDER, added)), total)

    async def _filter(self, attempt: Attempt, *, nominated_first: bool = True) -> tuple[Diagnosis, IntArray]:
        """What plugins and extenders let pass; if that is nothing but the nominated node was looked at, all others are, too."""
        algorithm, pod = self._scheduler.algorithm, attempt.pod
        diagnosis, feasible = algorithm.find_feasible(attempt.profile, attempt.state, pod, nominated_first=nominated_first)
        only_nominated = nominated_first and len(feasible) == 1 and not diagnosis.of_row.any()
        names = await self._extenders.filter(pod, [self._nodes.names[row] for row in feasible.tolist()], diagnosis)
        if only_nominated and not names:
            return await self._filter(attempt, nominated_first=False)
        return diagnosis, self._rows(names)

    def _rows(self, names: Sequence[str]) -> IntArray:
        """Rows of the nodes that (still) exist, in order."""
        return np.array(sorted(row for name in names if (row := self._nodes.row_of.get(name)) is not None), np.int64)

    async def _post_filter(self, attempt: Attempt, outcome: Outcome) -> PostFilterResult:
        """Preemption whose candidates the extenders may change; other PostFilter plugins as ever."""
        scheduler, profile, state, pod = self._scheduler, attempt.profile, attempt.state, attempt.pod
        diagnosis = outcome.diagnosis
        if not profile.has_post_filter:
            return PostFilterResult("")
        preemption = profile.plugins.get("DefaultPreemption")
        if not isinstance(preemption, DefaultPreemption) or not self._extenders.interested(pod):
            return profile.run_post_filter(state, pod, diagnosis)
        proposed = preemption.propose(pod, diagnosis)
        if isinstance(proposed, PostFilterResult):
            return profile.run_post_filter(state, pod, diagnosis)
        scheduler.metrics.preemption_tried()
        try:
            left = await self._extenders.preempt(pod, proposed.all())
        except ExtenderError as failed:
            return PostFilterResult(None, error(f"preemption: {failed}"))
        if not left:
            return PostFilterResult(None, unschedulable("preemption: no candidate node for preemption"))
        return preemption.carry_out(pod, pick(left)) if self._is_wanted(attempt) else PostFilterResult()

    # ---- bind

    async def bind(self, profile: Profile, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """By an extender that binds such pods, or else by the plugins."""
        try:
            if await self._extenders.bind(pod, node):
                return None
        except (ExtenderError, PluginError) as failed:
            return error(str(failed))
        return await profile.run_bind(state, pod, node)

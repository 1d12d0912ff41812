"""The scheduler: takes pods from the queue one by one, decides, and binds many at once.

Deciding is synchronous and holds the event loop for SLICE_SECONDS at most before others get a turn. Binding is a task per pod, so that many
requests are under way together; a pod counts on its node from the moment of the decision.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecosm.api.resources import Object
from kubecosm.api.times import format_micro_time
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .algorithm import Algorithm, Outcome
from .conditions import status_patch
from .decisions import NO_PREEMPTION, Decisions, Preemption
from .figures import serve_figures
from .framework.defaults import ProfileConfig
from .framework.events import ASSIGNED_POD_DELETE
from .framework.failures import API_FAILURES, BUGS, describe
from .framework.handle import ApiEffects, Handle
from .framework.interface import CycleState, FilterPlugin, PostFilterResult, QueueSortPlugin
from .framework.profile import Profile
from .framework.status import Status, error, fit_message, truncate
from .metrics import ERROR, SCHEDULED, UNSCHEDULABLE, SchedulerMetrics
from .queue.hints import HintMap
from .queue.nominator import Nominator
from .queue.podqueue import QueuedPod
from .queue.queue import QueueLimits, SchedulingQueue
from .state.cluster import ClusterState
from .state.podinfo import PodInfo
from .waiting import WaitingPods

if TYPE_CHECKING:
    from .extended import ExtendedCycle

BINDINGS_IN_FLIGHT_MAX = 32
"""Pods whose binding cycle runs at once; deciding waits when there are more."""
SLICE_SECONDS = 0.005
MEASURED_SHARE = 0.1
"""Of the attempts, in which each plugin's time is taken (pluginMetricsSamplePercent)."""
NO_NODES = "no nodes available to schedule pods"

log = get_logger("kube-scheduler")


@dataclass(slots=True)
class Attempt:
    """One try to schedule one pod, from its leaving the queue to its being bound or back there."""

    queued: QueuedPod
    profile: Profile
    state: CycleState
    started: float
    moves: int
    """SchedulingQueue.moves when it began."""

    @property
    def pod(self) -> PodInfo:
        return self.queued.info


class Scheduler:
    """Everything of one scheduler process but its informers and its HTTP server."""

    def __init__(
        self, profiles: Sequence[ProfileConfig], effects: ApiEffects, metrics: SchedulerMetrics, *, clock: Clock, rng: random.Random,
        limits: QueueLimits | None = None, bindings_max: int = BINDINGS_IN_FLIGHT_MAX, decisions: Decisions | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.metrics = metrics
        self.effects = effects
        self.nominator = Nominator()
        self.cluster = ClusterState()
        self.budgets: dict[str, Object] = {}
        """PodDisruptionBudgets by namespace/name."""
        self.handle = Handle(
            self.cluster, clock, rng, self.nominator, effects, disruption_budgets=self.budgets, runner=self, preempted=metrics.preempted,
            evicted=metrics.evicted,
        )
        self.profiles = {config.scheduler_name: Profile(config, self.handle, metrics) for config in profiles}
        self.queue = SchedulingQueue(clock, self._common_sort(), self, metrics, limits)
        self.algorithm = Algorithm(self.handle)
        self.decisions = Decisions() if decisions is None else decisions
        self.waiting = WaitingPods()
        self.pending: dict[str, PodInfo] = {}
        """Pods without a node that are ours to schedule, by uid, as the API server has them."""
        self.extended: ExtendedCycle | None = None
        """How pods that concern extenders are scheduled; None without extenders."""
        self._slots = asyncio.Semaphore(bindings_max)
        self._tasks: asyncio.TaskGroup | None = None
        self._early: list[tuple[str, Coroutine[Any, Any, None]]] = []
        """Work from before `run`."""
        serve_figures(self)

    def _common_sort(self) -> QueueSortPlugin:
        """The one order of the one active queue."""
        sorts = [profile.queue_sort for profile in self.profiles.values()]
        if len({sort.name for sort in sorts}) > 1:
            raise StartupError("all profiles must have the same queueSort plugin: they share one queue")
        return sorts[0]

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self.queue.run(), name="queue")
            while self._early:
                self.spawn(*self._early.pop())
            while True:
                await self.queue.wait_ready()
                await self._run_slice()

    async def _run_slice(self) -> None:
        """Decide for a few milliseconds, then let others run."""
        ends = self.clock.monotonic() + SLICE_SECONDS
        while self.clock.monotonic() < ends:
            await self._slots.acquire()
            queued = self.queue.pop()
            binding = await self._decide(queued) if queued is not None else None
            if binding is None:
                self._slots.release()
            else:
                self.spawn("binding", self._bind_and_release(binding))
            if queued is None:
                return
        await asyncio.sleep(0)

    async def _decide(self, queued: QueuedPod) -> Coroutine[Any, Any, None] | None:
        """Pods that concern an extender wait for its answers; all others are decided at once."""
        if self.extended is not None and self.extended.concerns(queued.info):
            return await self.extended.schedule_one(queued)
        return self.schedule_one(queued)

    async def _bind_and_release(self, binding: Coroutine[Any, Any, None]) -> None:
        try:
            with self.metrics.bindings.track_inprogress():
                await binding
        finally:
            self._slots.release()

    # ---- what queue and plugins ask

    def gate(self, pod: PodInfo) -> str:
        profile = self.profiles.get(pod.scheduler_name)
        return profile.gate(pod) if profile else ""

    def hints(self, scheduler_name: str) -> HintMap:
        return self.profiles[scheduler_name].hints

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside scheduling; an expected failure (API, network) is logged."""
        if self._tasks is None:
            self._early.append((name, work))
        else:
            self._tasks.create_task(_logged(name, work), name=name)

    def activate(self, uid: str) -> None:
        self.queue.activate(uid)

    def recheck_gates(self, uid: str) -> None:
        self.queue.recheck_gates(uid)

    def reject_waiting(self, uid: str, plugin: str, why: str) -> bool:
        """Send back a pod that Permit plugins hold; False if it is not one."""
        waiting = self.waiting.get(uid)
        if waiting is not None:
            waiting.reject(plugin, why)
        return waiting is not None

    def recheck_gated_by(self, plugin: str) -> None:
        """Something that this PreEnqueue plugin waits for has come."""
        self.queue.recheck_gated_by(plugin)

    # ---- one attempt

    def schedule_one(self, queued: QueuedPod) -> Coroutine[Any, Any, None] | None:
        """Decide about one pod. The binding cycle to run if it found a node; otherwise the pod is back in the queue."""
        attempt = self.begin(queued)
        if attempt is None:
            return None
        try:
            outcome = self.algorithm.schedule(attempt.profile, attempt.state, queued.info)
            if outcome.node:
                return self.place(attempt, outcome)
            self._unschedulable(attempt, outcome)
        except BUGS as failed:
            self.broken(attempt, failed)
            return None
        self.metrics.algorithm(self.clock.monotonic() - attempt.started)
        return None

    def broken(self, attempt: Attempt, failed: BaseException) -> None:
        """A plugin failed in the midst of an attempt: what it had of the pod so far is undone."""
        if self.cluster.is_assumed(attempt.pod.uid):
            self._take_back(attempt, attempt.pod.node_name)
        self.failed(attempt, f"running plugins: {describe(failed)}", frozenset(), frozenset())

    def begin(self, queued: QueuedPod) -> Attempt | None:
        """An attempt, unless there is nothing to try: the pod is none of ours any more, or there is no node."""
        profile = self.profiles.get(queued.info.scheduler_name)
        if profile is None or self._skip(queued.info):
            return None
        state = CycleState(measured=self.handle.random.random() < MEASURED_SHARE)
        attempt = Attempt(queued, profile, state, self.clock.monotonic(), self.queue.moves)
        if self.cluster.nodes.count == 0:
            everybody = frozenset(name for name, plugin in profile.plugins.items() if isinstance(plugin, FilterPlugin))
            self.failed(attempt, NO_NODES, everybody, frozenset())
            return None
        return attempt

    def place(self, attempt: Attempt, outcome: Outcome) -> Coroutine[Any, Any, None] | None:
        """A node was found: remember why, and begin to bind."""
        self.metrics.algorithm(self.clock.monotonic() - attempt.started)
        self._decided(attempt, outcome, "", NO_PREEMPTION)
        return self._assume(attempt, outcome.node)

    def _skip(self, pod: PodInfo) -> bool:
        if pod.is_terminating:
            note = f"skip schedule deleting pod: {pod.namespace}/{pod.name}"
            self.effects.event(pod, "Warning", "FailedScheduling", "Scheduling", note)
            return True
        return self.cluster.pod(pod.uid) is not None

    def _unschedulable(self, attempt: Attempt, outcome: Outcome) -> None:
        """No node fits: ask the PostFilter plugins for help, then put the pod back."""
        profile = attempt.profile
        result = profile.run_post_filter(attempt.state, attempt.pod, outcome.diagnosis) if profile.has_post_filter else PostFilterResult()
        self.give_up(attempt, outcome, result)

    def give_up(self, attempt: Attempt, outcome: Outcome, result: PostFilterResult) -> None:
        """Back into the queue with what the PostFilter plugins said."""
        diagnosis = outcome.diagnosis
        diagnosis.postfilter_message = result.status.message if result.status is not None else ""
        message = diagnosis.message()
        self._decided(attempt, outcome, message, Preemption(result.nominated_node or "", result.victims))
        rejectors = frozenset(diagnosis.unschedulable_plugins), frozenset(diagnosis.pending_plugins)
        self.failed(attempt, message, *rejectors, nominated=result.nominated_node)

    def _decided(self, attempt: Attempt, outcome: Outcome, message: str, preemption: Preemption) -> None:
        pod, now = attempt.pod, format_micro_time(self.clock.now())
        attempts = attempt.queued.attempts
        self.decisions.record(pod.key, pod.uid, attempt.profile.name, now, attempts, outcome, message, preemption)

    def _assume(self, attempt: Attempt, node: str) -> Coroutine[Any, Any, None] | None:
        """Count the pod on its node, reserve what it needs there, ask for permission."""
        pod, profile, state = attempt.pod, attempt.profile, attempt.state
        self.cluster.assume(pod, node)
        self.nominator.remove(pod.uid)
        waits: dict[str, float] = {}
        rejection = profile.run_reserve(state, pod, node)
        if rejection is None:
            rejection, waits = profile.run_permit(state, pod, node)
        if rejection is not None:
            self._take_back(attempt, node)
            self._rejected_late(attempt, rejection)
            return None
        return self._bind(attempt, node, waits)

    # ---- binding cycle

    async def _bind(self, attempt: Attempt, node: str, waits: dict[str, float]) -> None:
        """Wait for permission, prepare, bind. A failure undoes the assumption and queues the pod again."""
        pod, profile, state = attempt.pod, attempt.profile, attempt.state
        if waits or profile.has_pre_bind_work(state, pod):
            await _logged("nominate", self._expect(pod, node))
        if waits:
            since = self.clock.monotonic()
            async with self._without_slot():
                rejection = await self.waiting.wait(pod.uid, waits, self.clock)
            self.metrics.permit_waited(rejection.code_name if rejection else "Success", self.clock.monotonic() - since)
            if rejection is not None:
                self._take_back(attempt, node)
                self._rejected_late(attempt, rejection)
                return
        failure = await self._try_bind(profile, state, pod, node)
        if failure is not None:
            self._take_back(attempt, node)
            self.failed(attempt, failure.message, frozenset(), frozenset())
            return
        self._bound(attempt, node)

    def _bound(self, attempt: Attempt, node: str) -> None:
        pod, now = attempt.pod, self.clock.monotonic()
        note = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self.effects.event(pod, "Normal", "Scheduled", "Binding", note, once=True)
        self.metrics.attempted(SCHEDULED, attempt.profile.name, now - attempt.started)
        self.metrics.bound(attempt.queued.attempts, now - (attempt.queued.first_attempt or attempt.started))
        try:
            attempt.profile.run_post_bind(attempt.state, pod, node)
        except BUGS as failed:
            describe(failed)  # the pod is bound, whatever a plugin makes of it

    async def _expect(self, pod: PodInfo, node: str) -> None:
        """Binding may take minutes: tell the world, as cluster autoscalers, where the pod is going (NominatedNodeNameForExpectation)."""
        if pod.nominated_node != node:
            await self.effects.patch_status(pod, {"nominatedNodeName": node})

    async def _try_bind(self, profile: Profile, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """PreBind and Bind; a failing API is a status, too. PreBind may take minutes (volumes), so others get the slot meanwhile."""
        if profile.has_pre_bind_work(state, pod):
            async with self._without_slot():
                failure = await profile.run_pre_bind(state, pod, node)
            if failure is not None:
                return failure
        if self.extended is not None:
            failure = await self.extended.bind(profile, state, pod, node)
        else:
            failure = await profile.run_bind(state, pod, node)
        return error(f"binding rejected: {failure.message}") if failure is not None else None

    @asynccontextmanager
    async def _without_slot(self) -> AsyncIterator[None]:
        """Lend the binding slot to others while waiting."""
        self._slots.release()
        try:
            yield
        finally:
            await self._slots.acquire()

    def _take_back(self, attempt: Attempt, node: str) -> None:
        """Undo an assumption: its room is free again, which may help others."""
        pod = attempt.pod
        attempt.profile.run_unreserve(attempt.state, pod, node)
        was_there = self.cluster.pod(pod.uid)
        self.cluster.forget(pod)
        if was_there is not None:
            self.queue.move(ASSIGNED_POD_DELETE, was_there, None)
            attempt.moves += 1  # its own going is no news to the pod itself

    # ---- failures

    def _rejected_late(self, attempt: Attempt, rejection: Status) -> None:
        """Reserve or Permit said no to the one node that was chosen."""
        if not rejection.is_rejected:
            self.failed(attempt, rejection.message, frozenset(), frozenset())
            return
        message = fit_message(1, dict.fromkeys(rejection.reasons, 1))
        self.failed(attempt, message, frozenset((rejection.plugin,)), frozenset())

    def failed(
        self, attempt: Attempt, message: str, rejectors: frozenset[str], pending: frozenset[str], *, nominated: str | None = None
    ) -> None:
        """Back into the queue, and tell the world why (handleSchedulingFailure). Without rejectors it was an error."""
        rejected, queued = bool(rejectors or pending), attempt.queued
        took = self.clock.monotonic() - attempt.started
        self.metrics.attempted(UNSCHEDULABLE if rejected else ERROR, attempt.profile.name, took)
        current = self.pending.get(queued.uid)
        if current is None:
            return  # deleted, or bound by somebody else, meanwhile
        queued.info = current
        self.queue.rejected(queued, rejectors, pending, attempt.moves)
        if nominated:
            self.nominator.add(current, nominated)
        elif nominated is not None:
            self.nominator.remove(current.uid)
        else:
            self.nominator.update(current)
        self.effects.event(current, "Warning", "FailedScheduling", "Scheduling", truncate(message))
        reason = "Unschedulable" if rejected else "SchedulerError"
        patch = status_patch(current.pod, reason, message, nominated, self.clock.now())
        if patch is not None:
            self.spawn("status", self._patch_status(current, patch))

    async def _patch_status(self, pod: PodInfo, patch: Object) -> None:
        await self.effects.patch_status(pod, patch)


async def _logged(name: str, work: Coroutine[Any, Any, None]) -> None:
    """The border of one piece of background work."""
    try:
        await work
    except API_FAILURES as failed:
        log.warning(f"{name} failed", error=str(failed) or type(failed).__name__)
    except ExceptionGroup as group:
        expected, rest = group.split(API_FAILURES)
        if rest is not None:
            raise
        log.warning(f"{name} failed", error="; ".join(str(one) for one in expected.exceptions) if expected else "")

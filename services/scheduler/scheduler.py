"""The scheduler: takes pods from the queue one by one and decides; what follows a decision for a node is the binding cycle (binding.py).

Deciding is synchronous and holds the event loop for SLICE_SECONDS at most before others get a turn. Binding is a task per pod, so that many
requests are under way together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .algorithm import Algorithm, Outcome
from .binding import Attempt, BindingCycle, logged
from .conditions import status_patch
from .decisions import NO_PREEMPTION, Decisions, Preemption
from .figures import SchedulerFigures
from .framework.defaults import ProfileConfig
from .framework.failures import BUGS, PluginError, describe
from .framework.handle import ApiEffects, Handle
from .framework.interface import CycleState, FilterPlugin, PostFilterResult, QueueSortPlugin
from .framework.profile import Profile
from .framework.status import truncate
from .metrics import ERROR, UNSCHEDULABLE, SchedulerMetrics
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
            self.cluster, clock, rng, self.nominator, effects, disruption_budgets=self.budgets, runner=self,
            preemption_tried=metrics.preemption_tried, preempted=metrics.preempted, evicted=metrics.evicted,
            claim_created=metrics.claim_created, devices_prepared=metrics.devices_prepared,
        )
        self.profiles = {config.scheduler_name: Profile(config, self.handle, metrics) for config in profiles}
        for profile in self.profiles.values():
            profile.hints.observe_with(clock.monotonic, metrics.hinted)
        self.queue = SchedulingQueue(clock, self._common_sort(), self, metrics, limits)
        self.algorithm = Algorithm(self.handle)
        self.decisions = Decisions() if decisions is None else decisions
        self.waiting = WaitingPods()
        self.pending: dict[str, PodInfo] = {}
        """Pods without a node that are ours to schedule, by uid, as the API server has them."""
        self.extended: ExtendedCycle | None = None
        """How pods that concern extenders are scheduled; None without extenders."""
        self.any_update_matters = any(profile.hints.any_update_matters for profile in self.profiles.values())
        """Somebody may refuse pods for reasons that any update of any pod may change: a plugin that says so, or an extender."""
        self.binding = BindingCycle(self, bindings_max)
        self._tasks: asyncio.TaskGroup | None = None
        self._early: list[tuple[str, Coroutine[Any, Any, None]]] = []
        """Work from before `run`."""
        metrics.figures = SchedulerFigures(self)

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
            await self.binding.slots.acquire()
            queued = self.queue.pop()
            binding = await self._decide(queued) if queued is not None else None
            if binding is None:
                self.binding.slots.release()
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
            self.binding.slots.release()

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
            self._tasks.create_task(logged(name, work), name=name)

    def activate(self, uid: str) -> None:
        self.queue.activate(uid)

    def recheck_gates(self, uid: str) -> None:
        self.queue.recheck_gates(uid)

    def preempt_unbound(self, uid: str, plugin: str) -> bool:
        """Send back a pod that Permit or PreBind plugins hold, so that it need not be deleted; False if it is not one."""
        waiting = self.waiting.get(uid)
        if waiting is not None:
            return waiting.preempt(plugin, "preempted")
        preparing = self.binding.preparing.get(uid)
        return preparing is not None and preparing.cancel(f"preempted by {plugin}")

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
        except PluginError as failed:
            self.failed(attempt, str(failed), frozenset(), frozenset(), nominated="")
            return None
        except BUGS as failed:
            self.broken(attempt, failed)
            return None
        self.metrics.algorithm(self.clock.monotonic() - attempt.started)
        return None

    def broken(self, attempt: Attempt, failed: BaseException) -> None:
        """A plugin failed in the midst of an attempt: what it had of the pod so far is undone."""
        if self.cluster.is_assumed(attempt.pod.uid):
            self.binding.take_back(attempt, attempt.pod.node_name)
        self.failed(attempt, f"running plugins: {describe(failed)}", frozenset(), frozenset(), nominated="")
        self.queue.in_flight.land(attempt.pod.uid)

    def begin(self, queued: QueuedPod) -> Attempt | None:
        """An attempt, unless there is nothing to try: the pod is none of ours any more, or there is no node."""
        profile = self.profiles.get(queued.info.scheduler_name)
        if profile is None or self._skip(queued.info):
            return None
        state = CycleState(measured=self.handle.random.random() < MEASURED_SHARE)
        attempt = Attempt(queued, profile, state, self.clock.monotonic(), self.queue.moves)
        if self.cluster.nodes.count == 0:
            everybody = frozenset(name for name, plugin in profile.plugins.items() if isinstance(plugin, FilterPlugin))
            self.failed(attempt, NO_NODES, everybody, frozenset(), nominated="")
            return None
        return attempt

    def place(self, attempt: Attempt, outcome: Outcome) -> Coroutine[Any, Any, None] | None:
        """A node was found: remember why, and begin to bind."""
        self.metrics.algorithm(self.clock.monotonic() - attempt.started)
        self._decided(attempt, outcome, "", NO_PREEMPTION)
        return self.binding.start(attempt, outcome.node)

    def _skip(self, pod: PodInfo) -> bool:
        if pod.is_terminating:
            note = f"skip schedule deleting pod: {pod.namespace}/{pod.name}"
            self.effects.event(pod, "Warning", "FailedScheduling", "Scheduling", note)
            return True
        return self.cluster.pod(pod.uid) is not None

    def _unschedulable(self, attempt: Attempt, outcome: Outcome) -> None:
        """No node fits: ask the PostFilter plugins for help, then put the pod back."""
        profile = attempt.profile
        result = profile.run_post_filter(attempt.state, attempt.pod, outcome.diagnosis) if profile.has_post_filter else PostFilterResult("")
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
        pod, now = attempt.pod, self.clock.now()
        attempts = attempt.queued.attempts
        self.decisions.record(pod.key, pod.uid, attempt.profile.name, now, attempts, outcome, message, preemption)

    # ---- failures

    def failed(
        self, attempt: Attempt, message: str, rejectors: frozenset[str], pending: frozenset[str], *, nominated: str | None = None,
        rejected: bool = False,
    ) -> None:  # fmt: skip
        """Back into the queue, and tell the world why (handleSchedulingFailure). Without rejectors it was an error, unless `rejected`."""
        queued, rejected = attempt.queued, rejected or bool(rejectors or pending)
        took = self.clock.monotonic() - attempt.started
        self.metrics.attempted(UNSCHEDULABLE if rejected else ERROR, attempt.profile.name, took)
        current = self.pending.get(queued.uid)
        self.effects.event(current or attempt.pod, "Warning", "FailedScheduling", "Scheduling", truncate(message))
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
        reason = "Unschedulable" if rejected else "SchedulerError"
        patch = status_patch(current.pod, reason, message, nominated, self.clock.now())
        if patch is not None:
            self.spawn("status", self._patch_status(current, patch))

    async def _patch_status(self, pod: PodInfo, patch: Object) -> None:
        await self.effects.patch_status(pod, patch)

"""The binding cycle: from the decision for a node to the pod's being bound there, or back in the queue (bindingCycle).

A pod counts on its node from the moment of the decision. Many cycles run at once; one that waits, for permission or for volumes, lends its
slot to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubecosm.runtime.logs import get_logger

from .framework.events import ASSIGNED_POD_DELETE
from .framework.failures import API_FAILURES
from .framework.interface import CycleState
from .framework.profile import Profile
from .framework.status import Code, Status, fit_message
from .metrics import SCHEDULED
from .queue.podqueue import QueuedPod
from .state.podinfo import PodInfo
from .waiting import PreparedPod

if TYPE_CHECKING:
    from .scheduler import Scheduler

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


class BindingCycle:
    """Binds the pods of one scheduler, `slots` of them at once."""

    def __init__(self, scheduler: Scheduler, slots: int) -> None:
        self._scheduler = scheduler
        self.slots = asyncio.Semaphore(slots)
        self.preparing: dict[str, PreparedPod] = {}
        """Pods whose PreBind plugins run, by uid."""

    def start(self, attempt: Attempt, node: str) -> Coroutine[Any, Any, None] | None:
        """Count the pod on its node, reserve what it needs there, ask for permission."""
        pod, profile, state = attempt.pod, attempt.profile, attempt.state
        self._scheduler.queue.in_flight.leave(pod.uid, attempt.moves)
        self._scheduler.cluster.assume(pod, node)
        self._scheduler.nominator.remove(pod.uid)
        waits: dict[str, float] = {}
        rejection = profile.run_reserve(state, pod, node)
        if rejection is None:
            rejection, waits = profile.run_permit(state, pod, node)
        if rejection is not None:
            self.take_back(attempt, node)
            self._rejected_late(attempt, rejection)
            self._scheduler.queue.in_flight.land(pod.uid)
            return None
        if waits:
            self._scheduler.waiting.hold(pod, waits)
        return self._run(attempt, node, bool(waits))

    async def _run(self, attempt: Attempt, node: str, waits: bool) -> None:
        try:
            await self._bind(attempt, node, waits)
        finally:
            self._scheduler.queue.in_flight.land(attempt.pod.uid)

    async def _bind(self, attempt: Attempt, node: str, waits: bool) -> None:
        """Wait for permission, prepare, bind. A failure undoes the assumption and queues the pod again."""
        pod, profile, state = attempt.pod, attempt.profile, attempt.state
        prepares = profile.has_pre_bind_work(state, pod)
        if isinstance(prepares, Status):
            self._scheduler.waiting.drop(pod.uid)
            self._not_bound(attempt, node, prepares)
            return
        if waits or prepares:
            await logged("nominate", self._expect(pod, node))
        if waits:
            rejection = await self._wait_permission(pod)
            if rejection is not None:
                self.take_back(attempt, node)
                self._rejected_late(attempt, rejection)
                return
        failure = None
        if prepares:
            failure = await self._prepare(profile, state, pod, node)
        else:
            profile.without_pre_bind()
        if failure is None:
            failure = await self._send(profile, state, pod, node)
        if failure is None:
            self._bound(attempt, node)
        else:
            self._not_bound(attempt, node, failure)

    def _not_bound(self, attempt: Attempt, node: str, failure: Status) -> None:
        self.take_back(attempt, node)
        self._scheduler.failed(attempt, failure.message, frozenset(), frozenset(), nominated="", rejected=failure.is_rejected)

    async def _wait_permission(self, pod: PodInfo) -> Status | None:
        """Until all Permit plugins that asked for it allow the pod, or one rejects it."""
        scheduler = self._scheduler
        since = scheduler.clock.monotonic()
        async with self._without_slot():
            rejection = await scheduler.waiting.wait(pod.uid, scheduler.clock)
        scheduler.metrics.permit_waited(rejection.code_name if rejection else "Success", scheduler.clock.monotonic() - since)
        return rejection

    def _bound(self, attempt: Attempt, node: str) -> None:
        pod, now = attempt.pod, self._scheduler.clock.monotonic()
        note = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self._scheduler.effects.event(pod, "Normal", "Scheduled", "Binding", note, once=True)
        self._scheduler.metrics.attempted(SCHEDULED, attempt.profile.name, now - attempt.started)
        since_first = now - (attempt.queued.first_attempt or attempt.started)
        self._scheduler.metrics.bound(attempt.queued.attempts, since_first, flushed=attempt.queued.flushed)
        attempt.profile.run_post_bind(attempt.state, pod, node)

    async def _expect(self, pod: PodInfo, node: str) -> None:
        """Binding may take minutes: tell the world, as cluster autoscalers, where the pod is going (NominatedNodeNameForExpectation)."""
        if pod.nominated_node != node:
            await self._scheduler.effects.patch_status(pod, {"nominatedNodeName": node})

    async def _prepare(self, profile: Profile, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """PreBind, which may take minutes (volumes), so others get the slot meanwhile."""
        preparing = self.preparing[pod.uid] = PreparedPod()
        try:
            async with self._without_slot():
                return await preparing.prepare(profile.run_pre_bind(state, pod, node))
        finally:
            del self.preparing[pod.uid]

    async def _send(self, profile: Profile, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Bind; a failing API is a status, too."""
        if self._scheduler.extended is not None:
            return await self._scheduler.extended.bind(profile, state, pod, node)
        return await profile.run_bind(state, pod, node)

    @asynccontextmanager
    async def _without_slot(self) -> AsyncIterator[None]:
        """Lend the binding slot to others while waiting."""
        self.slots.release()
        try:
            yield
        finally:
            await self.slots.acquire()

    def take_back(self, attempt: Attempt, node: str) -> None:
        """Undo an assumption: its room is free again, which may help others."""
        pod = attempt.pod
        attempt.profile.run_unreserve(attempt.state, pod, node)
        was_there = self._scheduler.cluster.pod(pod.uid)
        self._scheduler.cluster.forget(pod)
        if was_there is not None:
            self._scheduler.queue.move(ASSIGNED_POD_DELETE, was_there, None)

    def _rejected_late(self, attempt: Attempt, rejection: Status) -> None:
        """Reserve or Permit said no to the one node that was chosen."""
        if not rejection.is_rejected:
            self._scheduler.failed(attempt, rejection.message, frozenset(), frozenset(), nominated="")
            return
        message = fit_message(1, dict.fromkeys(rejection.reasons, 1))
        pending = rejection.code is Code.PENDING
        rejectors, waits = frozenset((rejection.plugin,)) if rejection.plugin else frozenset(), frozenset[str]()
        self._scheduler.failed(attempt, message, *((waits, rejectors) if pending else (rejectors, waits)), nominated="", rejected=True)


async def logged(name: str, work: Coroutine[Any, Any, None]) -> None:
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

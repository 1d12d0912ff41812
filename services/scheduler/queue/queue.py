"""The scheduling queue (backend/queue): active, back-off, and unschedulable pods.

- active: to be tried, in the order of the QueueSort plugin.
- back-off: to be tried once a penalty has passed, 1 s doubling to 10 s per rejected attempt; sooner when nothing else waits.
- unschedulable: rejected, waiting for a cluster event that the rejecting plugins care about, for five minutes at most.
- gated: held by a PreEnqueue plugin until an event comes that this plugin cares about; in incoming pods they count as unschedulable.

Decisions are synchronous, so no event slips in between a decision and its coming back here. Where a pod comes back later (extenders were
asked, its binding failed), the events it has missed are asked about then (inflight.py).
`wait_ready` sleeps until there is work: nothing polls.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kubecosm.runtime.clock import Clock

from ..framework.events import (
    ASSIGNED_POD_DELETE,
    BACKOFF_COMPLETE,
    FORCE_ACTIVATE,
    POD_ADD,
    POP_FROM_BACKOFF,
    SCHEDULE_ATTEMPT_FAILURE,
    UNSCHEDULABLE_TIMEOUT,
    ClusterEvent,
)
from ..framework.interface import QueueSortPlugin
from ..state.podinfo import PodInfo
from .hints import HintMap, Worth
from .inflight import InFlight
from .podqueue import PodHeap, QueuedPod, UnschedulablePods


@dataclass(frozen=True, slots=True)
class QueueLimits:
    initial_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 10.0
    unschedulable_seconds_max: float = 300.0
    """After this a rejected pod is tried again even without an event."""


class QueueObserver(Protocol):
    """Told of what happens, for metrics."""

    def incoming(self, queue: str, event: str) -> None: ...

    def handled(self, event: str, seconds: float) -> None: ...


class QueueRules(Protocol):
    """What the queue asks of the profiles."""

    def gate(self, pod: PodInfo) -> str:
        """The PreEnqueue plugin that holds the pod back, or empty."""

    def hints(self, scheduler_name: str) -> HintMap: ...


class SchedulingQueue:
    def __init__(
        self, clock: Clock, sort: QueueSortPlugin, rules: QueueRules, observer: QueueObserver, limits: QueueLimits | None = None
    ) -> None:
        self._clock = clock
        self._sort = sort
        self._rules = rules
        self._observer = observer
        self._limits = limits or QueueLimits()
        self.active = PodHeap(sort.queue_key)
        self.backoff = PodHeap(self._backoff_key)
        self.error_backoff = PodHeap(lambda pod: pod.backoff_until)
        self.unschedulable = UnschedulablePods()
        self.gated = UnschedulablePods()
        self.in_flight = InFlight()
        """Pods whose attempt waits for somebody: they come back by themselves."""
        self.moves = 0
        """How many events there have been."""
        self._ready = asyncio.Event()
        self._rescheduled = asyncio.Event()
        self._alarm_at = math.inf

    # ---- what waits

    def get(self, uid: str) -> QueuedPod | None:
        heaps = (self.active, self.backoff, self.error_backoff, self.unschedulable, self.gated)
        return next((pod for heap in heaps if (pod := heap.get(uid)) is not None), None)

    def depths(self) -> dict[str, int]:
        """How many pods wait in each queue, by the names of scheduler_pending_pods."""
        return {
            "active": len(self.active), "backoff": len(self.backoff) + len(self.error_backoff),
            "unschedulable": len(self.unschedulable), "gated": len(self.gated),
        }  # fmt: skip

    def __iter__(self) -> Iterator[QueuedPod]:
        for heap in (self.active, self.backoff, self.error_backoff):
            yield from heap
        yield from self.unschedulable
        yield from self.gated

    # ---- pods come, change and go

    def add(self, pod: PodInfo) -> None:
        """A pod that nobody has tried yet."""
        self.delete(pod.uid)
        self._activate(QueuedPod(pod, self._clock.monotonic()), POD_ADD.label)

    def update(self, old: PodInfo, pod: PodInfo, events: Sequence[ClusterEvent]) -> None:
        """The pod changed; `events` say how. Unknown pods are added; of one that is away, it is remembered for its return."""
        if pod.uid in self.in_flight:
            for event in events:
                self._happened(event, old, pod)
            return
        queued = self.get(pod.uid)
        if queued is None:
            self.add(pod)
            return
        queued.info = pod
        if pod.uid in self.gated or pod.uid in self.unschedulable:
            hints = self._rules.hints(pod.scheduler_name)
            for event in events:
                worth = hints.worth(queued, event, old, pod)
                if worth is not Worth.NOTHING:
                    self._requeue(queued, event.label, at_once=worth is Worth.AT_ONCE)
                    break
        else:
            for heap in (self.active, self.backoff):
                if heap.get(pod.uid):
                    heap.push(queued)

    def delete(self, uid: str) -> None:
        """The pod is gone, or has found its node."""
        for heap in (self.active, self.backoff, self.error_backoff):
            heap.remove(uid)
        self.unschedulable.pop(uid)
        self.gated.pop(uid)

    # ---- attempts

    def pop(self) -> QueuedPod | None:
        """The next pod to try, now; None if there is none. Counts the attempt."""
        self.flush()
        pod = self.active.pop()
        if pod is None:
            pod = self._pop_from_backoff()
            if pod is None:
                return None
        pod.attempts += 1
        if pod.first_attempt is None:
            pod.first_attempt = self._clock.monotonic()
        pod.unschedulable_plugins = pod.pending_plugins = frozenset()
        return pod

    def _pop_from_backoff(self) -> QueuedPod | None:
        """Nothing else waits, so a penalty would serve nobody; pods that met an error are spared nothing."""
        pod = self.backoff.pop()
        if pod is not None:
            self._observer.incoming("active", POP_FROM_BACKOFF)
        return pod

    def rejected(self, pod: QueuedPod, unschedulable: frozenset[str], pending: frozenset[str], moves: int | None = None) -> None:
        """An attempt failed: by these plugins, or by an error if there are none. (AddUnschedulableIfNotPresent)

        `moves` as it was when the attempt began: events since then may have been for this pod, so it need not wait for another.
        """
        pod.unschedulable_plugins, pod.pending_plugins = unschedulable, pending
        pod.flushed = False
        pod.timestamp = self._clock.monotonic()
        if pod.rejectors:
            pod.unschedulable_count += 1
            pod.consecutive_errors = 0
            worth = Worth.NOTHING if moves is None else self._missed(pod, moves)
            if worth is not Worth.NOTHING:
                self._requeue(pod, SCHEDULE_ATTEMPT_FAILURE, at_once=worth is Worth.AT_ONCE)
                return
            self.unschedulable.add(pod)
            self._observer.incoming("unschedulable", SCHEDULE_ATTEMPT_FAILURE)
            self._set_alarm(pod.timestamp + self._limits.unschedulable_seconds_max)
        else:
            pod.consecutive_errors += 1
            self._back_off(pod, SCHEDULE_ATTEMPT_FAILURE)

    def _missed(self, pod: QueuedPod, since: int) -> Worth:
        """What the events since then make of the pod; that it was taken off its node itself is no news to it."""
        missed = self.in_flight.missed(pod.uid, since, self.moves)
        if missed is None:
            return Worth.AFTER_BACKOFF
        hints, best = self._rules.hints(pod.info.scheduler_name), Worth.NOTHING
        for _, event, old, new in missed:
            if event is ASSIGNED_POD_DELETE and old.uid == pod.uid:
                continue
            worth = hints.worth(pod, event, old, new)
            if worth is Worth.AT_ONCE:
                return worth
            best = best if worth is Worth.NOTHING else worth
        return best

    def activate(self, uid: str) -> None:
        """Try this pod at once, whatever it waits for but a gate that is still there; one that is away, when it comes back."""
        if uid in self.in_flight:
            self._happened(FORCE_ACTIVATE, None, None)
        if (pod := self.backoff.remove(uid) or self.error_backoff.remove(uid)) is not None:
            self._push(pod, FORCE_ACTIVATE.label)
        elif (pod := self.unschedulable.pop(uid) or self.gated.pop(uid)) is not None:
            self._activate(pod, FORCE_ACTIVATE.label)

    def recheck_gates(self, uid: str) -> None:
        """If the pod is gated, ask the PreEnqueue plugins again."""
        if uid in self.gated:
            self.activate(uid)

    def recheck_gated_by(self, plugin: str) -> None:
        """Ask again about all pods that this plugin holds back."""
        for uid in [pod.uid for pod in self.gated if pod.gated_by == plugin]:
            self.activate(uid)

    # ---- events

    def move(self, event: ClusterEvent, old: Any = None, new: Any = None, *, up_to: int | None = None) -> None:
        """Something happened in the cluster: requeue the pods for which it may matter, those that plugins rejected and those they gate.

        `up_to`: it can only matter to pods of this priority or less.
        """
        started = self._clock.monotonic()
        self._happened(event, old, new)
        for pods in (self.unschedulable, self.gated):
            for group in pods.groups():
                scheduler_name, rejectors = group
                hints = self._rules.hints(scheduler_name)
                if not hints.may_help(rejectors, event):
                    continue
                for pod in pods.members(group):
                    if up_to is not None and pod.info.priority > up_to:
                        continue
                    worth = hints.worth(pod, event, old, new)
                    if worth is not Worth.NOTHING:
                        self._requeue(pod, event.label, at_once=worth is Worth.AT_ONCE)
        self._observer.handled(event.label, self._clock.monotonic() - started)

    def _happened(self, event: ClusterEvent, old: Any, new: Any) -> None:
        self.moves += 1
        self.in_flight.happened(self.moves, event, old, new)

    def _requeue(self, pod: QueuedPod, event: str, *, at_once: bool = False) -> None:
        """Out of the unschedulable pods, into the back-off queue while its penalty lasts."""
        self.unschedulable.pop(pod.uid)
        self.gated.pop(pod.uid)
        pod.backoff_until = pod.timestamp + self.backoff_seconds(pod)
        if at_once or pod.backoff_until <= self._clock.monotonic():
            self._activate(pod, event)
        else:
            self._back_off(pod, event)

    def _activate(self, pod: QueuedPod, event: str) -> None:
        """Into the active queue, unless a PreEnqueue plugin objects."""
        if not self._is_gated(pod, event):
            self._push(pod, event)

    def _push(self, pod: QueuedPod, event: str) -> None:
        self.active.push(pod)
        self._observer.incoming("active", event)
        self._ready.set()

    def _is_gated(self, pod: QueuedPod, event: str) -> bool:
        """Ask the PreEnqueue plugins: before a pod becomes active, or before it backs off, for which it is not asked again."""
        pod.gated_by = self._rules.gate(pod.info)
        if pod.gated_by:
            self.gated.add(pod)
            self._observer.incoming("unschedulable", event)
        return bool(pod.gated_by)

    def _back_off(self, pod: QueuedPod, event: str) -> None:
        if self._is_gated(pod, event):
            return
        pod.backoff_until = pod.timestamp + self.backoff_seconds(pod)
        heap = self.backoff if pod.rejectors else self.error_backoff
        heap.push(pod)
        self._observer.incoming("backoff", event)
        if heap is self.backoff:
            self._ready.set()
        self._set_alarm(pod.backoff_until)

    def backoff_seconds(self, pod: QueuedPod) -> float:
        """The penalty for the attempts so far: the first costs the initial back-off, each further one doubles it."""
        count = pod.consecutive_errors or pod.unschedulable_count
        if count == 0:
            return 0.0
        return min(self._limits.initial_backoff_seconds * 2.0 ** min(count - 1, 32), self._limits.max_backoff_seconds)

    def patience_left(self, pod: QueuedPod) -> float:
        """Seconds until an unschedulable pod is tried even without an event."""
        return max(0.0, pod.timestamp + self._limits.unschedulable_seconds_max - self._clock.monotonic())

    def _backoff_key(self, pod: QueuedPod) -> tuple[float, Any]:
        """Back-offs that end within the same second go by the order of the active queue."""
        return math.ceil(pod.backoff_until), self._sort.queue_key(pod)

    # ---- time

    def flush(self) -> None:
        """Activate pods whose back-off has passed, and those that have been unschedulable for too long."""
        now = self._clock.monotonic()
        if now < self._alarm_at:
            return
        for heap in (self.backoff, self.error_backoff):
            while (first := heap.peek()) is not None and first.backoff_until <= now:
                heap.pop()
                self._push(first, BACKOFF_COMPLETE)
        oldest = now - self._limits.unschedulable_seconds_max
        while (waiting := self.unschedulable.first()) is not None and waiting.timestamp <= oldest:
            waiting.flushed = True
            self._requeue(waiting, UNSCHEDULABLE_TIMEOUT.label)
        self._alarm_at = self.next_deadline()

    def next_deadline(self) -> float:
        """When `flush` next has something to do; infinity if nothing waits for time."""
        ends = [first.backoff_until for heap in (self.backoff, self.error_backoff) if (first := heap.peek()) is not None]
        waiting = self.unschedulable.first()
        if waiting is not None:
            ends.append(waiting.timestamp + self._limits.unschedulable_seconds_max)
        return min(ends, default=math.inf)

    def _set_alarm(self, at: float) -> None:
        if at < self._alarm_at:
            self._alarm_at = at
            self._rescheduled.set()

    async def wait_ready(self) -> None:
        """Return when `pop` may have a pod."""
        while not (len(self.active) or len(self.backoff) or self._alarm_at <= self._clock.monotonic()):
            self._ready.clear()
            await self._ready.wait()

    async def run(self) -> None:
        """Wake `wait_ready` as deadlines pass, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._rescheduled.clear()
                alarm = tasks.create_task(self._ring(), name="queue-alarm") if self._alarm_at < math.inf else None
                await self._rescheduled.wait()
                if alarm is not None:
                    alarm.cancel()

    async def _ring(self) -> None:
        await self._clock.sleep(max(0.0, self._alarm_at - self._clock.monotonic()))
        self.flush()
        self._ready.set()
        self._rescheduled.set()

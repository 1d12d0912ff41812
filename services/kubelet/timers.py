"""Many deadlines, one sleeper: callbacks at cluster times without a task per timer.

Everything the kubelet does later (probes, back-off, leases, grace periods, simulated exits) is one entry in one heap.
An idle heap costs nothing. Times follow the injected Clock.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from kubecosm.runtime.clock import Clock

COMPACT_DEAD_MIN = 1024
"""Cancelled entries are swept out once there are so many and they are the majority."""


class Timer:
    """A pending callback; `cancel()` is cheap and idempotent."""

    __slots__ = ("_owner", "callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None] | None, owner: Timers) -> None:
        self.deadline = deadline
        self.callback = callback
        self._owner = owner

    def __lt__(self, other: Timer) -> bool:
        return self.deadline < other.deadline

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._owner._count_dead()


class Timers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._dead = 0
        self._sleeper: asyncio.Task[None] | None = None
        self._added = asyncio.Event()
        self._sleeping_until = float("inf")

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run the callback after so many cluster seconds; it must not block or raise."""
        timer = Timer(self._clock.monotonic() + max(0.0, seconds), callback, self)
        heapq.heappush(self._heap, timer)
        if timer.deadline < self._sleeping_until:
            self._added.set()
            if self._sleeper is not None:
                self._sleeper.cancel()
        return timer

    async def run(self) -> None:
        """Fire timers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._added.clear()
                delay = self._fire_due()
                if self._added.is_set():
                    continue
                if delay is None:
                    await self._added.wait()
                    continue
                self._sleeper = tasks.create_task(self._clock.sleep(delay), name="timers-sleep")
                await asyncio.wait((self._sleeper,))
                self._sleeper = None
                self._sleeping_until = float("inf")

    def _fire_due(self) -> float | None:
        """Run what is due; returns seconds to the next deadline, None if there is none."""
        heap = self._heap
        now = self._clock.monotonic()
        while heap:
            timer = heap[0]
            if timer.callback is None:
                heapq.heappop(heap)
                self._dead -= 1
            elif timer.deadline <= now:
                heapq.heappop(heap)
                callback, timer.callback = timer.callback, None
                callback()
            else:
                self._sleeping_until = timer.deadline
                return timer.deadline - now
        self._sleeping_until = float("inf")
        return None

    def _count_dead(self) -> None:
        self._dead += 1
        if self._dead > COMPACT_DEAD_MIN and self._dead * 2 > len(self._heap):
            self._heap = [timer for timer in self._heap if timer.callback is not None]
            heapq.heapify(self._heap)
            self._dead = 0

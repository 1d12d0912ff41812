"""The queue of work items that every controller runs on.

Promises: a key waits once however often it is added; the earliest deadline wins; a key is never handed out twice at once, and what is added
while it is worked on is held until `done`; failures back off per key and, together, by a token bucket. Imitates
k8s.io/client-go/util/workqueue, except that a key has one deadline: adding it for now also covers an earlier request for later.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from kubecosm.client.metrics import QueueMetrics

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

K = TypeVar("K", bound=Hashable)

BACKOFF_SECONDS_FIRST = 0.005
BACKOFF_SECONDS_MAX = 1000.0
RETRIES_PER_SECOND_MAX = 100.0
"""All keys of one queue together, after a burst. client-go allows 10, to spare a shared server; ours is to heal within a second."""
RETRIES_BURST = 1000
VOID_ENTRIES_MAX = 1000
"""Entries of the heap of deadlines that may be void before it is built anew."""


class RateLimiter:
    """When a failed key may be tried again: exponential per key, and no more than a rate for all keys together."""

    def __init__(
        self, clock: Clock, *, first: float = BACKOFF_SECONDS_FIRST, max: float = BACKOFF_SECONDS_MAX,
        per_second: float = RETRIES_PER_SECOND_MAX, burst: int = RETRIES_BURST,
    ) -> None:  # fmt: skip
        self._clock, self._first, self._max = clock, first, max
        self._failures: dict[Hashable, int] = {}
        self._per_second, self._burst = per_second, burst
        self._tokens, self._tokens_at = float(burst), clock.monotonic()

    def wait_seconds(self, key: Hashable) -> float:
        """Count one more failure of `key` and say how long to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        own = min(self._first * 2.0 ** min(failures, 64), self._max)
        return max(own, self._shared_wait())

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: Hashable) -> None:
        """It worked: its next failure waits the first time again."""
        self._failures.pop(key, None)

    def _shared_wait(self) -> float:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._per_second) - 1
        self._tokens_at = now
        return max(0.0, -self._tokens / self._per_second)


class WorkQueue(Generic[K]):
    """`add*` from anywhere on the loop, `get` and `done` by whoever works; `run` must be running for deadlines to pass."""

    def __init__(self, clock: Clock, *, limiter: RateLimiter | None = None, metrics: QueueMetrics | None = None) -> None:
        self._clock = clock
        self._limiter = limiter or RateLimiter(clock)
        self._metrics = metrics or QueueMetrics()
        self._ready: OrderedDict[K, float] = OrderedDict()  # key → since when, in the order of work
        self._deadlines: dict[K, float] = {}  # keys that wait for their time
        self._heap: list[tuple[float, int, K]] = []  # deadlines in order; entries that _deadlines contradicts are void
        self._working: dict[K, float] = {}  # key → since when
        self._held: dict[K, float] = {}  # keys added while worked on → deadline
        self._sequence = itertools.count()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._sooner = asyncio.Event()  # the earliest deadline has changed
        self._metrics.watch(self._unfinished_seconds, self._longest_seconds)

    # Adding

    def add(self, key: K) -> None:
        """Work on `key` as soon as possible."""
        if key in self._working:
            self._held[key] = -math.inf
        elif key not in self._ready:
            self._deadlines.pop(key, None)
            self._make_ready(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` no later than after so many seconds; an earlier deadline stays."""
        if seconds <= 0:
            self.add(key)
            return
        self._add_at(key, self._clock.monotonic() + seconds)

    def add_rate_limited(self, key: K) -> None:
        """Work on `key` again after its back-off."""
        self._metrics.retried()
        self.add_after(key, self._limiter.wait_seconds(key))

    def forget(self, key: K) -> None:
        """End the back-off of `key`."""
        self._limiter.forget(key)

    def failures(self, key: K) -> int:
        """How often `key` was added with back-off since it was last forgotten."""
        return self._limiter.failures(key)

    def discard(self, key: K) -> None:
        """Drop `key` unless it is being worked on; then drop only what was added meanwhile."""
        self._deadlines.pop(key, None)
        self._held.pop(key, None)
        if self._ready.pop(key, None) is not None:
            self._metrics.depth(len(self._ready))

    # Working

    async def get(self) -> K:
        """The next key that is due; the caller must call `done` with it."""
        while not self._ready:
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake_one()  # the wake-up was ours; hand it on
                raise
        return self.get_nowait()

    def get_nowait(self) -> K:
        """As `get`; raises IndexError when nothing is due."""
        if not self._ready:
            raise IndexError("no key is due")
        key, since = self._ready.popitem(last=False)
        now = self._clock.monotonic()
        self._working[key] = now
        self._metrics.depth(len(self._ready))
        self._metrics.waited(now - since)
        return key

    def done(self, key: K) -> None:
        """The work on `key` has ended; what was added meanwhile counts from now on."""
        started = self._working.pop(key)
        self._metrics.worked(self._clock.monotonic() - started)
        deadline = self._held.pop(key, None)
        if deadline is not None:
            self._add_at(key, deadline)

    async def run(self) -> None:
        """Make keys due as their time comes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._sooner.clear()
                self._promote()
                alarm = tasks.create_task(self._ring_at(self._heap[0][0]), name="workqueue-alarm") if self._heap else None
                await self._sooner.wait()
                if alarm is not None:
                    alarm.cancel()

    def __len__(self) -> int:
        """How many keys are due and wait for a worker."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing is due, waits for its time, or is worked on."""
        return not (self._ready or self._deadlines or self._working)

    # Inside

    def _add_at(self, key: K, deadline: float) -> None:
        if key in self._working:
            self._held[key] = min(deadline, self._held.get(key, deadline))
        elif deadline <= self._clock.monotonic():
            self.add(key)
        elif key not in self._ready and deadline < self._deadlines.get(key, math.inf):
            self._deadlines[key] = deadline
            if len(self._heap) > VOID_ENTRIES_MAX + 2 * len(self._deadlines):
                self._heap = [(due, next(self._sequence), waiting) for waiting, due in self._deadlines.items()]
                heapq.heapify(self._heap)
            else:
                heapq.heappush(self._heap, (deadline, next(self._sequence), key))
            if self._heap[0][2] is key:
                self._sooner.set()

    def _make_ready(self, key: K) -> None:
        self._ready[key] = self._clock.monotonic()
        self._metrics.added()
        self._metrics.depth(len(self._ready))
        self._wake_one()

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _promote(self) -> None:
        """Make due what is due, and drop void entries from the front of the heap."""
        now = self._clock.monotonic()
        while self._heap:
            deadline, _, key = self._heap[0]
            if self._deadlines.get(key) == deadline:
                if deadline > now:
                    return
                del self._deadlines[key]
                self._make_ready(key)
            heapq.heappop(self._heap)

    def _unfinished_seconds(self) -> float:
        now = self._clock.monotonic()
        return sum(now - since for since in self._working.values())

    def _longest_seconds(self) -> float:
        return max((self._clock.monotonic() - since for since in self._working.values()), default=0.0)

    async def _ring_at(self, deadline: float) -> None:
        await self._clock.sleep(max(0.0, deadline - self._clock.monotonic()))
        self._sooner.set()

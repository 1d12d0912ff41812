"""Writes to the storage, counted by resource and operation; one in SAMPLED is timed, from its being asked for to its being durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubecosm.runtime.metrics import REQUEST_DURATION_BUCKETS

from ..tallies import SAMPLED, Durations
from .contract import Written


class Calls:
    """Those of one operation on one resource."""

    __slots__ = ("_now", "count", "errors", "samples")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.count = 0
        self.errors = 0
        """Calls that failed: whoever sees the failure counts it."""
        self.samples = Durations(REQUEST_DURATION_BUCKETS)

    def sampled(self, call: Awaitable[Written]) -> Awaitable[Written]:
        """The next call, mostly as it is."""
        self.count += 1
        return call if self.count % SAMPLED != 1 else self._timed(call)

    async def _timed(self, call: Awaitable[Written]) -> Written:
        started = self._now()
        try:
            return await call
        finally:
            self.samples.observe(self._now() - started)

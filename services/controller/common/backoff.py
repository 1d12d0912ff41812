"""Back-off per thing that fails, which outlives a work item (client-go's flowcontrol.Backoff)."""

from __future__ import annotations

from datetime import datetime, timedelta

FORGET_FACTOR = 2
"""A thing that has been quiet for this many times the longest wait is forgotten."""


class Backoffs:
    """How long things that failed must wait, doubling with each failure."""

    def __init__(self, seconds_first: float, seconds_max: float) -> None:
        self._first, self._max = seconds_first, seconds_max
        self._entries: dict[str, tuple[datetime, float]] = {}  # in order of the last failure: thing → (when, wait)

    def next(self, thing: str, now: datetime) -> float:
        """It failed (again); returns the seconds it must wait now."""
        self._forget_old(now)
        last = self._entries.pop(thing, None)
        wait = min(last[1] * 2, self._max) if last is not None else self._first
        self._entries[thing] = (now, wait)
        return wait

    def seconds_left(self, thing: str, now: datetime) -> float:
        """What is left of the wait; 0 when it is over."""
        entry = self._entries.get(thing)
        return max((entry[0] - now).total_seconds() + entry[1], 0.0) if entry is not None else 0.0

    def _forget_old(self, now: datetime) -> None:
        horizon = now - timedelta(seconds=self._max * FORGET_FACTOR)
        for thing, (moment, _) in list(self._entries.items()):
            if moment > horizon:
                return
            del self._entries[thing]

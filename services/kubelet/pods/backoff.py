"""Crash-loop and image back-off: 10 s doubling to 5 min, forgotten after 10 quiet minutes (client-go util/flowcontrol Backoff)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

BACKOFF_SECONDS_MIN = 10.0
BACKOFF_SECONDS_MAX = 300.0


@dataclass(slots=True)
class _Entry:
    seconds: float
    last_update: datetime


class Backoff:
    """Delays by key; a key is a container of a pod (or its image)."""

    def __init__(self, minimum: float = BACKOFF_SECONDS_MIN, maximum: float = BACKOFF_SECONDS_MAX) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._entries: dict[str, _Entry] = {}

    def remaining(self, key: str, since: datetime, now: datetime) -> float:
        """Seconds still to wait after something ended at `since`; 0 when it may go on (IsInBackOffSince)."""
        entry = self._entries.get(key)
        if entry is None or self._has_expired(entry, since):
            return 0.0
        return max(0.0, entry.seconds - (now - since).total_seconds())

    def delay(self, key: str) -> float:
        """The whole present delay in seconds; 0 if there is none."""
        entry = self._entries.get(key)
        return entry.seconds if entry else 0.0

    def next(self, key: str, at: datetime) -> None:
        """Count one more attempt: start at the minimum, else double."""
        entry = self._entries.get(key)
        if entry is None or self._has_expired(entry, at):
            self._entries[key] = _Entry(self._minimum, at)
        else:
            entry.seconds = min(entry.seconds * 2, self._maximum)
            entry.last_update = at

    def restore(self, key: str, restarts: int, at: datetime) -> None:
        """Rebuild an entry after a restart of the kubelet, from the number of restarts that the status tells."""
        if restarts > 0:
            self._entries[key] = _Entry(min(self._minimum * 2 ** min(restarts - 1, 16), self._maximum), at)

    def forget(self, prefix: str) -> None:
        """Drop all keys of a pod."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]

    def _has_expired(self, entry: _Entry, at: datetime) -> bool:
        return at - entry.last_update > timedelta(seconds=self._maximum * 2)


def format_delay(seconds: float) -> str:
    """As Go prints a Duration: `10s`, `1m20s`, `5m0s`."""
    whole = int(seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds >= 0.0005 else "0s"
    minutes, rest = divmod(whole, 60)
    fraction = f"{seconds - whole:.3f}".rstrip("0").rstrip(".")[1:]
    return f"{minutes}m{rest}{fraction}s" if minutes else f"{rest}{fraction}s"

"""Crash-loop and image back-off: 10 s doubling to 5 min, forgotten after 10 quiet minutes (client-go util/flowcontrol Backoff)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubecosm.api.resources import Object

BACKOFF_SECONDS_MIN = 10.0
BACKOFF_SECONDS_MAX = 300.0


@dataclass(slots=True)
class _Entry:
    seconds: float
    last_update: datetime


class Backoff:
    """Delays by pod (uid) and what of it is delayed: a container, or an image."""

    def __init__(self, minimum: float = BACKOFF_SECONDS_MIN, maximum: float = BACKOFF_SECONDS_MAX) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._entries: dict[str, dict[str, _Entry]] = {}

    def remaining(self, uid: str, what: str, since: datetime, now: datetime) -> float:
        """Seconds still to wait after something ended at `since`; 0 when it may go on (IsInBackOffSince)."""
        entry = self._entry(uid, what)
        if entry is None or self._has_expired(entry, since):
            return 0.0
        return max(0.0, entry.seconds - (now - since).total_seconds())

    def delay(self, uid: str, what: str) -> float:
        """The whole present delay in seconds; 0 if there is none."""
        entry = self._entry(uid, what)
        return entry.seconds if entry else 0.0

    def next(self, uid: str, what: str, at: datetime) -> None:
        """Count one more attempt: start at the minimum, else double."""
        entry = self._entry(uid, what)
        if entry is None or self._has_expired(entry, at):
            self._entries.setdefault(uid, {})[what] = _Entry(self._minimum, at)
        else:
            entry.seconds = min(entry.seconds * 2, self._maximum)
            entry.last_update = at

    def restore(self, uid: str, what: str, restarts: int, at: datetime) -> None:
        """Rebuild an entry after a restart of the kubelet, from the number of restarts that the status tells."""
        if restarts > 0:
            seconds = min(self._minimum * 2 ** min(restarts - 1, 16), self._maximum)
            self._entries.setdefault(uid, {})[what] = _Entry(seconds, at)

    def forget(self, uid: str) -> None:
        self._entries.pop(uid, None)

    def _entry(self, uid: str, what: str) -> _Entry | None:
        entries = self._entries.get(uid)
        return entries.get(what) if entries else None

    def _has_expired(self, entry: _Entry, at: datetime) -> bool:
        return at - entry.last_update > timedelta(seconds=self._maximum * 2)


def restart_key(spec: Object) -> str:
    """What a container's back-off is counted by: another image or other resources begin anew (kuberuntime's GetBackoffKey)."""
    return f"{spec['name']}_{spec.get('image', '')}_{spec.get('resources') or ''}"


def format_delay(seconds: float) -> str:
    """As Go prints a Duration: `10s`, `1m20s`, `5m0s`."""
    whole = int(seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds >= 0.0005 else "0s"
    minutes, rest = divmod(whole, 60)
    fraction = f"{seconds - whole:.3f}".rstrip("0").rstrip(".")[1:]
    return f"{minutes}m{rest}{fraction}s" if minutes else f"{rest}{fraction}s"

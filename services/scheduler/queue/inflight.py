"""Events that happen while pods are being bound: whoever comes back is judged by what it has missed (activeQueue.inFlightEvents)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..framework.events import ClusterEvent

EVENTS_MAX = 10_000
"""More are not kept: a pod that has been away since before the oldest is tried again after its back-off."""


class Missed(NamedTuple):
    """`number` counts the events of the process."""

    number: int
    event: ClusterEvent
    old: Any
    new: Any


class InFlight:
    """Pods whose attempt waits for somebody, and what happened since the first of them left."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}  # in the order of leaving, so that the first is the oldest
        self._events: deque[Missed] = deque()
        self._kept_from = 0

    def __contains__(self, uid: str) -> bool:
        return uid in self._since

    def leave(self, uid: str, number: int) -> None:
        """The attempt of this pod goes on elsewhere; so many events had happened when it began."""
        if not self._since:
            self._kept_from = number
        self._since[uid] = number

    def land(self, uid: str) -> None:
        """The attempt has ended: events that only this pod has missed are dropped."""
        self._since.pop(uid, None)
        oldest = next(iter(self._since.values()), None)
        if oldest is None:
            self._events.clear()
        else:
            while self._events and self._events[0].number <= oldest:
                self._events.popleft()

    def happened(self, number: int, event: ClusterEvent, old: Any, new: Any) -> None:
        """Called for every event; nothing is kept while no pod is away."""
        if self._since:
            self._events.append(Missed(number, event, old, new))
            if len(self._events) > EVENTS_MAX:
                self._kept_from = self._events.popleft().number

    def missed(self, uid: str, since: int, now: int) -> Iterator[Missed] | None:
        """The events after number `since` (now is the number of the last); None if they were not all kept."""
        if since != now and (uid not in self._since or since < self._kept_from):
            return None
        return (one for one in self._events if one.number > since)

    def counts(self) -> Counter[str]:
        """How many events of each label are kept."""
        return Counter(one.event.label for one in self._events)

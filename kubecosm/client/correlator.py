"""Decides what becomes of an event: a new one, a higher count of an old one, part of a combined one, or nothing.

The rules and figures are those of EventCorrelator in k8s.io/client-go/tools/record/events_cache.go: aggregate, then count, then filter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from kubecosm.api.resources import Object

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

CACHE_ENTRIES_MAX = 4096
AGGREGATE_EVENTS = 10
"""From the tenth different message on, events of one object and reason are combined."""
AGGREGATE_SECONDS = 600.0
SPAM_BURST = 25
SPAM_PER_SECOND = 1 / 300
COMBINED_PREFIX = "(combined from similar events): "

V = TypeVar("V")


class LruCache(Generic[V]):
    """The `entries_max` entries that were used last."""

    def __init__(self, entries_max: int = CACHE_ENTRIES_MAX) -> None:
        self._entries: OrderedDict[Hashable, V] = OrderedDict()
        self._entries_max = entries_max

    def get(self, key: Hashable) -> V | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Hashable, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


@dataclass
class _Similar:
    """Events alike in all but their message."""

    messages: set[str] = field(default_factory=set)
    last_at: float = 0.0


@dataclass
class _Bucket:
    tokens: float
    at: float


class _Counted(NamedTuple):
    name: str
    times: int
    first_timestamp: str


class Correlated(NamedTuple):
    """An event to write: as `patch` of the one that is there, or as a new one."""

    event: Object
    patch: Object | None
    key: Hashable


class Correlator:
    """Remembers what one recorder has written lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._similar: LruCache[_Similar] = LruCache()
        self._counted: LruCache[_Counted] = LruCache()
        self._buckets: LruCache[_Bucket] = LruCache()

    def correlate(self, event: Object) -> Correlated | None:
        """What to write for a new event; None when its object causes too many."""
        event, key = self._aggregate(event)
        before = self._counted.get(key)
        patch: Object | None = None
        if before is not None:
            meta = {**event["metadata"], "name": before.name}
            event = {**event, "metadata": meta, "count": before.times + 1, "firstTimestamp": before.first_timestamp}
            patch = {name: event[name] for name in ("count", "lastTimestamp", "message")}
        self._remember(key, event)
        if not self._admits(event):
            return None
        return Correlated(event, patch, key)

    def recorded(self, correlated: Correlated, answer: Object) -> None:
        """The server took the event; later repeats patch what it answered."""
        self._remember(correlated.key, answer)

    def _remember(self, key: Hashable, event: Object) -> None:
        self._counted.put(key, _Counted(event["metadata"]["name"], event.get("count", 1), event.get("firstTimestamp", "")))

    def _aggregate(self, event: Object) -> tuple[Object, Hashable]:
        alike, now = _alike(event), self._clock.monotonic()
        record = self._similar.get(alike)
        if record is None or now - record.last_at > AGGREGATE_SECONDS:
            record = _Similar()
        record.messages.add(event["message"])
        record.last_at = now
        self._similar.put(alike, record)
        if len(record.messages) < AGGREGATE_EVENTS:
            return event, (alike, event["involvedObject"].get("fieldPath"), event["message"])
        record.messages.pop()  # any one: the set stays at the threshold
        return {**event, "message": COMBINED_PREFIX + event["message"]}, alike

    def _admits(self, event: Object) -> bool:
        key, now = (*event["source"].values(), *_reference(event)), self._clock.monotonic()
        bucket = self._buckets.get(key) or _Bucket(SPAM_BURST, now)
        bucket.tokens = min(SPAM_BURST, bucket.tokens + (now - bucket.at) * SPAM_PER_SECOND)
        bucket.at = now
        self._buckets.put(key, bucket)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _reference(event: Object) -> tuple[Hashable, ...]:
    reference = event["involvedObject"]
    return tuple(reference.get(name) for name in ("kind", "namespace", "name", "uid", "apiVersion"))


def _alike(event: Object) -> Hashable:
    return (*event["source"].values(), *_reference(event), event["type"], event["reason"])

"""EventRateLimit: no more events than so many a second, of all, of a namespace, of a user, or about one thing. Off by default.

Imitates plugin/pkg/admission/eventratelimit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubecosm.api.errors import TooManyRequests
from kubecosm.api.resources import EVENTS, EVENTS_V1, Object, Resource
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError

from .chain import CREATE, UPDATE, Attributes, Plugin

if TYPE_CHECKING:
    from .plugins import Parts

CACHE_SIZE = 4096
"""Namespaces, users or sources remembered; beyond, the one that was quiet the longest starts anew."""


def _source_and_object(attributes: Attributes) -> str:
    obj = attributes.obj or {}
    source, about = obj.get("source") or {}, obj.get("involvedObject") or {}
    fields = ("kind", "namespace", "name", "uid", "apiVersion")
    return "".join([source.get("component", ""), source.get("host", ""), *(about.get(field, "") for field in fields)])


KEYS: Mapping[str, Callable[[Attributes], str]] = {
    "Server": lambda attributes: "",
    "Namespace": lambda attributes: attributes.namespace,
    "User": lambda attributes: attributes.user.name,
    "SourceAndObject": _source_and_object,
}


@dataclass(frozen=True)
class Limit:
    """One entry of the configuration."""

    type: str
    qps: float
    burst: int
    cache_size: int = CACHE_SIZE

    @classmethod
    def parse(cls, raw: Object) -> Limit:
        """Raises StartupError."""
        kind, qps, burst = raw.get("type", ""), raw.get("qps", 0), raw.get("burst", 0)
        if kind not in KEYS or qps <= 0 or burst <= 0:
            raise StartupError(f"EventRateLimit: a limit needs a type ({', '.join(KEYS)}), and qps and burst above 0: {raw}")
        return cls(kind, float(qps), int(burst), int(raw.get("cacheSize") or CACHE_SIZE))


class Buckets:
    """A token bucket for each key of a limit."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Key → (tokens, when that was)."""

    def take(self, key: str, now: float) -> bool:
        """Whether there was a token left."""
        limit = self.limit
        tokens, when = self._filled.pop(key, (float(limit.burst), now))
        tokens = min(float(limit.burst), tokens + (now - when) * limit.qps)
        enough = tokens >= 1
        self._filled[key] = (tokens - 1 if enough else tokens), now
        if len(self._filled) > limit.cache_size:
            self._filled.popitem(last=False)
        return enough


class EventRateLimit(Plugin):
    name = "EventRateLimit"
    operations = (CREATE, UPDATE)

    def __init__(self, limits: Sequence[Limit], clock: Clock) -> None:
        self._clock = clock
        self._buckets = [Buckets(limit) for limit in limits]

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource in (EVENTS, EVENTS_V1)

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises TooManyRequests. Every limit counts the event, also those after one that refuses it."""
        if attributes.dry_run:
            return None
        refused = ""
        for buckets in self._buckets:
            key = KEYS[buckets.limit.type](attributes)
            if not buckets.take(key, self._clock.monotonic()):
                refused = f"limit reached on type {buckets.limit.type} for key {key}"
        if refused:
            raise TooManyRequests(refused)
        return None


def build(parts: Parts) -> EventRateLimit:
    """Raises StartupError."""
    limits = (parts.configuration.get(EventRateLimit.name) or {}).get("limits") or ()
    return EventRateLimit([Limit.parse(raw) for raw in limits], parts.state.clock)

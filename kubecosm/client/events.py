"""The event recorders: say what happened to an object, without ever making the caller wait.

`EventRecorder` writes core/v1 Events through client-go's correlator (tools/record): repeats become a count, ten alike in ten minutes are
combined, and an object that causes too many is silenced. `SeriesRecorder` (kubecosm.client.series) writes events.k8s.io/v1.
Events are best effort: when the queue is full or the server stays away they are dropped and counted.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from zlib import crc32

import structlog

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.names import NAMESPACE_DEFAULT
from kubecosm.api.resources import EVENTS, Object, Resource
from kubecosm.api.times import format_time
from kubecosm.client.correlator import Correlator
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient, PatchType

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

QUEUED_EVENTS_MAX = 10_000
WRITES_PER_SECOND = 100.0
"""After a burst events are written at this rate: a thousand pods cause four thousand, and the work that they tell of comes first."""
WRITES_BURST = 100
WRITES_PAUSE_SECONDS = 0.1
"""Once the burst is spent the writer sleeps this long at a time, and then writes what it may."""
TRIES_MAX = 12
RETRY_SECONDS_FIRST = 0.1
RETRY_SECONDS_MAX = 10.0

_log = structlog.get_logger("kubecosm.client.events")


class EventWriter(ABC):
    """A bounded queue of events and the one task that writes them in order."""

    def __init__(self, client: ApiClient, component: str, clock: Clock, per_second: float, burst: int) -> None:
        self._client, self._clock = client, clock
        self._per_second, self._burst = per_second, burst
        self._tokens, self._tokens_at = float(burst), clock.monotonic()
        self._name_offset = crc32(component.encode()) % 1000
        self._last_nanoseconds = 0
        self._queue: deque[Object] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.dropped = 0
        """Events lost because the queue was full or the server would not take them."""

    async def run(self) -> None:
        """Write queued events, one at a time and in order, no faster than allowed, until cancelled."""
        while True:
            await self._filled.wait()
            while self._queue:
                while not self._may_write():
                    await self._clock.sleep(WRITES_PAUSE_SECONDS)
                await self._record(self._queue.popleft())
            self._filled.clear()
            self._idle.set()

    async def wait_written(self) -> None:
        """Return when everything recorded so far has been written or given up; `run` must be running."""
        await self._idle.wait()

    def _may_write(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._per_second)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _enqueue(self, event: Object) -> None:
        if len(self._queue) >= QUEUED_EVENTS_MAX:
            self.dropped += 1
            return
        self._queue.append(event)
        self._filled.set()
        self._idle.clear()

    @abstractmethod
    async def _record(self, event: Object) -> None:
        """Write, or decide not to."""

    async def _deliver(self, event: Object, write: Callable[[], Awaitable[Object]]) -> Object | None:
        """Repeat `write` until the server answers; None when it refuses the event or stays away too long."""
        wait = RETRY_SECONDS_FIRST
        for _ in range(TRIES_MAX):
            try:
                return await write()
            except ApiError as error:
                # The server has decided: a terminating namespace, no permission, an invalid name. Trying again will not help.
                _log.info("event refused", reason=event["reason"], event_name=event["metadata"]["name"], error=error.message)
                break
            except TRANSPORT_ERRORS:
                await self._clock.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)
        self.dropped += 1
        return None

    def _metadata(self, reference: Object) -> Object:
        """A name no other event has, in the namespace of the object (`default` for cluster-scoped ones).

        Names are made of the time in nanoseconds. A clock may stand still between two events, or be frozen for all components.
        """
        nanoseconds = int(self._clock.now().timestamp() * 1_000_000) * 1000 + self._name_offset
        nanoseconds = self._last_nanoseconds = max(nanoseconds, self._last_nanoseconds + 1)
        return {"name": f"{reference['name']}.{nanoseconds:x}", "namespace": reference.get("namespace") or NAMESPACE_DEFAULT}


class EventRecorder(EventWriter):
    """Records core/v1 Events of one component; `run` must be running for them to be written."""

    def __init__(
        self, client: ApiClient, component: str, clock: Clock, *, host: str = "", per_second: float = WRITES_PER_SECOND,
        burst: int = WRITES_BURST,
    ) -> None:  # fmt: skip
        """`component` and `host` become the source of the events; `burst` are written at once, then so many `per_second`."""
        super().__init__(client, component, clock, per_second, burst)
        self._source = {"component": component, **({"host": host} if host else {})}
        self._correlator = Correlator(clock)

    def event(
        self, obj: Object, resource: Resource, type: str, reason: str, message: str, *, field_path: str = "", host: str = ""
    ) -> None:  # fmt: skip
        """Record that `reason` (CamelCase) happened to `obj`; `type` is Normal or Warning. Returns at once.

        `field_path` names a part of the object, such as `spec.containers{web}`; `host` stands in for the recorder's own,
        where one process speaks for many nodes.
        """
        reference, now = object_reference(obj, resource, field_path), format_time(self._clock.now())
        source = {**self._source, "host": host} if host else self._source
        self._enqueue({
            "apiVersion": "v1", "kind": "Event", "metadata": self._metadata(reference), "involvedObject": reference,
            "reason": reason, "message": message, "type": type, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": source, "reportingComponent": source["component"], "reportingInstance": source.get("host", ""), "eventTime": None,
        })  # fmt: skip

    async def _record(self, event: Object) -> None:
        correlated = self._correlator.correlate(event)
        if correlated is None:
            return
        answer = await self._deliver(correlated.event, lambda: self._write(correlated.event, correlated.patch))
        if answer is not None:
            self._correlator.recorded(correlated, answer)

    async def _write(self, event: Object, patch: Object | None) -> Object:
        namespace = event["metadata"]["namespace"]
        if patch is not None:
            try:
                return await self._client.patch(EVENTS, event["metadata"]["name"], patch, namespace, patch_type=PatchType.STRATEGIC)
            except NotFound:
                pass  # it expired: begin anew
        return await self._client.create(EVENTS, event, namespace)


def object_reference(obj: Object, resource: Resource, field_path: str = "") -> Object:
    """A core/v1 ObjectReference."""
    meta = obj["metadata"]
    reference = {
        "kind": resource.kind, "namespace": meta.get("namespace"), "name": meta["name"], "uid": meta.get("uid"),
        "apiVersion": resource.api_version, "resourceVersion": meta.get("resourceVersion"), "fieldPath": field_path,
    }  # fmt: skip
    return {name: value for name, value in reference.items() if value}

"""The event recorder: says what happened to an object, without ever making the caller wait.

`EventRecorder` writes core/v1 Events through client-go's correlator (tools/record): repeats become a count, ten alike in ten minutes are
combined, and an object that causes too many is silenced. `SeriesRecorder` writes events.k8s.io/v1 (tools/events), whose repeats become a
series. Events are best effort: when the queue is full or the server stays away they are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

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
TRIES_MAX = 12
RETRY_SECONDS_FIRST = 0.1
RETRY_SECONDS_MAX = 10.0

_log = structlog.get_logger("kubecosm.client.events")


class _Occurrence(NamedTuple):
    reference: Object
    type: str
    reason: str
    message: str
    nanoseconds: int


class EventRecorder:
    """Queues events of one component; `run` must be running for them to be written."""

    def __init__(self, client: ApiClient, component: str, clock: Clock, *, host: str = "") -> None:
        """`component` and `host` become the source of the events."""
        self._client, self._clock = client, clock
        self._source = {"component": component, **({"host": host} if host else {})}
        self._queue: deque[_Occurrence] = deque()
        self._filled = asyncio.Event()
        self._correlator = Correlator(clock)
        self._last_nanoseconds = 0
        self.dropped = 0
        """Events lost because the queue was full or the server would not take them."""

    def event(self, obj: Object, resource: Resource, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Record that `reason` (CamelCase) happened to `obj`; `type` is Normal or Warning. Returns at once.

        `field_path` names a part of the object, such as `spec.containers{web}`.
        """
        if len(self._queue) >= QUEUED_EVENTS_MAX:
            self.dropped += 1
            return
        moment = self._clock.now()
        # The name of an event is made of its time, and a clock may stand still between two events.
        nanoseconds = self._last_nanoseconds = max(int(moment.timestamp() * 1_000_000) * 1000, self._last_nanoseconds + 1)
        self._queue.append(_Occurrence(object_reference(obj, resource, field_path), type, reason, message, nanoseconds))
        self._filled.set()

    async def run(self) -> None:
        """Write queued events, one at a time and in order, until cancelled."""
        while True:
            await self._filled.wait()
            while self._queue:
                await self._record(self._make(self._queue.popleft()))
            self._filled.clear()

    def _make(self, happened: _Occurrence) -> Object:
        reference, now = happened.reference, format_time(self._clock.now())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{reference['name']}.{happened.nanoseconds:x}",
                "namespace": reference.get("namespace") or NAMESPACE_DEFAULT,
            },
            "involvedObject": reference,
            "reason": happened.reason,
            "message": happened.message,
            "source": self._source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": happened.type,
            "eventTime": None,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
        }

    async def _record(self, event: Object) -> None:
        correlated = self._correlator.correlate(event)
        if correlated is None:
            return
        wait = RETRY_SECONDS_FIRST
        for _ in range(TRIES_MAX):
            try:
                self._correlator.recorded(correlated, await self._write(correlated.event, correlated.patch))
                return
            except ApiError as error:
                # The server has the event's fate decided: a terminating namespace, no permission, an invalid name.
                _log.info("event refused", reason=event["reason"], object=event["involvedObject"], error=error.message)
                break
            except TRANSPORT_ERRORS:
                await self._clock.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)
        self.dropped += 1

    async def _write(self, event: Object, patch: Object | None) -> Object:
        namespace = event["metadata"]["namespace"]
        if patch is not None:
            try:
                return await self._client.patch(
                    EVENTS, event["metadata"]["name"], patch, namespace, patch_type=PatchType.STRATEGIC
                )
            except NotFound:
                pass  # it expired: begin anew
        return await self._client.create(EVENTS, event, namespace)


def object_reference(obj: Object, resource: Resource, field_path: str = "") -> Object:
    """A core/v1 ObjectReference; the resource says what kind it is, as cached objects of a list may not."""
    meta = obj["metadata"]
    reference = {
        "kind": resource.kind, "namespace": meta.get("namespace"), "name": meta["name"], "uid": meta.get("uid"),
        "apiVersion": resource.api_version, "resourceVersion": meta.get("resourceVersion"), "fieldPath": field_path,
    }  # fmt: skip
    return {name: value for name, value in reference.items() if value}

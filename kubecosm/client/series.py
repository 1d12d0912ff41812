"""Events of events.k8s.io/v1, whose repeats become a series (k8s.io/client-go/tools/events); the scheduler reports this way.

Repeats within six minutes raise the count of a series, which is written when it begins, every half hour while it lasts, and at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING

from kubecosm.api.errors import NotFound
from kubecosm.api.resources import EVENTS_V1, Object, Resource
from kubecosm.api.times import format_micro_time, parse_time
from kubecosm.client.events import WRITES_BURST, WRITES_PER_SECOND, EventWriter, object_reference
from kubecosm.client.http import ApiClient, PatchType

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

FINISH_SECONDS = 360.0
"""Without a repeat for so long an event is over; the next one begins anew."""
REFRESH_SECONDS = 1800.0


class SeriesRecorder(EventWriter):
    """Records events.k8s.io/v1 Events of one controller; `run` must be running for them to be written."""

    def __init__(
        self, client: ApiClient, controller: str, instance: str, clock: Clock, *, per_second: float = WRITES_PER_SECOND,
        burst: int = WRITES_BURST,
    ) -> None:  # fmt: skip
        """`controller` such as `default-scheduler`, `instance` such as `default-scheduler-host1`; rates as for EventRecorder."""
        super().__init__(client, controller, clock, per_second, burst)
        self._controller, self._instance = controller, instance
        self._running: dict[Hashable, Object] = {}  # by what makes events alike
        self._written_at: dict[Hashable, float] = {}  # series only
        self._once: set[str] = set()  # names of queued events that cannot repeat
        self._any_running = asyncio.Event()

    def event(
        self, regarding: Object, resource: Resource, type: str, reason: str, action: str, note: str, *,
        related: tuple[Object, Resource] | None = None, once: bool = False,
    ) -> None:  # fmt: skip
        """Record that `controller` did `action` to `regarding` with the outcome `reason`; `type` is Normal or Warning. Returns at once.

        `once` says that this cannot repeat (a pod is scheduled once), so nothing is remembered of it.
        """
        reference = object_reference(regarding, resource)
        event: Object = {
            "apiVersion": EVENTS_V1.api_version, "kind": EVENTS_V1.kind, "metadata": self._metadata(reference),
            "eventTime": format_micro_time(self._clock.now()), "reportingController": self._controller,
            "reportingInstance": self._instance, "action": action, "reason": reason, "regarding": reference, "note": note, "type": type,
        }  # fmt: skip
        if related is not None:
            event["related"] = object_reference(*related)
        if once:
            self._once.add(event["metadata"]["name"])
        self._enqueue(event)

    async def run(self) -> None:
        """Write events and keep series up to date until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run(), name=f"events-{self._controller}")
            tasks.create_task(self._keep_series(), name=f"series-{self._controller}")

    async def _record(self, event: Object) -> None:
        key = _alike(event)
        if event["metadata"]["name"] in self._once:
            self._once.discard(event["metadata"]["name"])
            await self._write(key, event)
            return
        before = self._running.get(key)
        if before is None:
            self._running[key] = event
            self._any_running.set()
            await self._write(key, event)
            return
        series = before.get("series")
        repeated = {**before, "series": {"count": series["count"] + 1 if series else 2, "lastObservedTime": event["eventTime"]}}
        self._running[key] = repeated
        if series is None:
            await self._write(key, repeated)

    async def _write(self, key: Hashable, event: Object) -> None:
        async def write() -> Object:
            meta = event["metadata"]
            if "series" in event:
                try:
                    patch = {"series": event["series"]}
                    return await self._client.patch(EVENTS_V1, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC)
                except NotFound:
                    pass  # it expired: begin anew
            return await self._client.create(EVENTS_V1, event, meta["namespace"])

        if "series" in event:
            self._written_at[key] = self._clock.monotonic()
        await self._deliver(event, write)

    async def _keep_series(self) -> None:
        while True:
            await self._any_running.wait()
            await self._clock.sleep(FINISH_SECONDS)
            for key, event in list(self._running.items()):
                await self._finish_or_refresh(key, event)
            if not self._running:
                self._any_running.clear()

    async def _finish_or_refresh(self, key: Hashable, event: Object) -> None:
        series = event.get("series")
        last = parse_time(series["lastObservedTime"] if series else event["eventTime"])
        over = (self._clock.now() - last).total_seconds() >= FINISH_SECONDS
        if over:
            del self._running[key]
        if series and (over or self._clock.monotonic() - self._written_at[key] >= REFRESH_SECONDS):
            await self._write(key, event)
        if over:
            self._written_at.pop(key, None)


def _alike(event: Object) -> Hashable:
    parts = [event[name] for name in ("type", "action", "reason", "reportingController")]
    for name in ("regarding", "related"):
        parts += sorted(event.get(name, {}).items())
    return tuple(parts)

"""Writes pod statuses to the API: only what changed, one write per pod at a time, the newest state wins.

Steps that follow each other faster than they can be written melt into one write: a pod that starts at once costs one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import orjson

from kubecosm.api.errors import ApiError, Conflict, NotFound
from kubecosm.api.resources import PODS, Object
from kubecosm.client.http import PatchType
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..pipeline import FAILURES, ApiPipeline
from .status import status_patch

WRITES_IN_FLIGHT_MAX = 48
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0
SETTLING_TURNS = 4
"""Turns of the event loop that a status waits for what follows from it at once: an image that is there as soon as it is pulled."""

log = get_logger("kubelet")


@dataclass(slots=True)
class PodRecord:
    """What the API is known to hold of a pod, and what it shall hold."""

    uid: str
    namespace: str
    name: str
    written: Object
    """The status that the API has, as far as known."""
    version: int = 0
    """resourceVersion of `written`."""
    wanted: Object | None = None
    delete: bool = False
    """Remove the pod once the wanted status is written."""
    is_busy: bool = False
    is_gone: bool = False
    retry_seconds: float = field(default=RETRY_SECONDS_MIN)
    settled: asyncio.Event | None = None
    """Somebody waits until nothing is left to write."""

    @property
    def path(self) -> str:
        return PODS.path(self.namespace, self.name)


class StatusManager:
    def __init__(self, pipeline: ApiPipeline, clock: Clock, tasks: asyncio.TaskGroup) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._tasks = tasks
        self._records: dict[str, PodRecord] = {}
        self._queue: deque[PodRecord] = deque()
        self._in_flight = 0
        self.writes = 0

    def observe(self, pod: Object) -> None:
        """The API's present state of the pod came in; older news than our own last write is ignored."""
        meta = pod["metadata"]
        version = int(meta["resourceVersion"])
        record = self._records.get(meta["uid"])
        if record is None:
            self._records[meta["uid"]] = PodRecord(meta["uid"], meta["namespace"], meta["name"], pod.get("status") or {}, version)
        elif version >= record.version:
            record.written, record.version = pod.get("status") or {}, version

    def forget(self, uid: str) -> None:
        record = self._records.pop(uid, None)
        if record is not None:
            record.is_gone = True

    def set(self, uid: str, status: Object) -> None:
        """The status that the API shall show."""
        record = self._records.get(uid)
        if record is not None:
            record.wanted = status
            self._schedule(record)

    def delete(self, uid: str) -> None:
        """The pod has ended: write what is wanted, then remove the object."""
        record = self._records.get(uid)
        if record is not None:
            record.delete = True
            self._schedule(record)

    async def wait_settled(self, uid: str) -> None:
        """Return when the API has been told all there is to tell of the pod."""
        record = self._records.get(uid)
        if record is not None and record.is_busy:
            record.settled = record.settled or asyncio.Event()
            await record.settled.wait()

    def _schedule(self, record: PodRecord) -> None:
        if record.is_busy:
            return
        record.is_busy = True
        self._start(record)

    def _start(self, record: PodRecord) -> None:
        """Write now, or when a writer is free."""
        if self._in_flight < WRITES_IN_FLIGHT_MAX:
            self._in_flight += 1
            self._tasks.create_task(self._work(record), name="status-writer")
        else:
            self._queue.append(record)

    async def _work(self, record: PodRecord | None) -> None:
        """One writer: goes on with queued pods until there are none."""
        try:
            while record is not None:
                delay = await self._bring_up_to_date(record)
                if delay is None:
                    record.is_busy = False
                    if record.settled is not None:
                        record.settled.set()
                else:
                    self._tasks.create_task(self._start_later(record, delay), name="status-retry")
                record = self._queue.popleft() if self._queue else None
        finally:
            self._in_flight -= 1

    async def _start_later(self, record: PodRecord, seconds: float) -> None:
        """What the API refuses holds no writer up meanwhile: other pods' statuses go on."""
        await self._clock.sleep(seconds)
        self._start(record)

    async def _bring_up_to_date(self, record: PodRecord) -> float | None:
        """None when all is told; else it failed, and the seconds after which to try again."""
        while not record.is_gone:
            for _ in range(SETTLING_TURNS):
                await asyncio.sleep(0)
            wanted, record.wanted = record.wanted, None
            if wanted is None and not record.delete:
                return None
            try:
                if wanted is not None:
                    await self._patch(record, wanted)
                if record.delete and record.wanted is None:
                    await self._delete(record)
                    return None
                record.retry_seconds = RETRY_SECONDS_MIN
            except NotFound:
                record.is_gone = True
            except FAILURES as failure:
                if record.wanted is None:
                    record.wanted = wanted
                log.info(
                    "pod status not written", object=f"Pod {record.namespace}/{record.name}", error=str(failure) or type(failure).__name__
                )
                delay, record.retry_seconds = record.retry_seconds, min(record.retry_seconds * 2, RETRY_SECONDS_MAX)
                return _retry_after(failure) or delay
        return None

    async def _patch(self, record: PodRecord, wanted: Object) -> None:
        patch = status_patch(record.written, wanted)
        if patch is None:
            return
        body = orjson.dumps({"metadata": {"uid": record.uid}, "status": patch})
        self.writes += 1
        answer = await self._pipeline.request("PATCH", record.path + "/status", body, PatchType.STRATEGIC)
        try:
            meta = answer.object()["metadata"]
        except Conflict:
            record.is_gone = True  # another pod has the name now: the uid in the patch did not match
            return
        version = int(meta["resourceVersion"])
        if version >= record.version:
            record.written, record.version = wanted, version

    async def _delete(self, record: PodRecord) -> None:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": record.uid}}
        answer = await self._pipeline.request("DELETE", record.path, orjson.dumps(options))
        try:
            answer.check()
        except (NotFound, Conflict):
            record.is_gone = True


def _retry_after(failure: BaseException) -> float | None:
    return failure.retry_after_seconds if isinstance(failure, ApiError) else None

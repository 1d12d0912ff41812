"""How audit events reach their sinks: in batches behind the requests' backs, or before a request goes on; shortened if they are too large.

Imitates apiserver/plugin/pkg/audit/{buffered,truncate} and the modes of apiserver/pkg/server/options/audit.go. `sinks` has the log and the
webhook themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import orjson

from kubecosm.api.names import AUDIT_TRUNCATED
from kubecosm.runtime.clock import Clock

BATCH, BLOCKING, BLOCKING_STRICT = "batch", "blocking", "blocking-strict"
MODES = (BATCH, BLOCKING, BLOCKING_STRICT)


class NotRecorded(Exception):
    """An event could not be stored, and the mode is strict: the request must not go on."""


class Sink(Protocol):
    """Takes encoded events for good; a failure is told in the log, and False."""

    name: str
    is_closing: bool
    """The server stops: do not wait to try again."""

    def write(self, events: Sequence[bytes]) -> bool | Awaitable[bool]: ...

    async def write_behind(self, events: Sequence[bytes]) -> bool:
        """The same where nobody waits for it: may take a thread."""

    async def run(self) -> None:
        """What the sink does on its own, until cancelled."""


class Backend(Protocol):
    """Takes events as JSON, encoded once for all backends."""

    name: str

    @property
    def dropped(self) -> int:
        """Events that are lost."""

    def add(self, event: bytes) -> Awaitable[None] | None:
        """What the request must wait for, if anything. Raises NotRecorded, or lets the waiting raise it."""

    async def run(self) -> None:
        """Write what comes, until cancelled; then what is left."""


@dataclass(frozen=True)
class Batching:
    """How events are gathered."""

    buffer_events_max: int = 10_000
    """Events that wait to be written; more are dropped and counted."""
    batch_events_max: int = 10_000
    wait_seconds: float = 0.1
    batches_per_second: float = 0.0
    """On average; 0: no bound."""
    burst: int = 15
    batch_bytes_max: int = 0
    """0: no bound."""


class Buffered:
    """Gathers events and hands them on in batches; never holds a request up."""

    def __init__(self, sink: Sink, clock: Clock, batching: Batching) -> None:
        self.name = sink.name
        self.dropped = 0
        self._sink = sink
        self._clock = clock
        self._batching = batching
        self._buffer_events_max = batching.buffer_events_max
        self._events: list[bytes] = []
        self._woken = asyncio.Event()
        self._allowance, self._allowed_at = float(batching.burst), clock.monotonic()

    def add(self, event: bytes) -> None:
        if len(self._events) >= self._buffer_events_max:
            self.dropped += 1
            return
        self._events.append(event)
        if not self._woken.is_set():
            self._woken.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            beside = tasks.create_task(self._sink.run(), name=f"audit-{self.name}-sink")
            try:
                while True:
                    await self._woken.wait()
                    await self._clock.sleep(self._batching.wait_seconds)
                    self._woken.clear()
                    await self._drain()
            except asyncio.CancelledError:
                self._sink.is_closing = True
                await self._drain()
                beside.cancel()
                raise

    async def _drain(self) -> None:
        while self._events:
            count = batch_length(self._events, self._batching)
            batch = self._events[:count]
            del self._events[:count]
            await self._wait_allowance()
            if not await self._sink.write_behind(batch):
                self.dropped += len(batch)

    async def _wait_allowance(self) -> None:
        """A bucket of tokens, one a batch (client-go's flowcontrol.NewTokenBucketRateLimiter)."""
        rate = self._batching.batches_per_second
        if not rate or self._sink.is_closing:
            return
        now = self._clock.monotonic()
        self._allowance = min(self._batching.burst, self._allowance + (now - self._allowed_at) * rate) - 1
        self._allowed_at = now
        if self._allowance < 0:
            await self._clock.sleep(-self._allowance / rate)


def batch_length(events: Sequence[bytes], batching: Batching) -> int:
    """How many of the first events make a batch; at least one."""
    count = min(len(events), batching.batch_events_max)
    if not batching.batch_bytes_max:
        return count
    size = 0
    for i in range(count):
        size += len(events[i])
        if size > batching.batch_bytes_max:
            return max(i, 1)
    return count


class Blocking:
    """Each event is in its sink before its request goes on. `is_strict`: a request whose event cannot be stored fails."""

    def __init__(self, sink: Sink, *, is_strict: bool) -> None:
        self.name = sink.name
        self.dropped = 0
        self._sink = sink
        self._is_strict = is_strict

    def add(self, event: bytes) -> Awaitable[None] | None:
        written = self._sink.write((event,))
        if isinstance(written, bool):
            self._settle(written)
            return None
        return self._wait(written)

    async def _wait(self, pending: Awaitable[bool]) -> None:
        self._settle(await pending)

    def _settle(self, is_written: bool) -> None:
        if is_written:
            return
        self.dropped += 1
        if self._is_strict:
            raise NotRecorded

    async def run(self) -> None:
        try:
            await self._sink.run()
        except asyncio.CancelledError:
            self._sink.is_closing = True
            raise


class Truncating:
    """In front of another backend: events beyond a size lose the objects sent and answered; if that is not enough, they are lost."""

    def __init__(self, inner: Backend, event_bytes_max: int) -> None:
        self.name = inner.name
        self._inner = inner
        self._event_bytes_max = event_bytes_max
        self._too_large = 0

    @property
    def dropped(self) -> int:
        return self._inner.dropped + self._too_large

    def add(self, event: bytes) -> Awaitable[None] | None:
        if len(event) > self._event_bytes_max:
            event = truncated(event)
            if len(event) > self._event_bytes_max:
                self._too_large += 1
                return None
        return self._inner.add(event)

    async def run(self) -> None:
        await self._inner.run()


def truncated(event: bytes) -> bytes:
    """Without requestObject and responseObject, and saying so."""
    document = orjson.loads(event)
    kept = {key: value for key, value in document.items() if key not in ("requestObject", "responseObject", "annotations")}
    return orjson.dumps({**kept, "annotations": {**document.get("annotations", {}), AUDIT_TRUNCATED: "true"}})


async def settle(pending: Sequence[Awaitable[None]]) -> None:
    """Wait for blocking backends where nothing can be refused any more."""
    for one in pending:
        with suppress(NotRecorded):
            await one



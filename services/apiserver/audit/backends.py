"""Where audit events go: a file that rotates, written by a thread, and a webhook. Both buffer up to a bound and never hold up a request.

Imitates apiserver/plugin/pkg/audit (log, webhook, buffered), always in batch mode: an event is on its way within BATCH_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from .policy import GROUP_VERSION
from .rotation import RotatingFile

log = get_logger("apiserver")

BUFFER_EVENTS_MAX = 10_000
"""Events that wait to be written; more are dropped and counted."""
BATCH_SECONDS = 0.1
WEBHOOK_BATCH_EVENTS_MAX = 400
WEBHOOK_RETRY_SECONDS = 10.0
WEBHOOK_ATTEMPTS_MAX = 5
LEGACY, JSON_LINES = "legacy", "json"
FORMATS = (LEGACY, JSON_LINES)


class Backend(Protocol):
    """Takes events as JSON, encoded once for all backends; must not block."""

    name: str
    dropped: int

    def add(self, event: bytes) -> None: ...

    async def run(self) -> None:
        """Write what comes, until cancelled; then what is left."""


class Buffered:
    """Gathers events and hands them on in batches."""

    def __init__(self, name: str, clock: Clock, write: Callable[[Sequence[bytes]], Awaitable[None]], batch_max: int) -> None:
        self.name = name
        self.dropped = 0
        self.is_closing = False
        """What is left is written, but failures are not tried again."""
        self._clock = clock
        self._write = write
        self._batch_max = batch_max
        self._events: list[bytes] = []
        self._woken = asyncio.Event()

    def add(self, event: bytes) -> None:
        if len(self._events) >= BUFFER_EVENTS_MAX:
            self.dropped += 1
            return
        self._events.append(event)
        if not self._woken.is_set():
            self._woken.set()

    async def run(self) -> None:
        try:
            while True:
                await self._woken.wait()
                await self._clock.sleep(BATCH_SECONDS)
                self._woken.clear()
                await self._drain()
        except asyncio.CancelledError:
            self.is_closing = True
            await self._drain()
            raise

    async def _drain(self) -> None:
        while self._events:
            batch = self._events[: self._batch_max]
            del self._events[: self._batch_max]
            await self._write(batch)


def log_backend(clock: Clock, file: RotatingFile, form: str) -> Buffered:
    """One line an event. Failures to write are logged, and the events lost."""

    async def write(events: Sequence[bytes]) -> None:
        lines = [legacy_line(orjson.loads(event)) for event in events] if form == LEGACY else events
        try:
            await asyncio.to_thread(file.write, b"\n".join([*lines, b""]), clock.now())
        except OSError as error:
            backend.dropped += len(events)
            log.error("audit events could not be written", file=str(file.path), error=str(error))

    backend = Buffered("log", clock, write, batch_max=BUFFER_EVENTS_MAX)
    return backend


def webhook_backend(clock: Clock, kubeconfig: Path) -> Buffered:
    """Posts EventLists to the server of a kubeconfig; tries again for a while, then gives the batch up."""
    from kubecosm.client.config import ClientConfig
    from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient

    config = ClientConfig.from_kubeconfig(kubeconfig)

    async def write(events: Sequence[bytes]) -> None:
        body = b'{"kind":"EventList","apiVersion":"%b","metadata":{},"items":[%b]}' % (GROUP_VERSION.encode(), b",".join(events))
        for attempt in range(WEBHOOK_ATTEMPTS_MAX):
            try:
                async with ApiClient(config, clock=clock, user_agent="kube-apiserver-audit") as client:
                    await client.request("POST", "", body=body, headers={"Content-Type": "application/json"})
                return
            except (ApiError, *TRANSPORT_ERRORS) as error:
                log.error("audit events could not be sent", server=config.server, attempt=attempt + 1, error=str(error))
            if backend.is_closing:
                break
            await clock.sleep(WEBHOOK_RETRY_SECONDS)
        backend.dropped += len(events)

    backend = Buffered("webhook", clock, write, batch_max=WEBHOOK_BATCH_EVENTS_MAX)
    return backend


def legacy_line(event: Object) -> bytes:
    """audit.EventString: a line of key="value"."""
    user, status = event["user"], event.get("responseStatus")
    groups = ",".join(f'\\"{group}\\"' for group in user.get("groups") or ())
    acting = event.get("impersonatedUser") or {}
    fields = (
        ("id", event["auditID"]), ("stage", event["stage"]), ("ip", (event["sourceIPs"] or ["<unknown>"])[0]), ("method", event["verb"]),
        ("user", user["username"] or "<none>"), ("groups", groups or "<none>"), ("as", acting.get("username", "<self>")),
        ("asgroups", ",".join(f'\\"{g}\\"' for g in acting.get("groups") or ()) or "<lookup>"), ("user-agent", event.get("userAgent", "")),
        ("namespace", (event.get("objectRef") or {}).get("namespace") or "<none>"), ("uri", event["requestURI"]),
        ("response", str(status["code"]) if status else "<deferred>"),
    )  # fmt: skip
    text = " ".join(f'{name}="{value}"' for name, value in fields)
    return f"{event['requestReceivedTimestamp']} AUDIT: {text}".encode()



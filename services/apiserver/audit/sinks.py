"""Where audit events end up: a file that rotates, or a webhook. Imitates apiserver/plugin/pkg/audit/{log,webhook}."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from .policy import GROUP_VERSION
from .rotation import RotatingFile

log = get_logger("apiserver")

WEBHOOK_ATTEMPTS_MAX = 5
BACKOFF_FACTOR = 1.5
LEGACY, JSON_LINES = "legacy", "json"
FORMATS = (LEGACY, JSON_LINES)


class LogSink:
    """One line an event. Failures to write are logged, and the events lost."""

    name = "log"

    def __init__(self, clock: Clock, file: RotatingFile, form: str) -> None:
        self.is_closing = False
        self._clock = clock
        self._file = file
        self._is_legacy = form == LEGACY
        self._rotated = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, events: Sequence[bytes]) -> bool:
        lines = [legacy_line(orjson.loads(event)) for event in events] if self._is_legacy else events
        try:
            if self._file.write(b"\n".join([*lines, b""]), self._clock.now()):
                self._loop.call_soon_threadsafe(self._rotated.set)
        except OSError as error:
            log.error("audit events could not be written", file=str(self._file.path), error=str(error))
            return False
        return True

    async def write_behind(self, events: Sequence[bytes]) -> bool:
        return await asyncio.to_thread(self.write, events)

    async def run(self) -> None:
        """Look after old files, which takes time when they are compressed."""
        try:
            while True:
                await self._rotated.wait()
                self._rotated.clear()
                await asyncio.to_thread(self._tidy)
        finally:
            self._file.close()

    def _tidy(self) -> None:
        try:
            self._file.tidy(self._clock.now())
        except OSError as error:
            log.error("old audit logs could not be put away", file=str(self._file.path), error=str(error))


class WebhookSink:
    """Posts EventLists to the server of a kubeconfig; tries again for a while, then gives the batch up."""

    name = "webhook"

    def __init__(self, clock: Clock, kubeconfig: Path, backoff_seconds: float) -> None:
        """Raises ConfigError."""
        from kubecosm.client.config import ClientConfig

        self.is_closing = False
        self._clock = clock
        self._config = ClientConfig.from_kubeconfig(kubeconfig)
        self._backoff_seconds = backoff_seconds

    def write(self, events: Sequence[bytes]) -> Awaitable[bool]:
        return self.write_behind(events)

    async def write_behind(self, events: Sequence[bytes]) -> bool:
        from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient

        body = b'{"kind":"EventList","apiVersion":"%b","metadata":{},"items":[%b]}' % (GROUP_VERSION.encode(), b",".join(events))
        rest = self._backoff_seconds
        for attempt in range(WEBHOOK_ATTEMPTS_MAX):
            try:
                async with ApiClient(self._config, clock=self._clock, user_agent="kube-apiserver-audit") as client:
                    await client.request("POST", "", body=body, headers={"Content-Type": "application/json"})
                return True
            except (ApiError, *TRANSPORT_ERRORS) as error:
                log.error("audit events could not be sent", server=self._config.server, attempt=attempt + 1, error=str(error))
            if self.is_closing or attempt + 1 == WEBHOOK_ATTEMPTS_MAX:
                break
            await self._clock.sleep(rest)
            rest *= BACKOFF_FACTOR
        return False

    async def run(self) -> None:
        """There is nothing to look after."""


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

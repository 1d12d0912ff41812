"""One request as the filters and the REST store see it: a thin record over aiohttp's parsed message.

It stands in for aiohttp's own request class (web.Server takes a factory), which would parse more than we need for every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from kubecosm.api.errors import RequestEntityTooLarge

from ..authn.user import ANONYMOUS, User
from .alike import Alike
from .info import PathInfo

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from ..audit.events import Record
    from .connection import Connection

BODY_BYTES_MAX = 3 * 1024 * 1024
_NO_QUERY: dict[str, list[str]] = {}
NO_INFO = PathInfo("")
NOTHING_ALIKE = Alike(ANONYMOUS, "", NO_INFO)


class _Kept:
    """A body that was read, in the place of the stream it came from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def readany(self) -> bytes:
        return self._body

    def at_eof(self) -> bool:
        return True

    def set_exception(self, exc: BaseException) -> None:
        """The connection broke; the body is here already."""


_HUMAN_CLIENTS = ("curl", "Wget", "Mozilla/5.0")


class Request:
    """`_task` and `_finish` are what aiohttp's protocol demands of a request."""

    __slots__ = (
        "_payload", "_query", "_raw_query", "_task", "alike", "audit", "audit_annotations", "audit_id", "connection", "extra_head",
        "headers", "info", "message", "method", "on_initialized", "on_response_started", "path", "should_close", "started", "user", "verb",
        "waited", "warnings",
    )  # fmt: skip

    def __init__(self, message: RawRequestMessage, payload: StreamReader, connection: Connection, _writer: Any, task: Any) -> None:
        self.message = message
        self.method: str = message.method
        self.headers: Mapping[str, str] = message.headers
        self.should_close: bool = message.should_close
        self.connection = connection
        connection.request_begun()
        path, _, raw_query = message.path.partition("?")
        self.path: str = path
        self._raw_query: str = raw_query.partition("#")[0] if raw_query else ""
        self._query: dict[str, list[str]] | None = None if raw_query else _NO_QUERY
        self._payload: StreamReader | _Kept = payload
        self._task = task
        self.info = NO_INFO
        self.verb = ""
        self.user: User = ANONYMOUS
        self.alike = NOTHING_ALIKE
        """What is known of requests like this one; from authentication on."""
        self.audit_id = ""
        self.started = 0.0
        self.waited = 0.0
        """Seconds in queues and for webhooks, for which the handling itself is not to blame."""
        self.warnings: list[str] | None = None
        self.audit_annotations: dict[str, str] | None = None
        self.audit: Record | None = None
        """What its audit events tell; None: nobody wants to know."""
        self.on_response_started: Callable[[int], None] | None = None
        """Called with the HTTP code when the head of a stream is sent."""
        self.extra_head = b""
        """Header lines that filters add to the answer, whatever it is."""
        self.on_initialized: Callable[[], None] | None = None
        """Called once, when a watch has sent what it begins with."""

    def _finish(self) -> None:
        """Called by aiohttp once the handler has answered."""

    def _cancel(self, exc: BaseException) -> None:
        """Called by aiohttp when the client is gone: whoever reads the body learns of it."""
        self._payload.set_exception(exc)

    @property
    def raw_query(self) -> str:
        return self._raw_query

    @property
    def query(self) -> dict[str, list[str]]:
        """Query parameters with all their values."""
        found = self._query
        if found is None:
            found = self._query = parse_qs(self._raw_query, keep_blank_values=True)
        return found

    @property
    def for_people(self) -> bool:
        """Whether JSON is to be indented: `?pretty` says it, else a browser, curl or Wget does (negotiation.isPrettyPrint)."""
        if self._raw_query and "pretty" in self.query:
            return self.flag("pretty")
        return self.headers.get("User-Agent", "").startswith(_HUMAN_CLIENTS)

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        if self._query is _NO_QUERY:
            return default
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """A boolean query parameter as metav1 converts it: present means true, except for `false` and `0`."""
        values = self.query.get(name)
        return values is not None and values[0].lower() not in ("false", "0")

    @property
    def transport(self) -> asyncio.Transport | None:
        return self.connection.transport

    def initialized(self) -> None:
        """A watch has sent its first events."""
        call, self.on_initialized = self.on_initialized, None
        if call is not None:
            call()

    def warn(self, *texts: str) -> None:
        """Add Warning headers to the answer."""
        if texts:
            self.warnings = [*(self.warnings or ()), *texts]

    def annotate(self, key: str, value: str) -> None:
        """Add an annotation to the audit event of this request; the first value of a key stays."""
        if self.audit_annotations is None:
            self.audit_annotations = {}
        self.audit_annotations.setdefault(key, value)

    def waited_for(self, seconds: float) -> None:
        self.waited += seconds

    async def keep_body(self) -> None:
        """Read the body now; from here on `read` gives it as often as it is asked."""
        self._payload = _Kept(await self.read())

    async def read(self) -> bytes:
        """The whole body. Raises RequestEntityTooLarge above BODY_BYTES_MAX."""
        payload = self._payload
        declared = self.headers.get("Content-Length")
        if declared is not None and declared.isdigit() and int(declared) > BODY_BYTES_MAX:
            raise too_large()
        self._continue()
        body = await payload.readany()
        if payload.at_eof():
            if len(body) > BODY_BYTES_MAX:
                raise too_large()
            return body
        chunks, size = [body], len(body)
        while chunk := await payload.readany():
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                raise too_large()
            chunks.append(chunk)
        return b"".join(chunks)


    def pieces(self) -> AsyncIterator[bytes] | None:
        """The body as it comes, however large; None if there is none."""
        headers = self.headers
        if "Transfer-Encoding" not in headers and headers.get("Content-Length", "0") == "0":
            return None
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        self._continue()
        while piece := await self._payload.readany():
            yield piece

    def _continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        if self.headers.get("Expect", "").lower() == "100-continue" and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {BODY_BYTES_MAX}")

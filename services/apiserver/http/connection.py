"""One client connection: aiohttp's HTTP/1.1 protocol, plus what we remember per connection.

Requests of a connection are answered one after the other in its own task. aiohttp makes a task for each, to keep their context variables
apart (we have none), and wakes up its own when that one ends; without it a request takes a fifth less.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError

from kubecosm.runtime.logs import get_logger

from .request import Request
from .response import Answer, Response, text_response

if TYPE_CHECKING:
    from ..audit.events import Caller
    from ..authn.certificates import Certificate

log = get_logger("apiserver")

HEADER_BYTES_MAX = 64 * 1024
"""One header line or the request line: bearer tokens and long selectors are allowed (Go: 1 MiB for all headers)."""
KEEPALIVE_SECONDS = 180.0
HEADER_SECONDS_MAX = 32.0
"""For the TLS handshake, and again for the first request's head (ReadHeaderTimeout of kube-apiserver)."""
UNREAD_BODY_SECONDS_MAX = 10.0
"""How long the rest of a body that nobody wanted is read before the connection is closed; the client may not have read the answer yet."""
KNOWN_AIOHTTP = "3.14."
"""The release whose protocol is known to work with our loop; with others its own does."""


def tell_failure(task: asyncio.Task[None]) -> None:
    """What failed outside of the errors filter has cost a connection: a bug, to be seen in the log."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("connection failed", exc_info=error)


class Connection(RequestHandler):
    """Keeps what its client certificate says, looked at once, and what audit events say of its client."""

    __slots__ = ("_header_timer", "audited", "certificate", "certificate_known")

    def __init__(self, manager: web.Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.certificate: Certificate | None = None
        self.certificate_known = False
        self.audited: Caller | None = None
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client that has not sent a whole request head in time is cut off; between requests the keep-alive time bounds it."""
        super().connection_made(transport)
        if self._task_handler is not None:
            self._task_handler.add_done_callback(tell_failure)
        self._header_timer = asyncio.get_running_loop().call_later(HEADER_SECONDS_MAX, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.request_begun()
        super().connection_lost(exc)

    async def start(self) -> None:
        """Answer the requests of this connection as long as it lasts. Cancelled when it is lost."""
        if not aiohttp.__version__.startswith(KNOWN_AIOHTTP):
            return await super().start()
        try:
            while not self._force_close:
                if not self._messages:
                    await self._next_head()
                if not await self._serve_one():
                    break
                if self._messages:
                    await asyncio.sleep(0)  # who sends many requests ahead takes turns with others
                self._await_next()
        finally:
            self.force_close()

    async def _next_head(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _await_next(self) -> None:
        """From now on the connection may be idle for so long."""
        self._next_keepalive_close_time = at = self._loop.time() + KEEPALIVE_SECONDS
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(at, self._process_keepalive)

    async def _serve_one(self) -> bool:
        """Answer one request; False if the connection is to be closed then."""
        message, payload = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        self._request_in_progress = True
        try:
            if isinstance(message, RawRequestMessage):
                answer = await self._answer(message, payload)
            else:  # what could not be parsed
                request = Request(ERROR, payload, self, None, None)
                answer = self.handle_error(request, message.status, message.exc, message.message)
                await answer.prepare(request)
        except ConnectionError:
            return False
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if not payload.is_eof():
            await self._read_rest(payload)
        self._keepalive = answer.keep_alive
        return answer.keep_alive and not self._close and not self._force_close

    async def _answer(self, message: RawRequestMessage, payload: StreamReader) -> Answer:
        """Raises ConnectionError when the client is gone."""
        request = Request(message, payload, self, None, None)
        self._current_request = cast(Any, request)
        try:
            assert self._request_handler is not None
            answer = cast(Answer, await self._request_handler(cast(Any, request)))
        finally:
            self._current_request = None
        if self._upgraded:  # the upgrade was declined, or has ended
            await self.finish_response(cast(Any, request), cast(Any, answer), None)
        else:
            await answer.prepare(request)
        return answer

    async def _read_rest(self, payload: StreamReader) -> None:
        """Of a body that the answer did not need; the connection is closed if it does not end."""
        try:
            async with asyncio.timeout(UNREAD_BODY_SECONDS_MAX):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except (TimeoutError, ConnectionError, RequestPayloadError):
            self.close()

    def resume_reading(self, *resume_parser: bool, **named: bool) -> None:
        """Called by every stream that has been read; nothing is to be done unless reading was paused."""
        if self._reading_paused:
            super().resume_reading(*resume_parser, **named)

    def request_begun(self) -> None:
        """A request head has come."""
        timer, self._header_timer = self._header_timer, None
        if timer is not None:
            timer.cancel()

    @property
    def peer_address(self) -> str:
        """The client's address; empty when it is gone."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else ""

    async def drain(self) -> None:
        """Return when the client has taken most of what was written; ConnectionError if it is gone."""
        await self._drain_helper()

    def take_early_data(self) -> bytes:
        """What the client sent behind an upgrade request before it was answered."""
        early, self._message_tail = self._message_tail, b""
        return early

    def handle_error(  # type: ignore[override]  # our Response has what the protocol uses
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Response:
        """What is not HTTP gets the plain answer of Go's server; errors of handlers never come here."""
        return text_response(status, f"{status} Bad Request" if status == 400 else f"{status} {message or 'Internal Server Error'}")


class Server(web.Server):
    """aiohttp's low-level server with our connections and requests."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler, request_factory=cast(Any, Request), handler_cancellation=True, access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS, max_line_size=HEADER_BYTES_MAX, max_field_size=HEADER_BYTES_MAX,
        )  # fmt: skip

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)

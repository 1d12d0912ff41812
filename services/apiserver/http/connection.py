"""One client connection: aiohttp's HTTP/1.1 protocol, plus what we remember per connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from .request import Request
from .response import Response, text_response

if TYPE_CHECKING:
    from ..audit.events import Caller
    from ..authn.certificates import Certificate

HEADER_BYTES_MAX = 64 * 1024
"""One header line or the request line: bearer tokens and long selectors are allowed (Go: 1 MiB for all headers)."""
KEEPALIVE_SECONDS = 180.0
HEADER_SECONDS_MAX = 32.0
"""For the TLS handshake, and again for the first request's head (ReadHeaderTimeout of kube-apiserver)."""


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
        self._header_timer = asyncio.get_running_loop().call_later(HEADER_SECONDS_MAX, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.request_begun()
        super().connection_lost(exc)

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

"""One client connection: aiohttp's HTTP/1.1 protocol, plus what we remember per connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from .request import Request

if TYPE_CHECKING:
    from ..authn.user import User


class Connection(RequestHandler):
    """Keeps who its client certificate says it is, asked once."""

    __slots__ = ("certificate_user", "user_known")

    def __init__(self, manager: web.Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.certificate_user: User | None = None
        self.user_known = False

    async def drain(self) -> None:
        """Return when the client has taken most of what was written; ConnectionError if it is gone."""
        await self._drain_helper()


class Server(web.Server):
    """aiohttp's low-level server with our connections and requests."""

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(handler, request_factory=Request, **kwargs)  # type: ignore[arg-type]  # Request has what the protocol uses

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)

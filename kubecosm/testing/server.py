"""An HTTP server of the test's own process, on a free port of 127.0.0.1: the part that all fake apiservers share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson
from aiohttp import web

from kubecosm.api.errors import ApiError
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import ApiClient

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock


SHUTDOWN_SECONDS = 0.01
"""After the test nobody reads what open answers would still say."""


class LocalServer(ABC):
    """Async context manager; `url` and `client()` are valid inside."""

    def __init__(self) -> None:
        self.url = ""
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @abstractmethod
    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; an ApiError becomes its Status."""

    def client(self, clock: Clock) -> ApiClient:
        """A client of this server, to be used as a context manager."""
        return ApiClient(ClientConfig(self.url), clock=clock, user_agent="kubecosm-test")

    async def __aenter__(self) -> Self:
        self._server = web.Server(self._answer)
        self._listener = await asyncio.get_running_loop().create_server(self._server, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._listener is not None
        assert self._server is not None
        self._listener.close()
        await self._server.shutdown(SHUTDOWN_SECONDS)
        await self._listener.wait_closed()

    def cut_connections(self) -> None:
        """Drop every open connection, as a killed apiserver would; new ones are accepted."""
        assert self._server is not None
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self.handle(request)
        except ApiError as error:
            headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds is not None else None
            return json_response(error.status(), error.code, headers)


def json_response(body: Any, code: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=code, content_type="application/json", headers=headers)


async def start_stream(request: web.BaseRequest) -> web.StreamResponse:
    """The beginning of a chunked answer, sent at once so that the client sees it is accepted."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response

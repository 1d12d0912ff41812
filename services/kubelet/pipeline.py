"""A lean HTTP/1.1 client for the kubelet's many small writes: leases, pod statuses, deletions.

A few connections carry pipelined requests, so a write costs about a tenth of one through a general HTTP client. Leaves out redirects,
compression and cookies; answers are buffered whole. Reads and watches go through kubecosm.client.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from kubecosm.api.errors import ApiError
from kubecosm.client.config import ClientConfig
from kubecosm.client.connection import Answer, Connection
from kubecosm.client.http import LEAN_JSON

CONNECTIONS_MAX = 16
REQUESTS_PER_CONNECTION_MAX = 32
"""Outstanding on one connection; further requests wait for a place."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
CONNECT_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 30.0


class Request(NamedTuple):
    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


class ApiPipeline:
    """Sends requests to one API server. Raises OSError or TimeoutError if no answer comes; the caller decides about another try."""

    def __init__(self, config: ClientConfig, user_agent: str, connections_max: int = CONNECTIONS_MAX) -> None:
        parts = urlsplit(config.server)
        self._host, self._secure = parts.hostname or "127.0.0.1", parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._tls = config.ssl_context() if self._secure else None
        token = f"Authorization: Bearer {config.token}\r\n" if config.token else ""
        self._common = f"Host: {parts.netloc}\r\nUser-Agent: {user_agent}\r\nAccept: {LEAN_JSON}\r\n{token}"
        self._max = connections_max
        self._connections: list[Connection] = []
        self._opening = 0
        self._places = asyncio.Semaphore(connections_max * REQUESTS_PER_CONNECTION_MAX)

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Answer:
        """One request; any HTTP answer is returned."""
        async with self._places:
            connection = await self._connection()
            future = connection.send(self._wire(Request(method, path, body, content_type)))
            timeout = asyncio.get_running_loop().call_later(ANSWER_SECONDS_MAX, connection.abort)
            try:
                return await future
            finally:
                timeout.cancel()

    async def batch(self, requests: list[Request]) -> list[asyncio.Future[Answer]]:
        """Many requests at once, spread over the connections and written together; the futures are the answers."""
        futures: list[asyncio.Future[Answer]] = []
        loop = asyncio.get_running_loop()
        share = max(1, -(-len(requests) // self._max))
        for start in range(0, len(requests), share):
            connection = await self._connection()
            if connection.transport is None:
                raise ConnectionResetError("the API server closed the connection")
            data = bytearray()
            for request in requests[start : start + share]:
                future: asyncio.Future[Answer] = loop.create_future()
                connection.waiting.append(future)
                futures.append(future)
                data += self._wire(request)
            connection.transport.write(bytes(data))
            limit = loop.call_later(ANSWER_SECONDS_MAX, connection.abort)
            futures[-1].add_done_callback(partial(_in_time, limit))
        return futures

    def _wire(self, request: Request) -> bytes:
        method, path, body, content_type = request
        head = f"{method} {path} HTTP/1.1\r\n{self._common}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body

    async def _connection(self) -> Connection:
        """An idle connection, a new one, or the least busy."""
        alive = self._connections = [c for c in self._connections if c.transport is not None]
        best = min(alive, key=lambda c: len(c.waiting), default=None)
        if best is not None and (not best.waiting or len(alive) + self._opening >= self._max):
            return best
        self._opening += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(partial(Connection, ANSWER_BYTES_MAX), self._host, self._port, ssl=self._tls)
        finally:
            self._opening -= 1
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.abort()


def _in_time(limit: asyncio.TimerHandle, _answer: asyncio.Future[Answer]) -> None:
    limit.cancel()


RETRIABLE = (OSError, TimeoutError)
FAILURES = (ApiError, OSError, TimeoutError)
"""Everything that `request(...)` followed by `check()` or `object()` raises when it does not work out."""

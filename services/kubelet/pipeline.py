"""A lean HTTP/1.1 client for the kubelet's many small writes: leases, pod statuses, deletions.

A few connections carry pipelined requests, so a write costs about a tenth of one through a general HTTP client. Leaves out redirects,
compression and cookies; answers are buffered whole. Reads and watches go through kubecosm.client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import orjson

from kubecosm.api.errors import ApiError, from_status
from kubecosm.api.resources import Object
from kubecosm.client.config import ClientConfig

CONNECTIONS_MAX = 16
REQUESTS_PER_CONNECTION_MAX = 32
"""Outstanding on one connection; further requests wait for a place."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
CONNECT_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 30.0


class Answer(NamedTuple):
    code: int
    body: bytes

    def object(self) -> Object:
        """The decoded body; raises the ApiError that the answer stands for."""
        try:
            decoded = orjson.loads(self.body) if self.body else {}
        except orjson.JSONDecodeError:
            decoded = self.body.decode(errors="replace")
        if self.code >= 400 or not isinstance(decoded, dict):
            raise from_status(decoded, self.code)
        return decoded

    def check(self) -> None:
        """Raise the ApiError that the answer stands for, if any."""
        if self.code >= 400:
            self.object()


class Request(NamedTuple):
    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


class _Connection(asyncio.Protocol):
    """One connection: requests out in order, answers back in the same order."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[asyncio.Future[Answer]] = deque()
        self._buffer = bytearray()
        self._head: tuple[int, int, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the API server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (answer := self._next_answer()) is not None:
                if not self.waiting:
                    raise ValueError("an answer that nobody asked for")
                future = self.waiting.popleft()
                if not future.done():
                    future.set_result(answer)
        except (ValueError, IndexError):
            if self.transport is not None:
                self.transport.abort()

    def _next_answer(self) -> Answer | None:
        """Take one whole answer out of the buffer. `_head` is (code, start of the body, its length or -1 for chunked)."""
        buffer = self._buffer
        if self._head is None:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._head = _parse_head(bytes(buffer[:end]), end + 4)
        code, start, length = self._head
        if length < 0:
            found = _chunked(buffer, start)
            if found is None:
                return None
            body, end = found
        else:
            end = start + length
            if len(buffer) < end:
                return None
            body = bytes(buffer[start:end])
        del buffer[:end]
        self._head = None
        return Answer(code, body)


def _parse_head(head: bytes, start: int) -> tuple[int, int, int]:
    lines = head.split(b"\r\n")
    code, length = int(lines[0].split(b" ", 2)[1]), 0
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        key = name.lower()
        if key == b"content-length":
            length = int(value)
            if length > ANSWER_BYTES_MAX:
                raise ValueError("answer too large")
        elif key == b"transfer-encoding" and b"chunked" in value.lower():
            length = -1
    return code, start, length


def _chunked(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = bytearray()
    position = start
    while True:
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return None
        size = int(bytes(buffer[position:end]).split(b";")[0], 16)
        if len(body) + size > ANSWER_BYTES_MAX:
            raise ValueError("answer too large")
        position = end + 2 + size + 2
        if len(buffer) < position:
            return None
        if size == 0:
            return bytes(body), position
        body += buffer[end + 2 : position - 2]


class ApiPipeline:
    """Sends requests to one API server. Raises OSError or TimeoutError if no answer comes; the caller decides about another try."""

    def __init__(self, config: ClientConfig, user_agent: str, connections_max: int = CONNECTIONS_MAX) -> None:
        parts = urlsplit(config.server)
        self._host, self._secure = parts.hostname or "127.0.0.1", parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._tls = config.ssl_context() if self._secure else None
        token = f"Authorization: Bearer {config.token}\r\n" if config.token else ""
        self._common = f"Host: {parts.netloc}\r\nUser-Agent: {user_agent}\r\nAccept: application/json\r\n{token}"
        self._max = connections_max
        self._connections: list[_Connection] = []
        self._opening = 0
        self._places = asyncio.Semaphore(connections_max * REQUESTS_PER_CONNECTION_MAX)

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Answer:
        """One request; any HTTP answer is returned."""
        async with self._places:
            connection = await self._connection()
            transport = connection.transport
            if transport is None:
                raise ConnectionResetError("the API server closed the connection")
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            connection.waiting.append(future)
            transport.write(self._wire(Request(method, path, body, content_type)))
            timeout = asyncio.get_running_loop().call_later(ANSWER_SECONDS_MAX, partial(_give_up, connection))
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
            limit = loop.call_later(ANSWER_SECONDS_MAX, partial(_give_up, connection))
            futures[-1].add_done_callback(partial(_in_time, limit))
        return futures

    def _wire(self, request: Request) -> bytes:
        method, path, body, content_type = request
        head = f"{method} {path} HTTP/1.1\r\n{self._common}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body

    async def _connection(self) -> _Connection:
        """An idle connection, a new one, or the least busy."""
        alive = self._connections = [c for c in self._connections if c.transport is not None]
        best = min(alive, key=lambda c: len(c.waiting), default=None)
        if best is not None and (not best.waiting or len(alive) + self._opening >= self._max):
            return best
        self._opening += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        finally:
            self._opening -= 1
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.abort()


def _in_time(limit: asyncio.TimerHandle, _answer: asyncio.Future[Answer]) -> None:
    limit.cancel()


def _give_up(connection: _Connection) -> None:
    if connection.transport is not None:
        connection.transport.abort()


RETRIABLE = (OSError, TimeoutError)
FAILURES = (ApiError, OSError, TimeoutError)
"""Everything that `request(...)` followed by `check()` or `object()` raises when it does not work out."""

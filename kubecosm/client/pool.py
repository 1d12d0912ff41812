"""Keep-alive connections to one API server, each with one request under way at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from urllib.parse import urlsplit

from kubecosm.client.connection import Answer, Connection

CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_SECONDS_MAX = 60.0
REPEATABLE_METHODS = ("GET", "PUT", "DELETE")
"""Asked once more when a kept connection turns out to be closed: doing these twice is as good as once."""


class ConnectionPool:
    """At most `connections_max` requests are under way, the others wait. Raises OSError or TimeoutError if no answer comes."""

    def __init__(self, server: str, tls: ssl.SSLContext | None, *, server_name: str = "", connections_max: int) -> None:
        """`server` as in a kubeconfig; `server_name` stands in its certificate, if not the host's name."""
        parts = urlsplit(server)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._tls = tls
        self._server_name = (server_name or self._host) if tls else None
        self._places = asyncio.Semaphore(connections_max)
        self._idle: deque[Connection] = deque()

    async def request(self, method: str, request: bytes, timeout_seconds: float) -> Answer:
        """Send one request, head and body; any HTTP answer is returned."""
        async with asyncio.timeout(timeout_seconds), self._places:
            connection = self._take_idle()
            if connection is not None:
                try:
                    return await self._exchange(connection, request)
                except ConnectionResetError:
                    if method not in REPEATABLE_METHODS:
                        raise
            return await self._exchange(await self._open(), request)

    async def close(self) -> None:
        """Close what is idle; open requests end with their callers."""
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)  # sockets are closed one turn of the loop later

    async def _exchange(self, connection: Connection, request: bytes) -> Answer:
        answer = connection.send(request)
        try:
            return await answer
        finally:
            if answer.cancelled() or not connection.is_usable:
                connection.abort()
            else:
                self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        """The newest are used first, so the others grow old enough to be closed."""
        idle, now = self._idle, asyncio.get_running_loop().time()
        connection.idle_since = now
        idle.append(connection)
        while now - idle[0].idle_since > IDLE_SECONDS_MAX:
            idle.popleft().abort()

    def _take_idle(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS_MAX
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, connection = await loop.create_connection(
                Connection, self._host, self._port, ssl=self._tls, server_hostname=self._server_name
            )
        return connection

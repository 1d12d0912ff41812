"""Requests to one server over a pool of keep-alive connections, and streams over connections of their own.

Raises OSError and its kin only (refused, reset, timed out, TLS); what an answer means is the caller's business.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from kubecosm.client.config import ConfigError
from kubecosm.client.connection import Connection, Head

CONNECT_TIMEOUT_SECONDS = 10.0
IDLE_SECONDS_MAX = 60.0
"""A connection that was idle for longer is not used again: the server may be about to close it."""
KEEPALIVE_IDLE_SECONDS = 30
"""TCP keep-alive probes find out that the peer's machine is gone."""
REPEATABLE_METHODS = ("GET", "HEAD")
"""What may be sent twice when nobody knows whether it arrived (as Go's http.Transport decides)."""


class Answer(NamedTuple):
    """A whole answer."""

    head: Head
    body: bytes


class ResponseStream:
    """An answer whose body is read as it arrives."""

    def __init__(self, head: Head, connection: Connection, transport: Transport) -> None:
        """Made by Transport.open_stream."""
        self.status = head.status
        self.content_type = head.content_type
        self.head = head
        self._connection, self._transport = connection, transport

    async def read(self) -> bytes:
        """Whatever has arrived, at least one byte; empty at the end. Raises OSError when the connection breaks."""
        return await self._connection.read()

    async def aclose(self) -> None:
        """Drop the connection: the rest of the body is not wanted."""
        self._transport.forget(self._connection)


class Transport:
    """All connections to one server. Close it with `aclose`."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None, *, server_name: str, user_agent: str, requests_max: int, streams_max: int
    ) -> None:
        """`url` such as https://127.0.0.1:6443, perhaps with a path that all paths begin with. Raises ConfigError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"not the URL of a server: {url!r}")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls, self._server_name = tls, (server_name or parts.hostname) if tls is not None else None
        self._common = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: {user_agent}\r\nAccept: application/json\r\n"
        self._slots, self._stream_slots = asyncio.Semaphore(requests_max), asyncio.Semaphore(streams_max)
        self._idle: list[Connection] = []  # the last one used is used next, so that the others may age
        self._streams: dict[Connection, asyncio.TimerHandle | None] = {}
        self._open: set[Connection] = set()

    async def request(self, method: str, target: str, headers: str, body: bytes, timeout_seconds: float) -> Answer:
        """One request and its whole answer; `headers` are whole lines. A kept connection that died unnoticed costs no failure."""
        message = self._message(method, target, headers, body)
        async with self._slots, asyncio.timeout(timeout_seconds):
            while (kept := self._take_idle()) is not None:
                try:
                    return await self._exchange(kept, method, message)
                except OSError:
                    if kept.answered or method not in REPEATABLE_METHODS:
                        raise
            return await self._exchange(await self._connect(), method, message)

    async def open_stream(
        self, method: str, target: str, headers: str, timeout_seconds: float, lifetime_seconds: float | None
    ) -> ResponseStream:
        """One request on a connection of its own, which the caller closes.

        The head of the answer must come within `timeout_seconds`; after `lifetime_seconds` reading fails with TimeoutError.
        """
        await self._stream_slots.acquire()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await self._connect()
                connection.send(method, self._message(method, target, headers, b""))
                head = await connection.read_head()
        except BaseException:
            if connection is not None:
                self._drop(connection)
            self._stream_slots.release()
            raise
        later = asyncio.get_running_loop().call_later
        self._streams[connection] = later(lifetime_seconds, connection.expire) if lifetime_seconds is not None else None
        return ResponseStream(head, connection, self)

    def forget(self, stream: Connection) -> None:
        """Drop the connection of a stream; again is harmless."""
        if stream in self._streams:
            timer = self._streams.pop(stream)
            if timer is not None:
                timer.cancel()
            self._drop(stream)
            self._stream_slots.release()

    async def aclose(self) -> None:
        """Drop every connection; requests and streams that are going on fail."""
        for connection in list(self._open):
            self.forget(connection)
            connection.abort()
            await connection.wait_closed()
        self._open.clear()
        self._idle.clear()

    def _message(self, method: str, target: str, headers: str, body: bytes) -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT", "PATCH") else ""
        return f"{method} {self._prefix}{target}{self._common}{headers}{length}\r\n".encode("latin-1") + body

    def _take_idle(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS_MAX
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since >= oldest:
                return connection
            self._drop(connection)
        return None

    async def _exchange(self, connection: Connection, method: str, message: bytes) -> Answer:
        try:
            connection.send(method, message)
            answer = Answer(await connection.read_head(), await connection.read_all())
        except BaseException:
            self._drop(connection)
            raise
        if connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            self._drop(connection)
        return answer

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            transport, connection = await loop.create_connection(
                Connection, self._host, self._port, ssl=self._tls, server_hostname=self._server_name
            )
        self._open.add(connection)
        peer = transport.get_extra_info("socket")
        if peer is not None:
            _probe_when_silent(peer)
        return connection

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        self._open.discard(connection)


def _probe_when_silent(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)

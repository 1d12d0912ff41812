"""A small HTTP/1.1 server on asyncio streams, whose handlers may take over the connection (upgrade, CONNECT, chunked streams).

One listening socket for all nodes: the local address of a connection tells which node is meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from kubecosm.runtime.errors import StartupError

from ..network.http1 import BODY_BYTES_MAX, HEAD_BYTES_MAX, HttpError, Request, parse_head, response
from ..streaming.bytechannel import SocketChannel
from .auth import Caller, caller_of
from .delegation import Gate

IDLE_SECONDS_MAX = 300.0
CONNECTIONS_MAX = 10_000
CHUNK_END = b"0\r\n\r\n"

log = structlog.get_logger("kubelet")


@dataclass(slots=True)
class Exchange:
    """One request and the connection it came on."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    caller: Caller | None
    node_ip: str
    """The local address: which node was asked."""
    keep_alive: bool = True

    async def answer(self, code: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.writer.write(response(code, body, content_type, keep_alive=self.keep_alive, head_only=self.request.method == "HEAD"))
        await self.writer.drain()

    async def upgrade(self, headers: Mapping[str, str]) -> SocketChannel:
        """Answer 101 and take the connection over."""
        self.keep_alive = False
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{lines}\r\n".encode())
        await self.writer.drain()
        return SocketChannel(self.reader, self.writer)

    async def tunnel(self) -> SocketChannel:
        """Answer a CONNECT and take the connection over."""
        self.keep_alive = False
        self.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self.writer.drain()
        return SocketChannel(self.reader, self.writer)

    async def start_chunks(self, content_type: str) -> None:
        self.writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """One piece of a chunked body; OSError when the client has gone."""
        if data:
            self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await self.writer.drain()

    async def end_chunks(self) -> None:
        self.writer.write(CHUNK_END)
        await self.writer.drain()


Handler = Callable[[Exchange], Awaitable[None]]


class KubeletServer:
    """`start` binds; connections live until they end or `close`."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext, gate: Gate) -> None:
        self._handler = handler
        self._tls = tls
        self._gate = gate
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port. StartupError if it cannot be had."""
        sock = listening_socket(address, port)
        self._server = await asyncio.start_server(self._connected, sock=sock, ssl=self._tls, limit=HEAD_BYTES_MAX)
        return int(sock.getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections += 1
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass
        finally:
            self._connections -= 1
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = caller_of(writer.get_extra_info("peercert"))
        local: Any = writer.get_extra_info("sockname")
        while True:
            async with asyncio.timeout(IDLE_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
            try:
                request = parse_head(head[:-4])
                request.body = await _read_body(reader, request)
            except HttpError as failure:
                writer.write(response(failure.code, f"{failure}\n".encode(), keep_alive=False))
                return
            exchange = Exchange(request, reader, writer, caller, local[0], request.keep_alive)
            await self._handle(exchange)
            if not exchange.keep_alive:
                return

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        refused = await self._gate.refusal(exchange.caller, request.method, request.path, request.headers, exchange.node_ip)
        if refused is not None:
            await exchange.answer(refused[0], refused[1].encode())
            return
        try:
            await self._handler(exchange)
        except OSError:
            exchange.keep_alive = False
        except Exception as failure:
            log.error("request failed", component="kubelet", method=request.method, path=request.path, exc_info=failure)
            exchange.keep_alive = False
            with contextlib.suppress(OSError):
                await exchange.answer(500, b"Internal Server Error\n")


async def _read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    text = request.headers.get("content-length", "0")
    if not text.isdigit():
        raise HttpError(400, "bad Content-Length")
    if int(text) > BODY_BYTES_MAX:
        raise HttpError(413, "body too large")
    return await reader.readexactly(int(text)) if int(text) else b""


def listening_socket(address: str, port: int) -> socket.socket:
    """Bound to `address`, or to every address of the loopback device if it is empty."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not address and sys.platform.startswith("linux"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.bind((address or ("0.0.0.0" if sys.platform.startswith("linux") else "127.0.0.1"), port))
        sock.listen(256)
        sock.setblocking(False)
    except OSError as failure:
        sock.close()
        where = f"{address or 'loopback'}:{port}"
        if failure.errno == errno.EADDRINUSE:
            raise StartupError(
                f"cannot serve the kubelet's API on {where}: the port is in use; stop the other program or use --port=0"
            ) from failure
        raise StartupError(f"cannot serve the kubelet's API on {where}: {failure.strerror}") from failure
    return sock

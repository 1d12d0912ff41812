"""One accepted connection to a simulated pod, as a raw asyncio Protocol: HTTP/1.1, HTTP/2 for gRPC health, or Redis.

A client that begins with TLS gets it, on any port.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast

from .. import notes
from . import redis
from .applications import respond
from .endpoint import Endpoint
from .h2 import PREFACE, H2Server
from .http1 import HttpError, Request, RequestParser, response
from .tlslayer import HANDSHAKE, TlsLayer

EndpointLookup = Callable[[str, int], Endpoint | None]
Delay = Callable[[float, Callable[[], None]], Any]
TlsContext = Callable[[], ssl.SSLContext]


class PodConnection(asyncio.Protocol):
    """Finds its endpoint by the local address, then speaks that endpoint's protocol."""

    def __init__(self, lookup: EndpointLookup, delay: Delay, endpoint: Endpoint | None = None, tls: TlsContext | None = None) -> None:
        self._lookup = lookup
        self._delay = delay
        self._tls_context = tls
        self._tls: TlsLayer | None = None
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._receive: Callable[[bytes], None] = self._sniff
        self._parser: RequestParser | None = None
        self._buffer = bytearray()
        self._h2: H2Server | None = None
        self._waiting: Request | None = None
        self._closing = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        peer = transport.get_extra_info("peername")
        self._client = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) > 1 else "kubelet"
        if self._endpoint is None:
            local = transport.get_extra_info("sockname")
            self._endpoint = self._lookup(local[0], local[1])
        if self._endpoint is None:
            _refuse(transport)
            return
        self._endpoint.connections.add(self)
        if self._endpoint.application == "redis":
            self._receive = self._receive_redis

    def connection_lost(self, exc: Exception | None) -> None:
        if self._endpoint is not None:
            self._endpoint.connections.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tls is None:
            self._receive(data)
        else:
            self._receive_tls(self._tls, data)

    def _receive_tls(self, tls: TlsLayer, data: bytes) -> None:
        assert self._transport is not None
        try:
            plain = tls.receive(data)
        except ssl.SSLError:
            self._transport.write(tls.pending())
            self._transport.close()
            return
        if answer := tls.pending():
            self._transport.write(answer)
        if plain:
            self._receive(plain)

    def pause_writing(self) -> None:
        """The client reads slower than it is answered: it gets no further answer meanwhile, so that one at most waits in memory."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._parser is not None:
            self._serve_requests()

    def eof_received(self) -> bool:
        return self._waiting is not None

    def finish(self) -> None:
        self._closing = True
        if self._transport is not None and self._waiting is None and (self._parser is None or self._parser.is_empty):
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes, *, close: bool = False) -> None:
        if self._transport is None:
            return
        is_last = close or self._closing
        if self._tls is not None:
            self._tls.send(data)
            if is_last:
                self._tls.end()
            data = self._tls.pending()
        self._transport.write(data)
        if is_last:
            self._transport.close()

    def _sniff(self, data: bytes) -> None:
        """The first bytes tell TLS, HTTP/2 and HTTP/1 apart."""
        if data[0] == HANDSHAKE and self._tls_context is not None and self._tls is None and not self._buffer:
            self._tls = TlsLayer(self._tls_context())
            self._receive_tls(self._tls, data)
            return
        self._buffer += data
        if PREFACE.startswith(self._buffer[: len(PREFACE)]):
            if len(self._buffer) < 4:
                return
            self._h2 = H2Server(self._health)
            self._receive = self._receive_h2
        else:
            self._parser = RequestParser()
            self._receive = self._receive_http
        received, self._buffer = bytes(self._buffer), bytearray()
        self._receive(received)

    def _health(self) -> str:
        assert self._endpoint is not None
        return self._endpoint.behaviour(notes.GRPC_STATUS) or "SERVING"

    def _receive_h2(self, data: bytes) -> None:
        assert self._h2 is not None
        try:
            self._write(self._h2.receive(data))
        except ValueError:
            self.abort()

    def _receive_redis(self, data: bytes) -> None:
        assert self._endpoint is not None
        self._buffer += data
        try:
            while (command := redis.take_command(self._buffer)) is not None:
                if command:
                    self._endpoint.requests += 1
                    self._write(redis.execute(self._endpoint.memory, command), close=command[0].upper() == b"QUIT")
        except redis.ProtocolError as failure:
            self._write(redis.error(f"ERR Protocol error: {failure}"), close=True)

    def _receive_http(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed(data)
        self._serve_requests()

    def _serve_requests(self) -> None:
        """Answer what has come in whole, in order; one at a time while answers are delayed."""
        parser, endpoint = self._parser, self._endpoint
        assert parser is not None
        assert endpoint is not None
        while self._waiting is None and self._transport is not None and not self._paused:
            try:
                request = parser.next_request()
            except HttpError as failure:
                self._write(response(failure.code, f"{failure}\n".encode(), keep_alive=False), close=True)
                return
            if request is None:
                if parser.wants_continue:
                    self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            latency = endpoint.behaviour(notes.LATENCY_SECONDS)
            if latency is None:
                self._answer(request)
            else:
                self._waiting = request
                self._delay(_seconds(latency), self._answer_waiting)

    def _answer_waiting(self) -> None:
        request, self._waiting = self._waiting, None
        if request is not None and self._transport is not None:
            self._answer(request)
            self._serve_requests()

    def _answer(self, request: Request) -> None:
        assert self._endpoint is not None
        keep = request.keep_alive and not self._endpoint.is_draining
        self._write(respond(self._endpoint, request, self._client), close=not keep)


def _refuse(transport: asyncio.Transport) -> None:
    """Reset the connection: nothing listens here, though a shared socket had to accept."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0

"""A watch over a WebSocket (RFC 6455): each event is one text message. For browsers and clients that cannot read a stream of lines.

Imitates HandleWS of k8s.io/apiserver/pkg/endpoints/handlers/watch.go. Left out: extensions, and anything the client might have to say
but a ping and its goodbye.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct

from kubecosm.api.errors import BadRequest
from kubecosm.api.resources import Object

from ..authn.filter import WEBSOCKET_BEARER
from ..cache.view import View
from ..http.connection import Connection
from ..http.request import Request
from .watchstream import WatchStream

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
NORMAL_CLOSURE = struct.pack(">H", 1000)
FRAME_BYTES_MAX = 64 * 1024
"""Of what a client sends; more ends the watch."""


def is_websocket(request: Request) -> bool:
    headers = request.headers
    return headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in headers.get("Connection", "").lower()


def handshake(request: Request) -> bytes:
    """The answer to the upgrade. Raises BadRequest."""
    key = request.headers.get("Sec-WebSocket-Key")
    if not key or request.headers.get("Sec-WebSocket-Version") != "13":
        raise BadRequest("not a WebSocket handshake: Sec-WebSocket-Key and Sec-WebSocket-Version 13 are needed")
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest())
    offered = [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    protocol = next((part for part in offered if part and not part.startswith(WEBSOCKET_BEARER)), "")
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % protocol.encode() if protocol else b""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
    return head % (accept, chosen)


def frame(opcode: int, data: bytes) -> bytes:
    """One unmasked frame, as servers send them."""
    size = len(data)
    if size < 126:
        head = bytes([0x80 | opcode, size])
    elif size < 1 << 16:
        head = bytes([0x80 | opcode, 126]) + struct.pack(">H", size)
    else:
        head = bytes([0x80 | opcode, 127]) + struct.pack(">Q", size)
    return head + data


def parse_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """(opcode, data) of the first whole frame in the buffer, which it is taken from. ValueError for one that is too large."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(buffer[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(buffer[2:10], "big"), 10
    if size > FRAME_BYTES_MAX:
        raise ValueError("the frame is too large")
    mask = bytes(buffer[start : start + 4]) if buffer[1] & 0x80 else b""
    start += len(mask) if len(mask) == 4 else 4 if buffer[1] & 0x80 else 0
    if len(buffer) < start + size:
        return None
    data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(buffer[start : start + size])) if mask else bytes(buffer[start : start + size])
    opcode = buffer[0] & 0x0F
    del buffer[: start + size]
    return opcode, data


class _FromClient(asyncio.Protocol):
    """Reads the client's frames in place of aiohttp's connection, which goes on to be told of flow control and of the end."""

    def __init__(self, connection: Connection, transport: asyncio.Transport, stream: WatchStream) -> None:
        self._connection, self._transport, self._stream = connection, transport, stream
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (found := parse_frame(self._buffer)) is not None:
                opcode, payload = found
                if opcode == PING:
                    self._transport.write(frame(PONG, payload))
                elif opcode == CLOSE:
                    self._stream.end()
        except ValueError:
            self._stream.end()

    def eof_received(self) -> bool:
        self._stream.end()
        return False

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.end()
        self._connection.connection_lost(exc)


class WatchSocket(WatchStream):
    """A watch stream whose pieces go out as messages."""

    def __init__(self, request: Request, type_meta: Object, view: View, *, bookmarks: bool) -> None:
        super().__init__(request, type_meta, view, bookmarks=bookmarks)
        self._handshake = handshake(request)

    def begin(self, request: Request, content_type: str) -> None:
        connection, transport = request.connection, request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        reader = _FromClient(connection, transport, self)
        early = connection.take_early_data()
        if request.on_response_started is not None:
            request.on_response_started(101)
        transport.write(self._handshake)
        transport.set_protocol(reader)
        transport.resume_reading()
        if early:
            reader.data_received(early)

    def send(self, piece: bytes) -> None:
        """`piece` is an HTTP chunk of whole lines."""
        lines = piece[piece.index(b"\r\n") + 2 : -2].splitlines(keepends=True)
        super().send(b"".join([frame(TEXT, line) for line in lines]))

    def finish(self) -> None:
        """Say goodbye and hang up: nothing else can follow on this connection."""
        transport = self._connection.transport
        if transport is not None:
            transport.write(frame(CLOSE, NORMAL_CLOSURE))
            transport.close()

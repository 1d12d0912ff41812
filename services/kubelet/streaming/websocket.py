"""The server side of WebSocket (RFC 6455) over an upgraded connection. Leaves out: extensions, compression."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Sequence

from .bytechannel import ByteChannel

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
NORMAL_CLOSURE = 1000


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


def choose_protocol(offered: str, supported: Sequence[str]) -> str | None:
    """The first of the client's protocols that is supported."""
    wishes = [part.strip() for part in offered.split(",")]
    return next((wish for wish in wishes if wish in supported), None)


def encode(opcode: int, data: bytes) -> bytes:
    """One unmasked frame, as servers send them."""
    size = len(data)
    if size < 126:
        return bytes([0x80 | opcode, size]) + data
    if size < 65_536:
        return bytes([0x80 | opcode, 126]) + struct.pack(">H", size) + data
    return bytes([0x80 | opcode, 127]) + struct.pack(">Q", size) + data


def unmask(data: bytes, mask: bytes) -> bytes:
    if not data:
        return b""
    pattern = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(data), "big")


class WebSocket:
    """One connection. `receive` gives whole messages; pings are answered, a close is echoed."""

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._sending = asyncio.Lock()
        self._closed = False

    async def send(self, data: bytes, *, text: bool = False) -> None:
        """Send one message; OSError when the peer has gone."""
        await self._send(TEXT if text else BINARY, data)

    async def _send(self, opcode: int, data: bytes) -> None:
        async with self._sending:
            if self._closed:
                raise ConnectionResetError("the WebSocket is closed")
            await self._channel.write(encode(opcode, data))

    async def receive(self) -> bytes | None:
        """The next message; None once the peer has closed or misbehaved."""
        message = bytearray()
        while True:
            frame = await self._frame()
            if frame is None:
                return None
            final, opcode, data = frame
            if opcode == CLOSE:
                await self.close()
                return None
            if opcode == PING:
                await self._send(PONG, data)
            elif opcode in (TEXT, BINARY, CONTINUATION):
                message += data
                if len(message) > MESSAGE_BYTES_MAX:
                    return None
                if final:
                    return bytes(message)

    async def _frame(self) -> tuple[bool, int, bytes] | None:
        head = await self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        if size >= 126:
            extended = await self._take(2 if size == 126 else 8)
            if extended is None:
                return None
            size = int.from_bytes(extended, "big")
        if size > MESSAGE_BYTES_MAX or not head[1] & 0x80:
            return None  # clients must mask (RFC 6455 §5.1)
        mask, data = await self._take(4), await self._take(size)
        if mask is None or data is None:
            return None
        return bool(head[0] & 0x80), head[0] & 0x0F, unmask(data, mask)

    async def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            data = await self._channel.read()
            if not data:
                return None
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def close(self, code: int = NORMAL_CLOSURE) -> None:
        """Say goodbye and close. Idempotent."""
        if self._closed:
            return
        async with self._sending:
            self._closed = True
            with contextlib.suppress(OSError):
                await self._channel.write(encode(CLOSE, struct.pack(">H", code)))
            self._channel.close()

    def abort(self) -> None:
        """Close without a word more than a close frame that may get lost."""
        self._closed = True
        self._channel.close()


class WebSocketChannel:
    """Bytes tunnelled in binary messages: SPDY over WebSocket, as newer clients port-forward."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (message := await self._socket.receive()) is not None:
            if message:
                return message
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    def close(self) -> None:
        self._socket.abort()

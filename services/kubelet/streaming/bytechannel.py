"""A two-way stream of bytes, whatever carries it: a socket after an HTTP upgrade, or WebSocket messages."""

from __future__ import annotations

import asyncio
from typing import Protocol

READ_BYTES_MAX = 65_536


class ByteChannel(Protocol):
    async def read(self) -> bytes:
        """The next bytes; b"" at the end or when the connection broke."""

    async def write(self, data: bytes) -> None:
        """Send; OSError when the peer has gone."""

    def close(self) -> None: ...


class SocketChannel:
    """The raw connection. `rest` is what had been received behind the request's head."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES_MAX)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


async def relay(one: ByteChannel, other: ByteChannel) -> None:
    """Copy both ways until either side ends; then close both."""

    async def copy(source: ByteChannel, target: ByteChannel) -> None:
        try:
            while data := await source.read():
                await target.write(data)
        except OSError:
            return

    async with asyncio.TaskGroup() as tasks:
        halves = [tasks.create_task(copy(one, other), name="relay-out"), tasks.create_task(copy(other, one), name="relay-in")]
        await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        one.close()
        other.close()
        for half in halves:
            half.cancel()

"""Standard streams of a process inside a container: byte pipes that live in memory, with back-pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

PIPE_BYTES_MAX = 64 * 1024
"""A writer waits once so much is unread, as a kernel pipe does."""


class BrokenStream(Exception):
    """The reading end has gone: EPIPE."""


class Pipe:
    """A byte stream between two tasks. Reading at the end gives b""; writing to a closed reader raises BrokenStream."""

    __slots__ = ("_changed", "_chunks", "_eof", "_reader_gone", "_size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._eof = False
        self._reader_gone = False
        self._changed: asyncio.Event | None = None

    async def write(self, data: bytes) -> None:
        """Append data; suspends while the pipe is full."""
        while self._size >= PIPE_BYTES_MAX and not self._reader_gone:
            await self._wait()
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Append data without waiting; for callers that bound it themselves."""
        if self._reader_gone or self._eof:
            raise BrokenStream
        if data:
            self._chunks.append(data)
            self._size += len(data)
            self._notify()

    def close(self) -> None:
        """The writing end is done."""
        self._eof = True
        self._notify()

    def close_reader(self) -> None:
        """The reading end is gone; what is unread is dropped."""
        self._reader_gone = True
        self._chunks.clear()
        self._size = 0
        self._notify()

    async def read(self) -> bytes:
        """The next bytes, or b"" at the end."""
        while not self._chunks:
            if self._eof or self._reader_gone:
                return b""
            await self._wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        self._notify()
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back in front; the next read returns them first."""
        if data:
            self._chunks.appendleft(data)
            self._size += len(data)
            self._notify()

    async def read_line(self) -> bytes:
        """One line with its newline; the rest without one at the end; b"" after it."""
        line = b""
        while True:
            data = await self.read()
            if not data:
                return line
            head, newline, tail = data.partition(b"\n")
            line += head + newline
            if newline:
                self.unread(tail)
                return line

    async def read_all(self) -> bytes:
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()


@dataclass(frozen=True, slots=True)
class TerminalSize:
    width: int
    height: int


@dataclass(slots=True)
class ProcessStreams:
    """What an exec or attach connects. `stdin` None means no input at all; with a tty, stderr goes to stdout.

    `cancelled` is set when the client has gone: the process should end.
    """

    stdin: Pipe | None
    stdout: Pipe
    stderr: Pipe
    tty: bool = False
    size: TerminalSize | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

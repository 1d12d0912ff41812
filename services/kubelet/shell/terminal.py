"""A terminal's line discipline, as the kernel's tty gives it to a real container: echo, line editing, ^C and ^D, line ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..cri.streams import BrokenStream, Pipe

BACKSPACE = (0x08, 0x7F)
INTERRUPT, END_OF_FILE, KILL_LINE, ESCAPE = 0x03, 0x04, 0x15, 0x1B
LINE_BYTES_MAX = 4096


class ByteSink(Protocol):
    async def write(self, data: bytes) -> None: ...


class TerminalOutput:
    """What programs write to the terminal."""

    def __init__(self, out: ByteSink) -> None:
        self._out = out

    async def write(self, data: bytes) -> None:
        await self._out.write(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


class Terminal:
    """Reads raw key strokes, feeds whole lines to `lines`."""

    def __init__(self, raw: Pipe, out: ByteSink) -> None:
        self._raw = raw
        self._out = out
        self._line = bytearray()
        self._in_escape = False
        self.lines = Pipe()
        self.on_interrupt: Callable[[], object] | None = None

    async def run(self) -> None:
        """Until the input ends."""
        try:
            while data := await self._raw.read():
                for byte in data:
                    await self._key(byte)
        except BrokenStream:
            return
        finally:
            self.lines.close()

    async def _key(self, byte: int) -> None:
        if self._in_escape:
            self._in_escape = not (0x40 <= byte <= 0x7E and byte not in b"[O")
        elif byte == ESCAPE:
            self._in_escape = True
        elif byte in (0x0D, 0x0A):
            await self._out.write(b"\r\n")
            self._line.append(0x0A)
            self._flush()
        elif byte in BACKSPACE:
            if self._line:
                del self._line[-1:]
                await self._out.write(b"\b \b")
        elif byte == INTERRUPT:
            self._line.clear()
            await self._out.write(b"^C\r\n")
            if self.on_interrupt is not None:
                self.on_interrupt()
            else:
                self.lines.feed(b"\n")
        elif byte == END_OF_FILE:
            if self._line:
                self._flush()
            else:
                self.lines.close()
        elif byte == KILL_LINE:
            await self._out.write(b"\b \b" * len(self._line))
            self._line.clear()
        elif (byte >= 0x20 or byte == 0x09) and len(self._line) < LINE_BYTES_MAX:
            self._line.append(byte)
            await self._out.write(bytes([byte]))

    def _flush(self) -> None:
        self.lines.feed(bytes(self._line))
        self._line.clear()

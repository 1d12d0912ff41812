"""Container logs: a bounded buffer of lines with their times, and the options of `kubectl logs` applied to it.

Imitates pkg/kubelet/kuberuntime/logs: `tailLines` counts over the whole log before `since` filters, a negative-free
`limitBytes` cuts the last line, timestamps are RFC 3339 with nanoseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

LOG_BYTES_MAX = 1024 * 1024
"""Per container; the oldest lines go first, as with the kubelet's log rotation."""
LINE_BYTES_MAX = 16 * 1024
"""A longer line is split, as container runtimes do."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`since` is absolute; `tail_lines` and `limit_bytes` None mean no limit; `stream` is `All`, `Stdout` or `Stderr`."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: datetime | None = None
    stream: str = "All"


@dataclass(frozen=True, slots=True)
class LogLine:
    time: datetime
    is_stderr: bool
    data: bytes
    """With its newline, unless the process ended without one."""


class LogBuffer:
    """What a container wrote. Writers never wait; followers are woken."""

    __slots__ = ("_bytes", "_closed", "_lines", "_partial", "_total", "_wakers")

    def __init__(self) -> None:
        self._lines: list[LogLine] = []
        self._bytes = 0
        self._total = 0
        self._closed = False
        self._partial: list[bytes] = [b"", b""]
        self._wakers: set[Callable[[], None]] = set()

    def write(self, data: bytes, time: datetime, *, is_stderr: bool = False) -> None:
        """Append output; only whole lines become visible until the process ends."""
        whole = self._partial[is_stderr] + data
        *lines, rest = whole.split(b"\n")
        for line in lines:
            self._append(LogLine(time, is_stderr, line + b"\n"))
        while len(rest) > LINE_BYTES_MAX:
            self._append(LogLine(time, is_stderr, rest[:LINE_BYTES_MAX]))
            rest = rest[LINE_BYTES_MAX:]
        self._partial[is_stderr] = rest
        if lines:
            self._wake()

    def close(self, time: datetime) -> None:
        """The process has ended: followers finish after the last line."""
        for is_stderr in (False, True):
            if rest := self._partial[is_stderr]:
                self._partial[is_stderr] = b""
                self._append(LogLine(time, is_stderr, rest))
        self._closed = True
        self._wake()

    @property
    def is_empty(self) -> bool:
        """Nothing has been written yet."""
        return self._total == 0

    def _append(self, line: LogLine) -> None:
        self._lines.append(line)
        self._total += 1
        self._bytes += len(line.data)
        if self._bytes > LOG_BYTES_MAX:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Make room for a while: a quarter goes at once."""
        dropped = 0
        while self._bytes > LOG_BYTES_MAX * 3 // 4 and dropped < len(self._lines) - 1:
            self._bytes -= len(self._lines[dropped].data)
            dropped += 1
        del self._lines[:dropped]

    def _wake(self) -> None:
        for waker in list(self._wakers):
            waker()

    def lines_from(self, position: int) -> tuple[list[LogLine], int]:
        """Lines after the first `position` ever written (as far as still kept), and the new position."""
        skip = max(0, len(self._lines) - (self._total - position))
        return self._lines[skip:], self._total

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """The log as `kubectl logs` prints it, one chunk per batch of lines."""
        limiter = _Limiter(options.limit_bytes)
        lines, position = self.lines_from(0)
        if options.tail_lines is not None:
            lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
        changed = asyncio.Event()
        self._wakers.add(changed.set)
        try:
            while True:
                changed.clear()
                chunk = b"".join(_render(lines, options))
                if chunk:
                    yield limiter.take(chunk)
                if limiter.is_spent or not options.follow or (self._closed and position == self._total):
                    return
                if position == self._total:
                    await changed.wait()
                lines, position = self.lines_from(position)
        finally:
            self._wakers.discard(changed.set)


class _Limiter:
    def __init__(self, limit: int | None) -> None:
        self._left = limit

    @property
    def is_spent(self) -> bool:
        return self._left == 0

    def take(self, chunk: bytes) -> bytes:
        if self._left is None:
            return chunk
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        return chunk


def _render(lines: list[LogLine], options: LogOptions) -> Iterator[bytes]:
    for line in lines:
        if options.since is not None and line.time < options.since:
            continue
        if options.stream != "All" and (options.stream == "Stderr") != line.is_stderr:
            continue
        if options.timestamps:
            yield format_nano_time(line.time).encode() + b" "
        yield line.data


def format_nano_time(moment: datetime) -> str:
    """`2026-01-02T03:04:05.000006000Z`, as container runtimes stamp log lines."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")

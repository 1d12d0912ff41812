"""Where streams of commands lead: files of the container, here-documents, buffers, the special files of /dev."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ..cri.streams import Pipe
from ..volumes.filesystem import error
from .process import NullSink, Process, Sink

SUBSTITUTION_BYTES_MAX = 4 * 1024 * 1024


class FileSink:
    """Writes go to a file of the container."""

    def __init__(self, process: Process, path: str, *, append: bool) -> None:
        self._process = process
        self._path = path
        process.fs.write(path, b"", append=append, now=process.machine.clock.now())

    async def write(self, data: bytes) -> None:
        self._process.fs.write(self._path, data, append=True, now=self._process.machine.clock.now())


class Buffer:
    """Keeps what is written; for command substitution."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > SUBSTITUTION_BYTES_MAX:
            raise error(errno.ENOMEM, "")
        self.data += data


def input_of(data: bytes) -> Pipe:
    pipe = Pipe()
    if data:
        pipe.feed(data)
    pipe.close()
    return pipe


def open_input(process: Process, name: str) -> Pipe | None:
    path = process.path(name)
    if path == "/dev/stdin":
        return process.stdin
    if path in ("/dev/null", "/dev/zero"):
        return input_of(b"")
    return input_of(process.fs.read(path))


def open_output(process: Process, name: str, *, append: bool) -> Sink:
    path = process.path(name)
    special: dict[str, Callable[[], Sink]] = {
        "/dev/null": NullSink, "/dev/stdout": lambda: process.stdout, "/dev/stderr": lambda: process.stderr,
        "/dev/tty": lambda: process.stdout,
        "/proc/1/fd/1": lambda: process.stdout, "/proc/1/fd/2": lambda: process.stderr, "/proc/self/fd/1": lambda: process.stdout,
    }  # fmt: skip
    make = special.get(path)
    return make() if make is not None else FileSink(process, path, append=append)

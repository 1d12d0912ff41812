"""exec and attach: joins a process's streams with a client's channels, over WebSocket (v4, v5) or SPDY (v2-v4).

Imitates k8s.io/kubelet/pkg/cri/streaming/remotecommand: the error channel carries a Status with the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import orjson

from kubecosm.api.resources import Object

from ..cri.streams import BrokenStream, Pipe, ProcessStreams, TerminalSize
from ..cri.types import RuntimeFailure
from .channels import ChannelSocket
from .spdy_session import SpdySession, SpdyStream

WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io")
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE_SIGNAL = 0, 1, 2, 3, 4, 255
STREAM_CREATION_SECONDS_MAX = 30.0
SUCCESS: Object = {"metadata": {}, "status": "Success"}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: list[tuple[str, str]]) -> StreamOptions:
        """From a request's query (`input=1&output=1&error=1&tty=1`, or the API's names)."""
        values = dict(query)

        def wants(*names: str) -> bool:
            return any(values.get(name, "") in ("1", "true") for name in names)

        tty = wants("tty")
        return cls(wants("input", "stdin"), wants("output", "stdout"), wants("error", "stderr") and not tty, tty)


class Client(Protocol):
    """The far end of an exec: sends output and the final status; `feed` moves input until the client has gone."""

    async def output(self, data: bytes, *, is_stderr: bool) -> None: ...

    async def finish(self, status: Object) -> None: ...

    async def feed(self, streams: ProcessStreams) -> None: ...


RunProcess = Callable[[ProcessStreams], Awaitable[int]]


async def serve(client: Client, options: StreamOptions, run: RunProcess) -> None:
    """Run the process with the client's streams until it ends or the client leaves; tells the client how it ended."""
    streams = ProcessStreams(Pipe() if options.stdin else None, Pipe(), Pipe(), options.tty)
    async with asyncio.TaskGroup() as tasks:
        feeder = tasks.create_task(_feed(client, streams), name="remote-input")
        pumps = [
            tasks.create_task(_pump(client, streams.stdout, False, options.stdout), name="remote-stdout"),
            tasks.create_task(_pump(client, streams.stderr, True, options.stderr), name="remote-stderr"),
        ]
        status = await _run(run, streams)
        streams.stdout.close()
        streams.stderr.close()
        await asyncio.wait(pumps)
        with contextlib.suppress(OSError):
            await client.finish(status)
        feeder.cancel()


async def _run(run: RunProcess, streams: ProcessStreams) -> Object:
    try:
        return exit_status(await run(streams))
    except RuntimeFailure as failure:
        return failure_status(failure.message)
    except BrokenStream:
        return SUCCESS


async def _feed(client: Client, streams: ProcessStreams) -> None:
    try:
        await client.feed(streams)
    except (OSError, BrokenStream):
        pass
    finally:
        streams.cancelled.set()
        if streams.stdin is not None:
            streams.stdin.close()


async def _pump(client: Client, pipe: Pipe, is_stderr: bool, wanted: bool) -> None:
    try:
        while data := await pipe.read():
            if wanted:
                await client.output(data, is_stderr=is_stderr)
    except OSError:
        pipe.close_reader()


def exit_status(code: int) -> Object:
    """The Status for an exit code."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure_status(message: str) -> Object:
    text = f"Internal error occurred: error executing command in container: {message}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": "InternalError",
        "details": {"causes": [{"message": f"error executing command in container: {message}"}]},
        "code": 500,
    }


def parse_size(data: bytes) -> TerminalSize | None:
    """A resize message: {"Width": 80, "Height": 24}."""
    try:
        size = orjson.loads(data)
        return TerminalSize(int(size["Width"]), int(size["Height"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


class WebSocketClient:
    """The channels of a command in one WebSocket."""

    def __init__(self, socket: ChannelSocket, protocol: str) -> None:
        self._socket = socket
        self._protocol = protocol

    async def start(self, options: StreamOptions) -> None:
        """An empty message on each output channel, as the first sign of life; older clients wait for it."""
        if not self._protocol.startswith("v5"):
            for channel in (STDOUT, STDERR, ERROR):
                await self._socket.send(channel, b"")

    async def output(self, data: bytes, *, is_stderr: bool) -> None:
        await self._socket.send(STDERR if is_stderr else STDOUT, data)

    async def finish(self, status: Object) -> None:
        if self._protocol != "channel.k8s.io":
            await self._socket.send(ERROR, orjson.dumps(status))
        await self._socket.close()

    async def feed(self, streams: ProcessStreams) -> None:
        while (message := await self._socket.receive()) is not None:
            channel, data = message
            if channel == STDIN and streams.stdin is not None:
                await streams.stdin.write(data)
            elif channel == RESIZE:
                streams.size = parse_size(data) or streams.size
            elif channel == CLOSE_SIGNAL and data[:1] == bytes([STDIN]) and streams.stdin is not None:
                streams.stdin.close()


class SpdyClient:
    """One SPDY stream per channel, told apart by their `streamtype` header."""

    def __init__(self, session: SpdySession) -> None:
        self._session = session
        self._streams: dict[str, SpdyStream] = {}

    async def start(self, options: StreamOptions) -> bool:
        """Wait for the streams that were asked for; false if they do not come in time."""
        wanted = {"error"} | {
            name for name, wants in (("stdin", options.stdin), ("stdout", options.stdout), ("stderr", options.stderr)) if wants
        }  # fmt: skip
        if options.tty:
            wanted.add("resize")
        try:
            async with asyncio.timeout(STREAM_CREATION_SECONDS_MAX):
                while not wanted <= set(self._streams):
                    stream = await self._session.accept()
                    if stream is None:
                        return False
                    self._streams[stream.headers.get("streamtype", "")] = stream
        except TimeoutError:
            return False
        return True

    async def output(self, data: bytes, *, is_stderr: bool) -> None:
        stream = self._streams.get("stderr" if is_stderr else "stdout")
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Object) -> None:
        if (error := self._streams.get("error")) is not None:
            await error.write(orjson.dumps(status))
        for stream in self._streams.values():
            await stream.close()
        await self._session.close()

    async def feed(self, streams: ProcessStreams) -> None:
        async with asyncio.TaskGroup() as tasks:
            if (stdin := self._streams.get("stdin")) is not None and streams.stdin is not None:
                tasks.create_task(_copy(stdin.incoming, streams.stdin), name="spdy-stdin")
            if (resize := self._streams.get("resize")) is not None:
                tasks.create_task(_resize(resize.incoming, streams), name="spdy-resize")
            await self._session.ended.wait()


async def _copy(source: Pipe, target: Pipe) -> None:
    with contextlib.suppress(BrokenStream):
        while data := await source.read():
            await target.write(data)
    target.close()


async def _resize(source: Pipe, streams: ProcessStreams) -> None:
    while data := await source.read():
        streams.size = parse_size(data) or streams.size

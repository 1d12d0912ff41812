"""Port-forward: pairs of data and error streams for each connection, over SPDY (also tunnelled in a WebSocket) or over WebSocket channels.

Imitates k8s.io/kubelet/pkg/cri/streaming/portforward.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

from ..cri.streams import BrokenStream, Pipe
from .bytechannel import READ_BYTES_MAX
from .channels import ChannelSocket
from .spdy_session import SpdySession, SpdyStream

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
"""Binary, as for a client that names none, or base64."""

DialPort = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a connection to a port of the pod; OSError if refused."""


class PortForwarder:
    """Serves one SPDY session. `pod` names the pod in error messages."""

    def __init__(self, session: SpdySession, dial: DialPort, pod: str) -> None:
        self._session = session
        self._dial = dial
        self._pod = pod
        self._pairs: dict[str, dict[str, SpdyStream]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._session.run(), name="portforward-session")
            while (stream := await self._session.accept()) is not None:
                kind = stream.headers.get("streamtype", "")
                request = stream.headers.get("requestid") or str(stream.number if kind == "error" else stream.number - 2)
                pair = self._pairs.setdefault(request, {})
                pair[kind] = stream
                if len(pair) == 2:
                    del self._pairs[request]
                    tasks.create_task(self._forward(pair["data"], pair["error"]), name="portforward")
            reader.cancel()

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        try:
            port = int(data.headers.get("port", ""))
            reader, writer = await self._dial(port)
        except (OSError, ValueError) as failure:
            await self._fail(error, data, failure)
            return
        try:
            await _join(data.incoming, data.write, reader, writer)
        finally:
            with contextlib.suppress(OSError):
                await data.close()
                await error.close()
            for stream in (data, error):
                self._session.forget(stream)

    async def _fail(self, error: SpdyStream, data: SpdyStream, failure: Exception) -> None:
        port = data.headers.get("port", "")
        with contextlib.suppress(OSError):
            await error.write(failure_text(self._pod, port, failure).encode())
            await error.close()
            await data.reset()
        for stream in (data, error):
            self._session.forget(stream)


def failure_text(pod: str, port: str | int, failure: Exception) -> str:
    why = "connect: connection refused" if isinstance(failure, ConnectionRefusedError) else str(failure)
    where = f"error forwarding port {port} to pod {pod}, uid : failed to connect to localhost:{port}"
    return f"an error occurred forwarding {port} -> {port}: {where}: {why}"


async def _join(
    source: Pipe, write: Callable[[bytes], Awaitable[None]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Copy both ways until the pod's side ends, or the client's side ends and the pod has answered."""

    async def upstream() -> None:
        try:
            while data := await source.read():
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            return

    try:
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(upstream(), name="portforward-up")
            with contextlib.suppress(OSError, BrokenStream):
                while data := await reader.read(READ_BYTES_MAX):
                    await write(data)
            sender.cancel()
    finally:
        writer.close()


class ChannelForwarder:
    """The WebSocket form without SPDY: channels 2i (data) and 2i+1 (error) for the i-th port of the request."""

    def __init__(self, socket: ChannelSocket, dial: DialPort, ports: list[int], pod: str) -> None:
        self._socket = socket
        self._dial = dial
        self._ports = ports
        self._pod = pod

    async def run(self) -> None:
        inputs = [Pipe() for _ in self._ports]
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._socket.send(channel, struct.pack("<H", port))
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(self._forward(index, pipe), name="portforward") for index, pipe in enumerate(inputs)]
            while (message := await self._socket.receive()) is not None:
                channel, data = message
                if channel % 2 == 0 and channel // 2 < len(inputs):
                    with contextlib.suppress(BrokenStream):
                        await inputs[channel // 2].write(data)
            for job in jobs:
                job.cancel()

    async def _forward(self, index: int, source: Pipe) -> None:
        try:
            reader, writer = await self._dial(self._ports[index])
        except OSError as failure:
            with contextlib.suppress(OSError):
                await self._socket.send(2 * index + 1, failure_text(self._pod, self._ports[index], failure).encode())
            return

        async def write(data: bytes) -> None:
            await self._socket.send(2 * index, data)

        await _join(source, write, reader, writer)

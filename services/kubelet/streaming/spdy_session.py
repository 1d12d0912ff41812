"""A SPDY/3.1 session, server side: streams that the client opens, each a pipe in and a writer out.

Flow control windows are not kept: the Kubernetes clients' library ignores them; back-pressure is the connection's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

from ..cri.streams import BrokenStream, Pipe
from . import spdy_frames as frames
from .bytechannel import ByteChannel
from .spdy_headers import HeaderCodec, HeaderError

STREAMS_MAX = 1024
ACCEPT_QUEUE_MAX = 256


class SpdyStream:
    """One stream: `headers` as the client gave them, `incoming` what it sends, `write` and `close` what it gets."""

    def __init__(self, session: SpdySession, number: int, headers: dict[str, str]) -> None:
        self._session = session
        self.number = number
        self.headers = headers
        self.incoming = Pipe()
        self._closed = False

    async def write(self, data: bytes) -> None:
        if not self._closed and data:
            await self._session.send(frames.encode_data(self.number, data))

    async def close(self) -> None:
        """No more will be sent. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._session.send(frames.encode_data(self.number, b"", frames.FIN))

    async def reset(self) -> None:
        """Give the stream up in both directions. Idempotent."""
        if not self._closed:
            self._closed = True
            await self._session.send(frames.encode_reset(self.number, frames.RST_CANCEL))
        self.incoming.close()


class SpdySession:
    """`run` reads frames until the connection ends; `accept` gives the streams in the order in which the client opened them."""

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel
        self._codec = HeaderCodec()
        self._decoder = frames.FrameDecoder()
        self._streams: dict[int, SpdyStream] = {}
        self._accepted: asyncio.Queue[SpdyStream | None] = asyncio.Queue(ACCEPT_QUEUE_MAX)
        self._sending = asyncio.Lock()
        self.ended = asyncio.Event()

    async def accept(self) -> SpdyStream | None:
        """The next stream; None once the connection has ended."""
        return None if self.ended.is_set() and self._accepted.empty() else await self._accepted.get()

    async def send(self, data: bytes) -> None:
        async with self._sending:
            await self._channel.write(data)

    def forget(self, stream: SpdyStream) -> None:
        """The stream is done in both directions."""
        self._streams.pop(stream.number, None)

    async def run(self) -> None:
        try:
            while data := await self._channel.read():
                for frame in self._decoder.feed(data):
                    await self._handle(frame)
        except (frames.FrameError, HeaderError, struct.error, OSError):
            pass
        finally:
            self.ended.set()
            for stream in self._streams.values():
                stream.incoming.close()
            if not self._accepted.full():
                self._accepted.put_nowait(None)

    async def _handle(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.DataFrame):
            stream = self._streams.get(frame.stream)
            if stream is None:
                return
            with contextlib.suppress(BrokenStream):
                await stream.incoming.write(frame.data)
            if frame.flags & frames.FIN:
                stream.incoming.close()
        elif frame.kind == frames.SYN_STREAM:
            await self._open(frame)
        elif frame.kind == frames.HEADERS:
            self._codec.decode(frame.payload[4:])
        elif frame.kind == frames.RST_STREAM:
            (number, _) = struct.unpack_from(">II", frame.payload)
            stream = self._streams.pop(number, None)
            if stream is not None:
                stream.incoming.close()
        elif frame.kind == frames.PING:
            await self.send(frames.encode_control(frames.PING, frame.payload))

    async def _open(self, frame: frames.ControlFrame) -> None:
        (number,) = struct.unpack_from(">I", frame.payload)
        headers = self._codec.decode(frame.payload[10:])
        if len(self._streams) >= STREAMS_MAX:
            await self.send(frames.encode_reset(number, frames.RST_REFUSED_STREAM))
            return
        stream = self._streams[number] = SpdyStream(self, number, headers)
        if frame.flags & frames.FIN:
            stream.incoming.close()
        async with self._sending:
            await self._channel.write(frames.encode_syn_reply(number, self._codec.encode({})))
        await self._accepted.put(stream)

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await self.send(frames.encode_goaway(max(self._streams, default=0)))
        self._channel.close()

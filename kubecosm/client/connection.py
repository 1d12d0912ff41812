"""One HTTP/1.1 connection, seen from the client: writes a request, reads the head of the answer, and its body whole or piece by piece.

Written for this one purpose because a general HTTP client costs several times as much processor time per request (docs/client.md has
figures), and every component of a cluster spends its time here. Leaves out: redirects, compression, pipelining, upgrades, cookies.
"""

from __future__ import annotations

import asyncio
from typing import cast

from kubecosm.client.body import Body, ChunkedBody, SizedBody

HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 1 << 30
"""Of a body that is read whole; the list of 100,000 pods has a quarter of that."""
BUFFER_BYTES_MAX = 1 << 20
"""Of a body read piece by piece: beyond it the server has to wait."""


class BadAnswer(ConnectionError):
    """The peer does not speak HTTP/1.1, or says more than the bounds above allow."""


class Head:
    """The head of an answer: its status, and headers that are looked up as they are needed."""

    __slots__ = ("_lines", "_lower", "status")

    def __init__(self, raw: bytes) -> None:
        """`raw` is all up to the empty line. Raises BadAnswer."""
        start, _, rest = raw.partition(b"\r\n")
        if not start.startswith(b"HTTP/1.") or not start[9:12].isdigit():
            raise BadAnswer(f"not an HTTP/1.1 answer: {start[:80]!r}")
        self.status = int(start[9:12])
        self._lines = b"\n" + rest + b"\r\n"  # so that every header stands between a newline and a line end
        self._lower = self._lines.lower()

    def header(self, name: bytes) -> str:
        """The value of the first header of this (lower-case) name; empty if there is none."""
        start = self._lower.find(b"\n" + name + b":")
        if start < 0:
            return ""
        start += len(name) + 2
        return self._lines[start : self._lines.index(b"\r\n", start)].strip().decode("latin-1")

    def body(self, method: str) -> Body:
        """The body that follows in answer to a request of this method. Raises ValueError."""
        if self.status in (204, 304) or method == "HEAD":
            return SizedBody(0)
        if self.header(b"transfer-encoding").lower() == "chunked":
            return ChunkedBody()
        length = self.header(b"content-length")
        return SizedBody(int(length)) if length else Body()

    @property
    def keeps_connection(self) -> bool:
        return "close" not in self.header(b"connection").lower()

    @property
    def content_type(self) -> str:
        """The media type without its parameters."""
        return self.header(b"content-type").partition(";")[0].strip().lower()


class Connection(asyncio.Protocol):
    """A protocol for loop.create_connection. One exchange at a time: `send`, `read_head`, then `read_all`, or `read` to the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: OSError | None = None
        self._paused = False
        self._method = ""  # of the exchange that is going on
        self._head_buffer = b""
        self._head: Head | None = None
        self._body: Body | None = None
        self.idle_since = 0.0
        """When it was put aside, by the loop's clock."""

    # What its owner does

    def send(self, method: str, request: bytes) -> None:
        """Begin an exchange: write a whole request."""
        if self._method or self._transport is None:
            raise RuntimeError("one exchange at a time")
        self._method, self._head_buffer, self._head, self._body = method, b"", None, None
        self._transport.write(request)

    async def read_head(self) -> Head:
        """The head of the answer, as soon as it is there. Raises OSError."""
        while self._head is None:
            await self._wait()
        return self._head

    async def read_all(self) -> bytes:
        """The whole body; then the connection is ready for another exchange, if it can be. Raises OSError."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > BODY_BYTES_MAX:
                raise BadAnswer(f"the answer is larger than {BODY_BYTES_MAX} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self) -> bytes:
        """What has arrived of the body, at least one byte; nothing at its end. Raises OSError."""
        body = self._body
        assert body is not None, "read_head comes first"
        while not body.buffered and not body.finished:
            await self._wait()
        data = body.take() if body.buffered else b""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if body.finished:
            self._end_exchange(body)
        return data

    @property
    def answered(self) -> bool:
        """At least a byte of the answer has come."""
        return self._head is not None or bool(self._head_buffer)

    @property
    def reusable(self) -> bool:
        """The connection may carry another exchange."""
        return not self._method and self._failure is None

    def abort(self) -> None:
        """Drop the connection at once; whoever waits for more gets a ConnectionResetError."""
        self._fail(ConnectionResetError("the connection was dropped"))
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """Whoever waits for more gets a TimeoutError."""
        self._fail(TimeoutError("the stream has outlived its time limit"))
        self.abort()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def _end_exchange(self, body: Body) -> None:
        if self._head is not None and self._head.keeps_connection and not body.surplus and not body.ends_with_connection:
            self._method = ""

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # What the event loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            if self._body is None:
                self._feed_head(data)
            elif self._body.finished:
                raise BadAnswer("the server sends more than it announced")
            else:
                self._body.feed(data)
        except ValueError as error:
            self._fail(BadAnswer(f"malformed answer: {error}"))
            self.abort()
            return
        except BadAnswer as error:
            self._fail(error)
            self.abort()
            return
        body = self._body
        if body is not None and body.buffered > BUFFER_BYTES_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._body is not None and self._body.ends_with_connection and exc is None and self._failure is None:
            self._body.finished = True
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection"))
        if not self._closed.done():
            self._closed.set_result(None)

    def _feed_head(self, data: bytes) -> None:
        if not self._method:
            raise BadAnswer(f"an answer that nobody asked for: {data[:80]!r}")
        buffer = self._head_buffer + data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                raise BadAnswer(f"the head of the answer is longer than {HEAD_BYTES_MAX} bytes")
            self._head_buffer = buffer
            return
        head, rest = Head(buffer[:end]), buffer[end + 4 :]
        self._head_buffer = b""
        if head.status < 200:  # an interim answer: the real one follows
            if rest:
                self._feed_head(rest)
            return
        self._head, self._body = head, head.body(self._method)
        if rest:
            self._body.feed(rest)

    def _fail(self, error: OSError) -> None:
        if self._failure is None:
            self._failure = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

"""One HTTP/1.1 connection of a client: requests go out in order, answers come back in the same order.

A general HTTP client spends three times as long on a small request as the rest of its way to the server and back costs us. Owns cutting the
answers out of the stream. Leaves out redirects, compression, trailers, upgrades and bodies that only the end of the connection ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast

import orjson

from kubecosm.api.errors import NOTHING_ASKED, ApiError, Asked, from_status
from kubecosm.api.resources import Object

ANSWER_BYTES_MAX = 1 << 30
"""A longer answer is none of a Kubernetes API server: the connection is cut instead of filling memory."""
HEAD_BYTES_MAX = 64 << 10
NO_BODY = (204, 304)


class Answer(NamedTuple):
    """`retry_after` is the header of that name, empty without one."""

    code: int
    body: bytes
    retry_after: str = ""

    def object(self) -> Object:
        """The decoded body; raises the ApiError that the answer stands for."""
        self.check()
        decoded = orjson.loads(self.body) if self.body else {}
        if not isinstance(decoded, dict):
            raise from_status(self.body.decode(errors="replace"), self.code)
        return decoded

    def check(self) -> None:
        """Raise the ApiError that the answer stands for, if any."""
        if self.code >= 400:
            raise self.failure()

    def failure(self, asked: Asked = NOTHING_ASKED) -> ApiError:
        """The ApiError that the answer stands for; `asked` is told of where the answer does not explain itself."""
        try:
            status = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            status = self.body.decode(errors="replace")
        error = from_status(status, self.code, asked)
        if self.retry_after.isdecimal():
            error.retry_after_seconds = int(self.retry_after)
        return error


class _Head(NamedTuple):
    code: int
    length: int
    """Of the body in bytes; -1: it comes in chunks."""
    closes: bool
    retry_after: str


class Connection(asyncio.Protocol):
    """Futures in `waiting` are the answers to come; they fail with ConnectionResetError if the connection goes first."""

    def __init__(self, answer_bytes_max: int = ANSWER_BYTES_MAX) -> None:
        self.transport: asyncio.Transport | None = None
        """None before the connection is made and after it is lost."""
        self.waiting: deque[asyncio.Future[Answer]] = deque()
        self.idle_since = 0.0
        """For whoever keeps connections."""
        self._answer_bytes_max = answer_bytes_max
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._chunks = bytearray()

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Write one whole request; the future is its answer. Raises ConnectionResetError when the connection is gone."""
        if self.transport is None:
            raise ConnectionResetError("the API server closed the connection")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.transport.write(request)
        return future

    def abort(self) -> None:
        """Close at once; what waits for an answer fails."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the API server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._buffer and (answer := self._next_answer()) is not None:
                if not self.waiting:
                    raise ValueError("an answer that nobody asked for")
                future = self.waiting.popleft()
                if not future.done():
                    future.set_result(answer)
        except (ValueError, IndexError):
            self.abort()

    def _next_answer(self) -> Answer | None:
        """Take one whole answer out of the buffer; None if it has not all come yet."""
        if self._head is None:
            self._head = self._take_head()
        head = self._head
        if head is None:
            return None
        body = self._take_body(head.length) if head.length >= 0 else self._take_chunks()
        if body is None:
            return None
        self._head = None
        if head.closes and self.transport is not None:
            self.transport.close()
        return Answer(head.code, body, head.retry_after)

    def _take_head(self) -> _Head | None:
        """The next head, past those that only announce another (100 Continue)."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise ValueError("an answer whose head does not end")
                return None
            head = _parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if head.code >= 200:
                return head

    def _take_body(self, length: int) -> bytes | None:
        if length > self._answer_bytes_max:
            raise ValueError("answer too large")
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _take_chunks(self) -> bytes | None:
        """Whole chunks are moved aside as they come, so that a long body is read once."""
        buffer = self._buffer
        while (end := buffer.find(b"\r\n")) >= 0:
            size = int(bytes(buffer[:end]).partition(b";")[0], 16)
            start, past = end + 2, end + 2 + size + 2
            if len(self._chunks) + size > self._answer_bytes_max:
                raise ValueError("answer too large")
            if len(buffer) < past:
                return None
            self._chunks += buffer[start : start + size]
            del buffer[:past]
            if size == 0:
                body, self._chunks = bytes(self._chunks), bytearray()
                return body
        return None


def _parse_head(head: bytes) -> _Head:
    """ValueError or IndexError if it is not the head of an HTTP/1 answer."""
    lines = head.split(b"\r\n")
    version, status = lines[0].split(b" ", 2)[:2]
    code, length, closes, retry_after = int(status), 0, version == b"HTTP/1.0", ""
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value) if length >= 0 else length
            case b"transfer-encoding" if b"chunked" in value.lower():
                length = -1
            case b"connection":
                closes = b"close" in value.lower()
            case b"retry-after":
                retry_after = value.strip().decode("latin-1")
    return _Head(code, 0 if code in NO_BODY or code < 200 else length, closes, retry_after)

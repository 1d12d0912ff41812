"""Answers, written straight to the transport: the head is built from prebuilt parts, the body goes out as it lies in the cache.

Objects of this module stand in for aiohttp's response classes: the protocol calls `prepare`, then `write_eof`, then reads `keep_alive`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

if TYPE_CHECKING:
    from .request import Request

JSON = "application/json"
GZIP_BYTES_MIN = 128 * 1024
"""Smaller answers are sent as they are (responsewriters: defaultGzipThresholdBytes)."""
GZIP_LEVEL = 1
GZIP_THREAD_BYTES_MIN = 512 * 1024
"""Larger answers are compressed off the event loop."""
PIECE_BYTES = 256 * 1024
"""Large answers are handed to the transport in pieces, so that others get their turn while one is encrypted."""
STALL_SECONDS_MAX = 60.0
"""A client that takes nothing for so long is cut off."""
CORS_AND_CACHE = b"Cache-Control: no-cache, private\r\n"

_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
_CONTENT_TYPES: dict[str, bytes] = {}


def _content_type(text: str) -> bytes:
    found = _CONTENT_TYPES.get(text)
    if found is None:
        found = _CONTENT_TYPES[text] = b"Content-Type: %b\r\n" % text.encode()
    return found


def _warning(text: str) -> bytes:
    """A Warning header as net.NewWarningHeader words it; control characters become spaces."""
    clean = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
    return b'Warning: 299 - "%b"\r\n' % clean.encode()


class Response:
    """A whole answer held in memory."""

    __slots__ = ("body", "content_type", "extra", "keep_alive", "status")

    def __init__(self, status: int, body: bytes, content_type: str = JSON, extra: Iterable[tuple[str, str]] = ()) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.extra = extra
        self.keep_alive = True

    async def prepare(self, request: Request) -> None:
        transport = request.transport
        if transport is None:
            return
        self.keep_alive = not request.should_close
        body = self.body
        extra = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode("utf-8", "replace")) for k, v in self.extra) if self.extra else b""
        extra += request.extra_head
        if request.warnings:
            extra += b"".join(map(_warning, dict.fromkeys(request.warnings)))
        is_small = len(body) <= GZIP_BYTES_MIN or b"Content-Encoding: " in extra
        if not is_small and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = gzip_compress(body) if len(body) < GZIP_THREAD_BYTES_MIN else await asyncio.to_thread(gzip_compress, body)
            extra += b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        head = b"%b%bAudit-Id: %b\r\n%b%b%bContent-Length: %d\r\n\r\n" % (
            _STATUS_LINES[self.status], b"" if self.keep_alive else b"Connection: close\r\n", request.audit_id.encode(),
            b"" if b"Cache-Control: " in extra else CORS_AND_CACHE, _content_type(self.content_type), extra, len(body),
        )  # fmt: skip
        if request.method == "HEAD":
            transport.write(head)
        elif len(body) <= PIECE_BYTES:
            transport.write(head + body)
        else:
            await self._write_in_pieces(request, head, body)

    @staticmethod
    async def _write_in_pieces(request: Request, head: bytes, body: bytes) -> None:
        """Raises ConnectionError when the client is gone or has stalled."""
        view, connection = memoryview(body), request.connection
        piece: bytes | memoryview = head
        try:
            for start in range(0, len(body), PIECE_BYTES):
                if connection.transport is None:
                    raise ConnectionResetError("the client is gone")
                connection.transport.write(piece)
                piece = view[start : start + PIECE_BYTES]
                if connection.writing_paused:
                    async with asyncio.timeout(STALL_SECONDS_MAX):
                        await connection.drain()
        except TimeoutError:
            connection.force_close()
            raise ConnectionResetError("the client has stalled") from None
        if connection.transport is not None:
            connection.transport.write(piece)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write after `prepare`."""


class Streamed:
    """The answer has been, or the connection is being, written by its handler; nothing is left for the protocol to do."""

    __slots__ = ("keep_alive", "status")

    def __init__(self, status: int = 200, *, keep_alive: bool = True) -> None:
        self.status = status
        self.keep_alive = keep_alive

    async def prepare(self, request: Any) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


Answer = Response | Streamed


def stream_head(request: Request, status: int, content_type: str, extra: bytes = b"") -> bytes:
    """The head of an answer in chunks (close-delimited for HTTP/1.0 clients is left out: they get chunks too)."""
    if request.on_response_started is not None:
        request.on_response_started(status)
    return b"%bAudit-Id: %b\r\n%b%b%bTransfer-Encoding: chunked\r\n\r\n" % (
        _STATUS_LINES[status], request.audit_id.encode(), CORS_AND_CACHE, _content_type(content_type), request.extra_head + extra,
    )  # fmt: skip


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def gzip_compress(data: bytes) -> bytes:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def json_response(status: int, obj: Object, *, pretty: bool = False) -> Response:
    return Response(status, orjson.dumps(obj, option=orjson.OPT_INDENT_2 if pretty else None))


def error_response(error: ApiError, *, pretty: bool = False) -> Response:
    """The Status of a failure, with Retry-After where the client should come back."""
    extra = (("Retry-After", str(error.retry_after_seconds)),) if error.retry_after_seconds is not None else ()
    return Response(error.code, orjson.dumps(error.status(), option=orjson.OPT_INDENT_2 if pretty else 0) + b"\n", JSON, extra)


def text_response(status: int, text: str, extra: Iterable[tuple[str, str]] = ()) -> Response:
    return Response(status, text.encode(), "text/plain; charset=utf-8", (("X-Content-Type-Options", "nosniff"), *extra))

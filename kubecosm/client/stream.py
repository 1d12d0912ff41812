"""Bodies that arrive piece by piece: raw byte streams, and watches decoded batch by batch.

A watch is read in batches (all that has arrived) because one await per event would cost more than decoding the event.
"""

from __future__ import annotations

from typing import NamedTuple

import aiohttp
import orjson

from kubecosm.api.resources import Object

WATCH_LINE_BYTES_MAX = 64 << 20
"""An event longer than this is not a Kubernetes event: the stream is cut instead of filling memory."""


class WatchEvent(NamedTuple):
    """One line of a watch: type is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; the object of an ERROR is a Status."""

    type: str
    object: Object


class ResponseStream:
    """The body of one answer, read as it arrives."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def content_type(self) -> str:
        return self._response.content_type

    async def read(self) -> bytes:
        """Whatever has arrived, at least one byte; empty at the end. Raises a transport error when the connection breaks."""
        return await self._response.content.readany()

    async def aclose(self) -> None:
        """Cut the connection: an unfinished body cannot be reused for another request."""
        self._response.close()


class LineSplitter:
    """Cuts a stream of chunks into whole lines without copying what is already whole."""

    def __init__(self, line_bytes_max: int = WATCH_LINE_BYTES_MAX) -> None:
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._line_bytes_max = line_bytes_max

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their newlines. Raises ValueError when a line grows too long."""
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._tail:
            self._tail.append(lines[0])
            lines[0] = b"".join(self._tail)
            self._tail, self._tail_bytes = [], 0
        rest = lines.pop()
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            if self._tail_bytes > self._line_bytes_max:
                raise ValueError(f"a line of the stream is longer than {self._line_bytes_max} bytes")
        return lines


class WatchStream:
    """An open watch."""

    def __init__(self, stream: ResponseStream) -> None:
        self._stream = stream
        self._lines = LineSplitter()

    async def read(self) -> list[WatchEvent] | None:
        """The next events, at least one; None when the server has ended the watch.

        Raises a transport error when the connection breaks, ValueError when the server sends what is not a watch event.
        """
        while chunk := await self._stream.read():
            batch = decode_events(self._lines.feed(chunk))
            if batch:
                return batch
        return None

    async def aclose(self) -> None:
        await self._stream.aclose()


def decode_events(lines: list[bytes]) -> list[WatchEvent]:
    """Watch events from whole lines of JSON."""
    loads = orjson.loads
    return [WatchEvent((raw := loads(line))["type"], raw["object"]) for line in lines if line]

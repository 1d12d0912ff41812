"""The three ways an HTTP/1.1 answer delimits its body: by length, in chunks, or by the end of the connection. No I/O."""

from __future__ import annotations

CHUNK_LINE_BYTES_MAX = 4096


class Body:
    """Bytes come in by `feed` and go out by `take`; this one ends with its connection."""

    ends_with_connection = True

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.buffered = 0
        """Bytes that wait to be taken."""
        self.finished = False
        """The body has come in full."""
        self.surplus = False
        """More came than the body: the connection must not be used again."""

    def feed(self, data: bytes) -> None:
        """Bytes from the connection. Raises ValueError when they cannot be."""
        self._append(data)

    def take(self) -> bytes:
        """All that waits."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts, self.buffered = [], 0
        return data

    def _append(self, data: bytes) -> None:
        self._parts.append(data)
        self.buffered += len(data)


class SizedBody(Body):
    """A body of known length (Content-Length), perhaps none."""

    ends_with_connection = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size
        self.finished = size == 0

    def feed(self, data: bytes) -> None:
        if len(data) > self._left:
            data, self.surplus = data[: self._left], True
        self._left -= len(data)
        self.finished = self._left == 0
        if data:
            self._append(data)


class ChunkedBody(Body):
    """Transfer-Encoding: chunked. Chunk extensions and trailers are skipped."""

    ends_with_connection = False

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""  # an unfinished line
        self._left = 0  # of the current chunk and the line end after it
        self._in_trailers = False

    def feed(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        position, end = 0, len(data)
        while position < end and not self.finished:
            if self._left:
                position = self._feed_chunk(data, position, end)
                continue
            stop = data.find(b"\r\n", position)
            if stop < 0:
                self._rest = data[position:]
                if len(self._rest) > CHUNK_LINE_BYTES_MAX:
                    raise ValueError("a chunk begins with a line that is too long")
                return
            self._feed_line(data[position:stop])
            position = stop + 2
        self.surplus = position < end

    def _feed_chunk(self, data: bytes, position: int, end: int) -> int:
        stop = min(position + self._left, end)
        self._left -= stop - position
        payload = stop - max(0, 2 - self._left)  # the last two bytes are the line end
        if payload > position:
            self._append(data[position:payload])
        return stop

    def _feed_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.finished = not line
            return
        size = int(line.partition(b";")[0], 16)
        if size < 0:
            raise ValueError("a chunk of negative size")
        self._in_trailers = size == 0
        self._left = size + 2 if size else 0

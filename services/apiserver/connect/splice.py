"""Two connections become one: after an upgrade, bytes flow both ways as they come, with flow control, until either side ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..http.connection import Connection

HEAD_BYTES_MAX = 64 * 1024
"""The answer of a backend to an upgrade: status line and headers."""


class Pipe(asyncio.Protocol):
    """Writes what one transport receives to another. Pauses reading while the other cannot take more."""

    def __init__(self, target: asyncio.Transport, on_end: Callable[[], None]) -> None:
        self._target = target
        self._on_end = on_end
        self.source: asyncio.Transport | None = None
        self.reverse: Pipe | None = None

    def data_received(self, data: bytes) -> None:
        self._target.write(data)

    def eof_received(self) -> bool | None:
        if self._target.can_write_eof():
            self._target.write_eof()
            return True
        return False  # TLS cannot be half closed: the whole connection ends

    def pause_writing(self) -> None:
        """Our own transport is full: the reverse pipe writes to it, so its source must wait."""
        if self.reverse is not None and self.reverse.source is not None:
            self.reverse.source.pause_reading()

    def resume_writing(self) -> None:
        if self.reverse is not None and self.reverse.source is not None:
            self.reverse.source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._target.close()
        self._on_end()


class _ClientPipe(Pipe):
    """The client's end: aiohttp's connection must learn that its transport is gone."""

    def __init__(self, connection: Connection, target: asyncio.Transport, on_end: Callable[[], None]) -> None:
        super().__init__(target, on_end)
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connection.connection_lost(exc)


class Handshake(asyncio.Protocol):
    """Collects a backend's answer to an upgrade until its head is complete."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.head.done():
            return
        end = self._received.find(b"\r\n\r\n")
        if end >= 0:
            self.head.set_result(self._received[: end + 4])
            self._received = self._received[end + 4 :]
        elif len(self._received) > HEAD_BYTES_MAX:
            self.head.set_exception(ConnectionError("the answer has no end of headers"))

    def take_rest(self) -> bytes:
        """What has come behind the head; call it in the same turn of the loop in which the transport gets its next protocol."""
        rest, self._received = self._received, b""
        return rest

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(exc or ConnectionResetError("the connection was closed before it answered"))


class Splice:
    """A running splice; `end` closes both connections."""

    def __init__(self, connection: Connection, backend: asyncio.Transport, handshake: Handshake, head: bytes) -> None:
        """Take over the client's connection, hand it the backend's answer so far, and let the bytes flow."""
        client = connection.transport
        if client is None:
            backend.close()
            raise ConnectionResetError("the client is gone")
        self._client, self._backend = client, backend
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        to_backend = _ClientPipe(connection, backend, self._on_end)
        to_client = Pipe(client, self._on_end)
        to_backend.source, to_client.source = client, backend
        to_backend.reverse, to_client.reverse = to_client, to_backend
        early = connection.take_early_data()
        client.set_protocol(to_backend)
        backend.set_protocol(to_client)
        client.write(head + handshake.take_rest())
        if early:
            backend.write(early)
        client.resume_reading()
        backend.resume_reading()

    def _on_end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def end(self) -> None:
        self._client.close()
        self._backend.close()

    async def wait_ended(self) -> None:
        """Return when either side has ended; both are closed then."""
        try:
            await self._ended
        finally:
            self.end()

"""A small server for tests that leaves nothing open behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Served:
    """A small HTTP server; `end` waits for its connections, which the clients must have closed."""

    def __init__(self) -> None:
        self._handlers: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            current = asyncio.current_task()
            assert current is not None
            self._handlers.add(current)
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    await handler(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        self._server.close()
        if self._handlers:
            await asyncio.wait(self._handlers)

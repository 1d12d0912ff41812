"""The server's end of one watch: what is sent to its client, as HTTP chunks that are written straight to the transport."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..cache.events import BOOKMARK, ERROR, frame_of
from ..cache.view import View
from ..http.request import Request
from ..http.response import LAST_CHUNK, chunk, stream_head

WATCH_UNSENT_BYTES_MAX = 8 * 1024 * 1024
"""A watcher that is further behind is cut off; it resumes from the last event it has got."""


class WatchStream:
    """The server's end of one watch; a `cache.watchers.Watcher`."""

    def __init__(self, request: Request, type_meta: Object, view: View, *, bookmarks: bool) -> None:
        self._connection = request.connection
        self._type_meta = type_meta
        self._view = View("of the server's own events", packs=view.packs)
        self._bookmarks = bookmarks
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, request: Request, content_type: str) -> None:
        """Send the head. Raises ConnectionError if the client is gone."""
        if request.transport is None:
            raise ConnectionResetError("the client is gone")
        request.transport.write(stream_head(request, 200, content_type))

    def send(self, piece: bytes) -> None:
        """Write an HTTP chunk of whole events."""
        connection = self._connection
        transport = connection.transport
        if transport is None:
            return
        transport.write(piece)
        if connection.writing_paused and transport.get_write_buffer_size() > WATCH_UNSENT_BYTES_MAX:
            transport.abort()

    def pumping(self) -> AbstractAsyncContextManager[None]:
        """What a stream does on its own while it lasts: nothing."""
        return nullcontext()

    def finish(self) -> None:
        """The stream ends in good order."""
        self.send(LAST_CHUNK)

    async def drain(self) -> None:
        await self._connection.drain()

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> None:
        if not self._bookmarks:
            return
        meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        self.send(chunk(frame_of(BOOKMARK, orjson.dumps({**self._type_meta, "metadata": meta}), self._view)))

    def fail(self, error: ApiError) -> None:
        """After the head is sent, failure is an event."""
        self.send(chunk(frame_of(ERROR, orjson.dumps(error.status()), self._view)))

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

"""Objects that a webhook must convert before they can be looked at: how requests and watches wait for it.

Code that looks at objects is synchronous. It raises `Unconverted`; the router has the objects converted and runs the request again, which
is harmless since nothing is written before. Watches take events as they are stored, convert them on their own, and send them in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.api.selectors import FieldSelector

from ..cache.events import ADDED, BOOKMARK, DELETED, ERROR, MODIFIED, frame_of
from ..cache.selection import Selection
from ..cache.view import View
from ..http.request import Request
from ..http.response import LAST_CHUNK, Answer, chunk
from .options import ListOptions, list_options
from .reads import encode_token, place_of, selection_of
from .represent import answer_list
from .selected import select, split
from .watchsocket import WatchSocket
from .watchstream import WATCH_UNSENT_BYTES_MAX, WatchStream

if TYPE_CHECKING:
    from .store import ResourceStore

ROUNDS_MAX = 8
"""Times a request is run: each time it may get to objects that it did not see before."""


class Unconverted(ApiError):
    """Objects that are needed in version `desired`. Clients see it only if rounds do not suffice."""

    def __init__(self, objects: Sequence[Object], desired: str) -> None:
        super().__init__("conversion did not come to an end", code=500)
        self.objects, self.desired = objects, desired
        self.store: ResourceStore | None = None
        """Where they are, if not where the request goes."""


async def run_converting(
    verb: Callable[[ResourceStore, Request], Awaitable[Answer]], store: ResourceStore, request: Request
) -> Answer:
    """A request about objects that a webhook converts."""
    if request.verb not in ("get", "list", "watch"):
        await request.keep_body()
    if request.verb == "list" and "fieldSelector" in request.raw_query:
        options = list_options(request, watch=False)
        selection = selection_of(store, request.info.namespace, options)
        if not split(selection)[1].is_everything:
            return await _list_selected(store, request, selection, options)
    for _ in range(ROUNDS_MAX):
        try:
            return await verb(store, request)
        except Unconverted as missing:
            await store.convert(missing.objects, missing.desired)
    return await verb(store, request)


async def _list_selected(store: ResourceStore, request: Request, selection: Selection, options: ListOptions) -> Answer:
    """A page of a list by fields of the version asked for."""
    revision, after, moment = await place_of(store, options)
    entries, more = await select(store, selection, after=after, limit=options.limit, revision=moment)
    token = encode_token(revision, entries[-1].key) if more else ""
    return answer_list(request, store, entries, revision, token, None)


class ConvertedStream(WatchStream):
    """A watch whose events come as they are stored and go out converted, in order."""

    def __init__(
        self, request: Request, store: ResourceStore, view: View, type_meta: Object, wanted: FieldSelector, *, bookmarks: bool
    ) -> None:  # fmt: skip
        """`wanted`: fields that converted objects must have to be told of."""
        super().__init__(request, type_meta, view, bookmarks=bookmarks)
        self._wanted = wanted
        self._shown: dict[str, bool] = {}  # uid → whether the client knows of it
        self._store, self._served = store, view
        self._waiting: deque[bytes] = deque()
        self._unsent = 0
        self._filled, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()

    def send(self, piece: bytes) -> None:
        if piece == LAST_CHUNK:
            super().send(piece)
            return
        self._waiting.append(piece)
        self._unsent += len(piece)
        self._empty.clear()
        self._filled.set()
        if self._unsent > WATCH_UNSENT_BYTES_MAX and self._connection.transport is not None:
            self._connection.transport.abort()

    async def drain(self) -> None:
        await self._empty.wait()
        await super().drain()

    @asynccontextmanager
    async def pumping(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(), name="converting a watch")
            try:
                yield
            finally:
                pump.cancel()

    async def _pump(self) -> None:
        while True:
            await self._filled.wait()
            pieces, self._unsent = list(self._waiting), 0
            self._waiting.clear()
            self._filled.clear()
            try:
                frames = await self._converted(pieces)
            except ApiError as error:
                super().send(chunk(frame_of(ERROR, orjson.dumps(error.status()), self._view)))
                self.end()
                return
            if frames:  # an empty chunk would end the stream
                super().send(chunk(frames))
            if not self._waiting:
                self._empty.set()

    async def _converted(self, pieces: list[bytes]) -> bytes:
        """The events of some chunks, converted. Raises ApiError."""
        lines = [line for piece in pieces for line in piece[piece.index(b"\r\n") + 2 : -2].split(b"\n") if line]
        events = [orjson.loads(line) for line in lines]
        changes = [event["object"] for event in events if event["type"].encode() not in (BOOKMARK, ERROR)]
        await self._store.prepare(changes)
        frames: list[bytes] = []
        for line, event in zip(lines, events, strict=True):
            kind = event["type"].encode()
            if kind in (BOOKMARK, ERROR):
                frames.append(line + b"\n")
                continue
            told = kind if self._wanted.is_everything else self._told_as(kind, event["object"])
            if told:
                frames.append(frame_of(told, orjson.dumps(event["object"]), self._served))
        return b"".join(frames)

    def _told_as(self, kind: bytes, obj: Object) -> bytes:
        """What a change means to who sees but some objects; empty if nothing. Those not heard of may be known from an earlier watch."""
        uid, matches = obj["metadata"]["uid"], kind != DELETED and self._wanted.matches(self._store.served_fields(obj))
        known = self._shown.get(uid, kind != ADDED)
        if kind == DELETED:
            self._shown.pop(uid, None)
        else:
            self._shown[uid] = matches
        if matches:
            return (MODIFIED if known else ADDED) if kind == MODIFIED else kind
        return DELETED if known else b""


class ConvertedSocket(ConvertedStream, WatchSocket):
    """The same over a WebSocket."""

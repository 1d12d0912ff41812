"""WATCH: a stream of events written straight to the transport, without a gap and without a repeat after what the client has seen.

A stream first sends its backlog (initial objects, or history after a resourceVersion) at the client's pace, then joins the cache's watchers
in the same turn of the loop in which the backlog is complete. Once the head is sent, failure becomes an ERROR event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from kubecosm.api.errors import Expired
from kubecosm.api.selectors import FieldRequirement, FieldSelector

from ..cache.events import ADDED, frame_of
from ..cache.resource import ResourceCache
from ..cache.selection import Selection
from ..cache.view import AS_STORED, View
from ..http.request import Request
from ..http.response import JSON, Answer, Streamed, chunk
from .accept import MSGPACK_TYPE
from .options import ListOptions, list_options, revision_of
from .reads import selection_of, wait_not_older
from .represent import accepted_by, included, watch_view
from .selected import split
from .store import ResourceStore
from .unconverted import ConvertedSocket, ConvertedStream
from .watchsocket import WatchSocket, is_websocket
from .watchstream import WatchStream

INITIAL_EVENTS_PER_PIECE = 200
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


async def watch(store: ResourceStore, request: Request) -> Answer:
    """One watch, from its head to its last byte."""
    options = list_options(request, watch=True)
    selection = selection_of(store, watched_namespace(store, request), options)
    if request.info.name:
        selection = named(selection, request.info.name)
    accept, socket = accepted_by(request), is_websocket(request)
    if socket:
        accept = replace(accept, media_type=JSON)  # messages are text
    view = watch_view(store, accept, included(request) if accept.transform == "Table" else "")
    kind = {"kind": accept.transform, "apiVersion": f"meta.k8s.io/{accept.version}"} if accept.transform else store.type_meta
    if options.send_initial_events:
        await wait_not_older(store, revision_of(options.resource_version))
    served = view
    if store.converts:
        selection, wanted = split(selection)
        converting = ConvertedSocket if socket else ConvertedStream
        stream: WatchStream = converting(request, store, view, kind, wanted, bookmarks=options.allow_bookmarks)
        view = AS_STORED
    else:
        stream = (WatchSocket if socket else WatchStream)(request, kind, view, bookmarks=options.allow_bookmarks)
    media_type = MSGPACK_TYPE if served.packs else JSON
    stream.begin(request, f"{media_type};stream=watch" if accept.transform or served.packs else media_type)
    state = store.state
    seconds = timeout_seconds(options, state.min_request_seconds, state.rng)
    state.streams.add(stream)
    try:
        async with asyncio.timeout(seconds), stream.pumping():
            await _catch_up(store, stream, selection, view, options)
            request.initialized()
            if options.send_initial_events and state.request_metrics is not None:
                state.request_metrics.watch_list_sent(request, state.clock.monotonic() - request.started)
            await stream.ended
    except TimeoutError:
        store.cache.watches.flush()
        stream.bookmark(state.caches.revision)
    finally:
        state.streams.discard(stream)
        store.cache.unwatch(stream, selection, view)
    stream.finish()
    return Streamed(101 if socket else 200, keep_alive=not (socket or request.should_close))


def watched_namespace(store: ResourceStore, request: Request) -> str:
    return request.info.namespace if store.row.namespaced else ""


def named(selection: Selection, name: str) -> Selection:
    """A watch of one object's URL (deprecated in Kubernetes, still served)."""
    requirement = FieldRequirement("metadata.name", name)
    return Selection(selection.namespace, selection.labels, FieldSelector((*selection.fields.requirements, requirement)))


def timeout_seconds(options: ListOptions, least: float, rng: random.Random) -> float:
    """As long as the client asked for, else between `least` and twice that, so that watches do not all end at once."""
    return float(options.timeout_seconds or least * (1 + rng.random()))


async def _catch_up(store: ResourceStore, stream: WatchStream, selection: Selection, view: View, options: ListOptions) -> None:
    """Send what the client has not seen yet, then join the live events."""
    caches, cache = store.state.caches, store.cache
    since = revision_of(options.resource_version)
    wants_state = options.send_initial_events if options.send_initial_events is not None else since == 0
    if wants_state:
        since = caches.revision
        await _send_state(cache, stream, selection, view)
        if options.send_initial_events:
            stream.bookmark(since, INITIAL_EVENTS_END)
    elif since == 0:
        since = caches.revision
    else:
        await caches.wait_revision(since)
    if since < cache.history.start:
        stream.fail(Expired(f"too old resource version: {since} ({cache.history.start})"))
        stream.end()
        return
    _send_history(cache, stream, selection, view, since)
    cache.watch(stream, selection, view)


async def _send_state(cache: ResourceCache, stream: WatchStream, selection: Selection, view: View) -> None:
    entries = cache.page(selection).entries
    for start in range(0, len(entries), INITIAL_EVENTS_PER_PIECE):
        piece = entries[start : start + INITIAL_EVENTS_PER_PIECE]
        stream.send(chunk(b"".join([frame_of(ADDED, entry.data, view) for entry in piece])))
        await stream.drain()


def _send_history(cache: ResourceCache, stream: WatchStream, selection: Selection, view: View, since: int) -> None:
    frames: Sequence[bytes] = [
        event.frame(kind, view)
        for event in cache.history.after(since)
        if (kind := event.type_for(selection, cache.attributes_of)) is not None
    ]
    if frames:
        stream.send(chunk(b"".join(frames)))

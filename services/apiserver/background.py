"""What the server does without being asked: forget old versions, remove expired events, send bookmarks."""

from __future__ import annotations

import asyncio
from collections import deque

from kubecosm.api.resources import EVENTS
from kubecosm.runtime.logs import get_logger

from .bootstrap import APISERVER
from .rest.store import ResourceStore
from .state import State
from .storage.contract import StorageError

log = get_logger("apiserver")

BOOKMARK_SECONDS = 60.0
EXPIRY_SECONDS = 60.0
EXPIRY_WORKERS = 32
HISTORY_REVISIONS_MAX = 10_000
"""Compaction leaves this many revisions, so that watches and pages of lists can go on, unless the disk is full."""


async def compact_forever(state: State, interval_seconds: float) -> None:
    """Every interval, forget what was already old at the one before (as kube-apiserver's compactor does)."""
    previous = 0
    while True:
        await state.clock.sleep(interval_seconds)
        kept = 0 if state.storage.is_full else HISTORY_REVISIONS_MAX
        upto = min(previous, state.storage.revision - kept)
        previous = state.storage.revision
        if upto <= state.storage.compacted_revision:
            continue
        try:
            await state.storage.compact(revision=upto)
        except StorageError as error:
            log.error("compaction failed", error=str(error))


async def expire_events_forever(state: State, ttl_seconds: float) -> None:
    """Remove events that have not changed for so long. What was there when the server started counts from then."""
    store = state.store(EVENTS.group, EVENTS.version, EVENTS.plural)
    marks: deque[tuple[float, int]] = deque()  # (time, newest revision then)
    while True:
        now = state.clock.monotonic()
        marks.append((now, state.caches.revision))
        expired = 0
        while marks and marks[0][0] <= now - ttl_seconds:
            expired = marks.popleft()[1]
        if expired:
            await _remove_until(store, expired)
        await state.clock.sleep(min(EXPIRY_SECONDS, ttl_seconds))


async def _remove_until(store: ResourceStore, revision: int) -> None:
    """Remove the objects that have not changed after a revision."""
    old = iter([entry for entry in store.cache.entries() if entry.revision <= revision])

    async def work() -> None:
        for entry in old:
            try:
                await store.remove(entry, APISERVER)
            except StorageError as error:
                log.error("an expired event could not be removed", error=str(error))
                return

    async with asyncio.TaskGroup() as workers:
        for _ in range(EXPIRY_WORKERS):
            workers.create_task(work())


async def bookmarks_forever(state: State) -> None:
    """Tell idle watches how far they have come, so that they can resume from there."""
    while True:
        await state.clock.sleep(BOOKMARK_SECONDS)
        revision = state.caches.revision
        for cache in state.caches.all():
            cache.watches.flush()
            for group in cache.watches.groups():
                for watcher in tuple(group.watchers):
                    watcher.bookmark(revision)

"""What the server does without being asked: forget old versions, and send bookmarks."""

from __future__ import annotations

from kubecosm.runtime.logs import get_logger

from .state import State
from .storage.contract import StorageError

log = get_logger("apiserver")

BOOKMARK_SECONDS = 60.0
HISTORY_REVISIONS_MAX = 10_000
"""Compaction always leaves this many revisions, so that watches and pages of lists can go on."""


async def compact_forever(state: State, interval_seconds: float) -> None:
    """Every interval, forget what was already old at the one before (as kube-apiserver's compactor does)."""
    previous = 0
    while True:
        await state.clock.sleep(interval_seconds)
        upto = min(previous, state.storage.revision - HISTORY_REVISIONS_MAX)
        previous = state.storage.revision
        if upto <= state.storage.compacted_revision:
            continue
        try:
            await state.storage.compact(revision=upto)
        except StorageError as error:
            log.error("compaction failed", error=str(error))


async def bookmarks_forever(state: State) -> None:
    """Tell idle watches how far they have come, so that they can resume from there."""
    while True:
        await state.clock.sleep(BOOKMARK_SECONDS)
        revision = state.caches.revision
        for cache in state.caches.all():
            for group in cache.watches.groups():
                for watcher in tuple(group.watchers):
                    watcher.bookmark(revision)

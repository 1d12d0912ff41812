"""All watch caches of a server, fed by one subscription to the storage.

Keys are `/registry/<group>/<plural>/[<namespace>/]<name>`, group `core` for the core group. At start the caches are filled as of a
slightly older revision and the changes since are replayed, so that watches can resume across a restart of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ..storage.contract import Change, Store, Subscription
from .entry import AttributesOf
from .events import HISTORY_EVENTS_MAX, Event
from .resource import ResourceCache

ROOT = "/registry/"
LOAD_PAGE_ITEMS = 2000
"""Objects read at once when the caches are filled."""


def prefix_of(group: str, plural: str) -> str:
    """The storage prefix of a resource, with its closing slash."""
    return f"{ROOT}{group or 'core'}/{plural}/"


class Caches:
    """The caches by (group, plural). Make it, `add` the resources, then `start` it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_prefix: dict[str, ResourceCache] = {}
        self._subscription: Subscription | None = None
        self._revision = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def revision(self) -> int:
        """Everything up to this revision is in the caches."""
        return max(self._revision, self._store.revision)

    def add(self, group: str, plural: str, attributes_of: AttributesOf, *, namespaced: bool) -> ResourceCache:
        """The cache of a resource; one is made if there is none. Added after `start`, it is empty, and follows the storage."""
        prefix = prefix_of(group, plural)
        cache = self._by_prefix.get(prefix)
        if cache is None:
            cache = self._by_prefix[prefix] = ResourceCache(attributes_of, namespaced=namespaced, revision=self._revision)
        return cache

    def remove(self, group: str, plural: str) -> None:
        """Forget the cache of a resource that is served no more, and end its watches."""
        cache = self._by_prefix.pop(prefix_of(group, plural), None)
        if cache is not None:
            for watched in cache.watches.groups():
                for watcher in tuple(watched.watchers):
                    watcher.end()

    def of(self, group: str, plural: str) -> ResourceCache:
        """The cache of a resource that has been added; KeyError if it has not."""
        return self._by_prefix[prefix_of(group, plural)]

    def find(self, group: str, plural: str) -> ResourceCache | None:
        """The cache of a resource, if there is one."""
        return self._by_prefix.get(prefix_of(group, plural))

    def items(self) -> Iterable[tuple[str, ResourceCache]]:
        """(storage prefix, cache) of all of them."""
        return tuple(self._by_prefix.items())

    def all(self) -> Iterable[ResourceCache]:
        return tuple(self._by_prefix.values())

    async def start(self) -> None:
        """Fill the caches and follow the storage from there on."""
        start = max(self._store.compacted_revision, self._store.revision - HISTORY_EVENTS_MAX, 0)
        self._revision = start
        if start:
            await self._load(start)
        for cache in self._by_prefix.values():
            cache.revision = cache.history.start = start
        self._subscription = await self._store.subscribe(prefix=ROOT, after_revision=start, deliver=self._deliver)

    async def _load(self, revision: int) -> None:
        """Fill the caches as of a revision, page by page: the storage's copies go as ours come."""
        after, more = "", True
        while more:
            listed = await self._store.list(prefix=ROOT, revision=revision, start=after, limit=LOAD_PAGE_ITEMS)
            by_prefix: dict[str, list[tuple[str, bytes, int]]] = {}
            for item in listed.items:
                prefix, key = _split(item.key)
                by_prefix.setdefault(prefix, []).append((key, item.value, item.revision))
            for prefix, items in by_prefix.items():
                if prefix in self._by_prefix:
                    self._by_prefix[prefix].load(items)
            more = listed.more
            if listed.items:
                after = listed.items[-1].key + "\0"

    def stop(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    async def wait_revision(self, revision: int) -> None:
        """Return when everything up to `revision` is in the caches."""
        if revision <= self.revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (revision, reached)
        self._waiters.append(waiter)
        try:
            await reached
        finally:
            self._waiters.remove(waiter)

    def _deliver(self, changes: Sequence[Change]) -> None:
        touched: dict[str, list[Event]] = {}
        for change in changes:
            prefix, key = _split(change.key)
            cache = self._by_prefix.get(prefix)
            event = cache.apply(key, change.value, change.revision) if cache is not None else None
            if event is not None:
                touched.setdefault(prefix, []).append(event)
        assert changes[-1].revision >= self._revision, "the storage went back in time"
        self._revision = changes[-1].revision
        for prefix, events in touched.items():
            self._by_prefix[prefix].publish(events)
        for revision, reached in self._waiters:
            if revision <= self._revision and not reached.done():
                reached.set_result(None)


def _split(key: str) -> tuple[str, str]:
    """(prefix with its slash, key within the resource)."""
    end = key.index("/", key.index("/", len(ROOT)) + 1) + 1
    return key[:end], key[end:]

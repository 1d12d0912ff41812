"""An informer keeps a Store equal to one resource of the server and tells handlers what changed.

The informer is the only writer of its store. During a list it buffers; at the end it swaps the store in one go, and whatever vanished while
nobody looked becomes a synthesized delete. Handlers are synchronous and run after the store has the change. An exception in a handler is a
bug: it ends `run`, and with it everything that waits for this informer.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Hashable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import structlog

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import is_deleting, key_of, uid_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.backoff import Backoff
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.client.store import Change, IndexFn, Store
from kubecosm.client.watcher import Apply, Bookmark, Delete, Event, Init, InitApply, InitDone, Watcher, WatchTooShort

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

WATCH_FAILURES = (ApiError, *TRANSPORT_ERRORS, ValueError, WatchTooShort)
"""What a step of a watcher may raise and is retried with back-off."""

HEALTHY_SECONDS = 2.0
"""A watch that was open so long ends the back-off; a list does not, or a server that lists but never watches would be asked for ever."""

Transform = Callable[[Object], Object]
"""Applied to every object before it is stored; may change the object it is given (it is not shared yet)."""

_log = structlog.get_logger("kubecosm.client.informer")


class InformerStopped(Exception):
    """The informer ended, so its store will never be in sync (again)."""


@dataclass(frozen=True)
class Handler:
    """Synchronous callbacks; None means not interested."""

    on_add: Callable[[Object], None] | None = None
    on_update: Callable[[Object, Object], None] | None = None
    on_delete: Callable[[Object], None] | None = None


class Informer:
    """List and watch one resource into `store`. `run` must be running; `wait_synced` tells when the store is first complete."""

    def __init__(
        self, client: ApiClient, resource: Resource, *, clock: Clock, random: Random | None = None, namespace: str | None = None,
        label_selector: str = "", field_selector: str = "", indexers: Mapping[str, IndexFn] | None = None,
        transform: Transform | None = None, page_items: int = 0,
    ) -> None:  # fmt: skip
        self.resource = resource
        self.store = Store(indexers)
        self._clock = clock
        self._random = random or Random()
        self._watcher = Watcher(
            client, resource, clock=clock, random=self._random, namespace=namespace, label_selector=label_selector,
            field_selector=field_selector, page_items=page_items,
        )  # fmt: skip
        self._transform = transform
        self._handlers: list[Handler] = []
        self._buffer: list[Object] = []
        self._synced = asyncio.Event()
        self._ended = False
        self._seen_waiters: list[tuple[int, int, Callable[[], None]]] = []
        self._gone_waiters: dict[str, list[Callable[[], None]]] = {}
        self._sequence = itertools.count()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set() and not self._ended

    def add_handler(
        self, on_add: Callable[[Object], None] | None = None, on_update: Callable[[Object, Object], None] | None = None,
        on_delete: Callable[[Object], None] | None = None,
    ) -> None:  # fmt: skip
        """Call back from now on; objects already in the store are announced by `on_add` at once."""
        self._handlers.append(Handler(on_add, on_update, on_delete))
        if on_add is not None:
            for obj in self.store.list():
                on_add(obj)

    def when_seen(self, resource_version: int, callback: Callable[[], None]) -> None:
        """Call `callback` once the store has everything up to this version: at once if it has already."""
        if self.store.resource_version >= resource_version:
            callback()
        else:
            heapq.heappush(self._seen_waiters, (resource_version, next(self._sequence), callback))

    def when_gone(self, obj: Object, callback: Callable[[], None]) -> None:
        """Call `callback` once the store no longer has this very object (by uid), or has it as terminating."""
        uid, known = uid_of(obj), self.store.get(key_of(obj))
        if known is None or uid_of(known) != uid or is_deleting(known):
            callback()
        else:
            self._gone_waiters.setdefault(uid, []).append(callback)

    async def wait_synced(self) -> None:
        """Return when the first list is in the store. Raises InformerStopped if `run` has ended or ends before."""
        await self._synced.wait()
        if self._ended:
            raise InformerStopped(f"the informer of {self.resource.group_resource} has ended")

    async def run(self) -> None:
        """Follow the server until cancelled. Its failures are retried with back-off and logged once a streak."""
        backoff = Backoff(self._random)
        try:
            async with aclosing(self._watcher):
                while True:
                    try:
                        events = await self._watcher.step()
                    except WATCH_FAILURES as failure:
                        if self._watcher.watched_seconds >= HEALTHY_SECONDS:
                            backoff.reset()
                        if backoff.failures == 0:
                            _log.warning("watch failed", resource=self.resource.group_resource, error=describe(failure))
                        await self._clock.sleep(backoff.next_seconds())
                        continue
                    if events:
                        self._handle(events)
        finally:
            self._ended = True
            self._synced.set()

    def _handle(self, events: list[Event]) -> None:
        apply, transform = self.store.apply, self._transform
        for event in events:
            if type(event) is Apply:  # nearly always, and a class pattern costs as much as the rest of this line
                self._notify(apply(transform(event.object) if transform else event.object))
                continue
            match event:
                case Delete(obj):
                    self._deleted(transform(obj) if transform else obj)
                case InitApply(obj):
                    self._buffer.append(transform(obj) if transform else obj)
                case Init():
                    self._buffer.clear()
                case InitDone(version):
                    self._swap(version)
        self._advance(events[-1])

    def _swap(self, version: str) -> None:
        buffered, self._buffer = self._buffer, []
        changes = self.store.replace(buffered)
        # The server may have been put back to an older state: here alone the version may sink.
        self.store.resource_version = int(version or 0)
        for change in changes:
            self._notify(change)
        self._synced.set()

    def _deleted(self, last: Object) -> None:
        """The stored object goes; handlers get the last state that the server told of."""
        if self.store.delete(key_of(last)).old is not None:
            self._notify(Change(last, None))

    def _notify(self, change: Change) -> None:
        old, new = change
        if self._gone_waiters and old is not None and (new is None or is_deleting(new) or uid_of(new) != uid_of(old)):
            for callback in self._gone_waiters.pop(uid_of(old), ()):
                callback()
        for handler in self._handlers:
            if new is None:
                if handler.on_delete is not None and old is not None:
                    handler.on_delete(old)
            elif old is None:
                if handler.on_add is not None:
                    handler.on_add(new)
            elif handler.on_update is not None:
                handler.on_update(old, new)

    def _advance(self, last: Event) -> None:
        match last:
            case Apply(obj) | Delete(obj):
                self.store.resource_version = int(obj["metadata"]["resourceVersion"])
            case Bookmark(version):
                self.store.resource_version = int(version)
        while self._seen_waiters and self._seen_waiters[0][0] <= self.store.resource_version:
            heapq.heappop(self._seen_waiters)[2]()


class InformerFactory:
    """One shared informer per (resource, namespace, selectors). `run` runs them all, also those asked for later."""

    def __init__(self, client: ApiClient, clock: Clock, *, random: Random | None = None, transform: Transform | None = None) -> None:
        self._client, self._clock = client, clock
        self._random = random or Random()
        self._transform = transform
        self._informers: dict[Hashable, Informer] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[Informer, asyncio.Task[None]] = {}

    def informer(
        self, resource: Resource, *, namespace: str | None = None, label_selector: str = "", field_selector: str = "",
        indexers: Mapping[str, IndexFn] | None = None,
    ) -> Informer:  # fmt: skip
        """The shared informer; `indexers` are added to those it has."""
        identity = (resource, namespace, label_selector, field_selector)
        informer = self._informers.get(identity)
        if informer is None:
            informer = Informer(
                self._client, resource, clock=self._clock, random=Random(self._random.random()), namespace=namespace,
                label_selector=label_selector, field_selector=field_selector, transform=self._transform,
            )  # fmt: skip
            self._informers[identity] = informer
            if self._tasks is not None:
                self._start(self._tasks, informer)
        if indexers:
            informer.store.add_indexers(indexers)
        return informer

    def informers(self) -> list[Informer]:
        return list(self._informers.values())

    async def wait_synced(self) -> None:
        """Return when every informer asked for so far has its first list."""
        for informer in self.informers():
            await informer.wait_synced()

    async def run(self) -> None:
        """Run all informers until cancelled, or until one of them fails by a bug."""
        async with asyncio.TaskGroup() as self._tasks:
            for informer in self.informers():
                self._start(self._tasks, informer)
            await asyncio.Event().wait()

    def drop(self, resource: Resource) -> list[Object]:
        """Stop following a resource that is served no longer; returns what its store held last."""
        held: list[Object] = []
        for identity, informer in list(self._informers.items()):
            if informer.resource == resource:
                held += informer.store.list()
                del self._informers[identity]
                task = self._running.pop(informer, None)
                if task is not None:
                    task.cancel()
        return held

    def _start(self, tasks: asyncio.TaskGroup, informer: Informer) -> None:
        name = f"informer-{informer.resource.group_resource}"
        self._running[informer] = tasks.create_task(informer.run(), name=name)


def drop_managed_fields(obj: Object) -> Object:
    """A Transform that saves a third of the memory of most objects; the apiserver keeps what an update leaves out."""
    obj["metadata"].pop("managedFields", None)
    return obj


def describe(failure: BaseException) -> str:
    """One line for the log, never empty."""
    return str(failure) or type(failure).__name__

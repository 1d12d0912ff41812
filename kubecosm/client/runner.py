"""Runs controllers: shared informers, one queue each, failures backed off, and no work item ahead of its own writes.

One of the two places with a broad `except`: whatever a work item raises is logged once, counted, and tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING

import structlog

from kubecosm.api.errors import ApiError, Conflict
from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import (
    OWNER_INDEXERS,
    Context,
    Controller,
    MapFn,
    Reader,
    ReconcileError,
    Writes,
)
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import TRANSPORT_ERRORS, ApiClient
from kubecosm.client.informer import Informer, InformerFactory, describe, drop_managed_fields
from kubecosm.client.metrics import ClientMetrics
from kubecosm.client.owners import OwnerRouter
from kubecosm.client.workqueue import BACKOFF_SECONDS_FIRST, RateLimiter, WorkQueue

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

HOLD_SECONDS_MAX = 30.0
"""A work item waits no longer than this for its cache to see its last write: a selector may hide the object for ever."""
REST_SECONDS_MAX = 1.0
"""However dear a work item is, changes show within this time."""

_log = structlog.get_logger("kubecosm.client.runner")


async def run_controllers(
    controllers: Iterable[Controller], client: ApiClient, clock: Clock, random: Random, *, factory: InformerFactory | None = None,
    metrics: ClientMetrics | None = None, on_synced: Callable[[], None] | None = None,
    client_of: Callable[[Controller], ApiClient] | None = None,
) -> None:  # fmt: skip
    """Run controllers until cancelled. A `factory` that is given is run by the caller; otherwise the controllers share a new one.

    `on_synced` is called once when all caches are complete and work begins. `client_of` gives controllers clients of their own for what
    they do and record; the caches are filled through `client`.
    """
    own = client_of or (lambda _controller: client)
    shared = factory or InformerFactory(client, clock, random=random, transform=drop_managed_fields)
    routers: dict[Informer, OwnerRouter] = {}
    runners = [ControllerRunner(one, own(one), clock, random, shared, metrics or ClientMetrics(), routers) for one in controllers]
    async with asyncio.TaskGroup() as tasks:
        if factory is None:
            tasks.create_task(shared.run(), name="informers")
        for runner in runners:
            tasks.create_task(runner.run(), name=f"controller-{runner.spec.name}")
        for runner in runners:
            await runner.wait_synced()
        if on_synced is not None:
            on_synced()


class _Hold:
    """A work item that is over but not released: its caches have not seen all it wrote."""

    def __init__(self, release: Callable[[], None], deadline: float) -> None:
        self._release: Callable[[], None] | None = release
        self.deadline = deadline
        self._awaited = 1

    def await_one(self) -> Callable[[], None]:
        self._awaited += 1
        return self.one_seen

    def one_seen(self) -> None:
        self._awaited -= 1
        if self._awaited == 0:
            self.release()

    def release(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


class ControllerRunner:
    """One controller at work."""

    def __init__(
        self, controller: Controller, client: ApiClient, clock: Clock, random: Random, factory: InformerFactory, metrics: ClientMetrics,
        routers: dict[Informer, OwnerRouter],
    ) -> None:  # fmt: skip
        """`routers` are those of all controllers that share the factory; what is missing is added."""
        self.spec = controller.SPEC
        self._reconcile = controller.reconcile
        self._client, self._clock, self._random, self._metrics = client, clock, random, metrics
        metrics.meter.declare(self.spec.metrics)
        first, longest = self.spec.retry_seconds
        self._patience = first if first > BACKOFF_SECONDS_FIRST else 0.0  # what failed rests, whatever wakes it
        limiter = RateLimiter(clock, first=first, max=longest)
        self.queue: WorkQueue[Key] = WorkQueue(clock, limiter=limiter, metrics=metrics.queue(self.spec.name))
        self._recorder = EventRecorder(client, self.spec.event_source, clock)
        self._informers: Mapping[Resource, Informer] = {r: factory.informer(r) for r in self.spec.resources()}
        self._reader = Reader(self.spec.name, self._informers)
        self._running = asyncio.Semaphore(self.spec.workers)
        self._holds: dict[Key, _Hold] = {}  # in order of their deadlines
        self._holding = asyncio.Event()
        self._connect(routers)
        if self.spec.connect is not None:
            self.spec.connect(factory, self.queue.add)

    async def wait_synced(self) -> None:
        """Return when every cache this controller reads is complete. Raises InformerStopped."""
        for informer in self._informers.values():
            await informer.wait_synced()

    async def run(self) -> None:
        """Work until cancelled; nothing runs before the caches are complete."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run(), name=f"events-{self.spec.name}")
            tasks.create_task(self.queue.run(), name=f"queue-{self.spec.name}")
            tasks.create_task(self._release_overdue(), name=f"holds-{self.spec.name}")
            await self.wait_synced()
            for key in self.spec.seeds:
                self.queue.add(key)
            while True:
                await self._running.acquire()
                key = await self.queue.get()
                tasks.create_task(self._work(key), name=f"{self.spec.name} {key}")

    # What wakes it

    def _connect(self, routers: dict[Informer, OwnerRouter]) -> None:
        if self.spec.primary is not None:
            self._add_handler(self.spec.primary, self._waker(self.spec.primary, lambda _, obj: (key_of(obj),)))
            for resource in self.spec.owns:
                informer = self._informers[resource]
                router = routers.get(informer) or routers.setdefault(informer, OwnerRouter(informer))
                router.add(self.spec.primary, self.queue.add, self.spec.cares.get(resource))
        for resource in self.spec.owns:
            self._informers[resource].store.add_indexers(OWNER_INDEXERS)
        for resource, map_keys in self.spec.watches.items():
            self._add_handler(resource, self._waker(resource, map_keys))
        for resource, indexers in self.spec.indexers.items():
            self._informers[resource].store.add_indexers(indexers)

    def _add_handler(self, resource: Resource, wake: Callable[[Object], None]) -> None:
        cares = self.spec.cares.get(resource)
        moves = resource != self.spec.primary or resource in self.spec.watches  # a primary object's key never changes

        def on_update(old: Object, new: Object) -> None:
            if cares is None or cares(old, new):
                if moves:
                    wake(old)
                wake(new)

        self._informers[resource].add_handler(wake, on_update, wake)

    def _waker(self, resource: Resource, map_keys: MapFn) -> Callable[[Object], None]:
        seconds = self.spec.wait_seconds.get(resource, 0.0)

        def wake(obj: Object) -> None:
            for key in map_keys(self._reader, obj):
                self.queue.add_after(key, seconds)

        return wake

    # One work item

    async def _work(self, key: Key) -> None:
        started, outcome, rest_seconds = self._clock.monotonic(), "error", 0.0
        ctx = Context(
            self.spec.name, self._informers, client=self._client, clock=self._clock, random=self._random, recorder=self._recorder,
            meter=self._metrics.meter,
        )  # fmt: skip
        try:
            result = await self._reconcile(ctx, key)
            self.queue.forget(key)
            outcome, rest_seconds = "success", result.rest_seconds
            if result.requeue_after_seconds is not None:
                outcome = "requeue_after"
                self.queue.add_after(key, result.requeue_after_seconds)
        except Exception as error:  # noqa: BLE001  the border of one work item
            self._log_failure(key, error)
            self.queue.add_rate_limited(key)
            rest_seconds = self._patience
        finally:
            self._metrics.reconciled(self.spec.name, outcome, self._clock.monotonic() - started)
            self._running.release()
            self._finish(key, ctx.writes, rest_seconds)

    def _log_failure(self, key: Key, error: Exception) -> None:
        """The first failure of a streak is for everyone, the rest for debugging; a traceback only for what nobody expected."""
        expected = isinstance(error, (ApiError, ReconcileError, *TRANSPORT_ERRORS))
        quiet = self.queue.failures(key) or isinstance(error, Conflict)  # a conflict is everyday life: the cache was a moment behind
        log = _log.debug if quiet else _log.warning if expected else _log.error
        kind = self.spec.primary.kind if self.spec.primary else ""
        log(
            "reconcile failed", controller=self.spec.name, object=f"{kind} {key}".strip(), error=describe(error),
            exc_info=None if expected else error,
        )  # fmt: skip

    def _finish(self, key: Key, writes: Writes, rest_seconds: float) -> None:
        """Give the key back to the queue once the caches have seen what was written and it has rested."""
        if not writes.versions and not writes.deletions and not rest_seconds:
            self.queue.done(key)
            return
        hold = _Hold(lambda: self._release(key), self._clock.monotonic() + HOLD_SECONDS_MAX)
        self._holds[key] = hold
        for informer, version in writes.versions.items():
            informer.when_seen(version, hold.await_one())
        for informer, obj in writes.deletions:
            informer.when_gone(obj, hold.await_one())
        if rest_seconds:
            asyncio.get_running_loop().call_later(min(rest_seconds, REST_SECONDS_MAX), hold.await_one())
        hold.one_seen()  # the constructor's own
        if key in self._holds:
            self._holding.set()

    def _release(self, key: Key) -> None:
        del self._holds[key]
        self.queue.done(key)

    async def _release_overdue(self) -> None:
        while True:
            await self._holding.wait()
            now = self._clock.monotonic()
            for key, hold in list(self._holds.items()):
                if hold.deadline > now:
                    break
                _log.warning("the cache has not seen a write", controller=self.spec.name, object=str(key), waited_seconds=HOLD_SECONDS_MAX)
                hold.release()
            if self._holds:
                await self._clock.sleep(next(iter(self._holds.values())).deadline - now)
            else:
                self._holding.clear()

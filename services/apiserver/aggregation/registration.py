"""Keeps an APIService for every group and version that this server serves itself: built-in ones at start, custom ones always."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from kubecosm.api import managedfields
from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, CustomResource, Object
from kubecosm.runtime.logs import get_logger

from ..bootstrap import APISERVER
from ..cache.caches import prefix_of
from ..rest.options import DeleteOptions
from ..rest.store import ResourceStore
from ..state import State
from ..storage.contract import Change, StorageError, Subscription
from .localservices import GroupVersion, builtin_services, custom_services, plan, served_versions

log = get_logger("apiserver")

DEFINITIONS = prefix_of(CUSTOMRESOURCEDEFINITIONS.group, CUSTOMRESOURCEDEFINITIONS.plural)
PREFIX = prefix_of(APISERVICES.group, APISERVICES.plural)
RETRY_SECONDS = 1.0


async def keep_local_services(state: State) -> None:
    """Bring the stored APIServices in line at start and whenever a definition or an APIService changes."""
    registration = Registration(state)
    await registration.follow()
    starting = True
    try:
        while True:
            registration.wake.clear()
            try:
                await registration.sync(starting=starting)
                starting = False
            except* (ApiError, StorageError) as failed:
                log.error("the APIServices of this server could not be kept up", error=str(failed.exceptions[0]))
                await state.clock.sleep(RETRY_SECONDS)
                registration.wake.set()
            await registration.wake.wait()
    finally:
        registration.close()


class Registration:
    """What is wanted, from definitions as they change; `wake` is set when something should be looked at."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._store: ResourceStore = state.store(APISERVICES.group, APISERVICES.version, APISERVICES.plural)
        self._custom: dict[str, tuple[GroupVersion, ...]] = {}
        self._subscriptions: list[Subscription] = []
        self.wake = asyncio.Event()
        rows = (row for row in state.table if not isinstance(row, CustomResource))
        self._builtin = tuple(builtin_services(dict.fromkeys((row.group, row.version) for row in rows)))

    async def follow(self) -> None:
        row = CUSTOMRESOURCEDEFINITIONS
        for entry in self._state.store(row.group, row.version, row.plural).cache.entries():
            self._custom[entry.key] = served_versions(entry.decode())
        storage, revision = self._state.storage, self._state.caches.revision
        self._subscriptions = [
            await storage.subscribe(prefix=DEFINITIONS, after_revision=revision, deliver=self._definitions_changed),
            await storage.subscribe(prefix=PREFIX, after_revision=revision, deliver=lambda _: self.wake.set()),
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()

    def _definitions_changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            name = change.key.removeprefix(DEFINITIONS)
            served = () if change.value is None else served_versions(orjson.loads(change.value))
            if served != self._custom.get(name, ()):
                self.wake.set()
            if served:
                self._custom[name] = served
            else:
                self._custom.pop(name, None)

    async def sync(self, *, starting: bool) -> None:
        """Write what differs, all side by side. Raises a group of ApiErrors and StorageErrors."""
        pairs = dict.fromkeys(pair for served in self._custom.values() for pair in served)
        wanted = {service["metadata"]["name"]: service for service in (*custom_services(pairs), *self._builtin)}
        stored = {entry.key: entry.decode() for entry in self._store.cache.entries()}
        due = plan(wanted, stored, starting=starting)
        async with asyncio.TaskGroup() as tasks:
            for service in due.create:
                tasks.create_task(self._create(service), name="apiservice create")
            for present, spec in due.update:
                tasks.create_task(self._update(present, spec), name="apiservice update")
            for present in due.delete:
                tasks.create_task(self._delete(present), name="apiservice delete")

    async def _create(self, service: Object) -> None:
        new: Object = {**service, "metadata": dict(service["metadata"])}
        self._store.strategy.default(new)
        managedfields.on_create(APISERVICES, new, APISERVER.field_manager, self._state.clock.now())
        try:
            await self._store.create(new, "", APISERVER)
        except AlreadyExists:
            self.wake.set()  # another server was faster

    async def _update(self, present: Object, spec: Object) -> None:
        name = present["metadata"]["name"]
        try:
            await self._store.update("", name, lambda obj: {**obj, "spec": spec}, APISERVER)
        except NotFound:
            self.wake.set()

    async def _delete(self, present: Object) -> None:
        meta = present["metadata"]
        try:
            await self._store.delete("", meta["name"], DeleteOptions(uid=meta["uid"]), APISERVER)
        except NotFound:
            return

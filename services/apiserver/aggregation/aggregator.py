"""Follows the APIServices: which group and version goes to which extension server, and how each of those fares.

An APIService is followed in the same turn of the loop in which its write is published, so its writer finds it in force. Services and
EndpointSlices are only looked at while there is an extension server. `registration` keeps the APIServices of what is served here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import orjson

from kubecosm.api.errors import ApiError
from kubecosm.api.names import LABEL_SERVICE_NAME
from kubecosm.api.resources import APISERVICES, ENDPOINTSLICES, SERVICES, Object
from kubecosm.runtime.logs import get_logger

from ..bootstrap import APISERVER
from ..cache.caches import prefix_of
from ..connect.backend import Backends
from ..http.request import Request
from ..http.response import Answer
from ..rest.store import ResourceStore
from ..state import State
from ..storage.contract import Change, StorageError, Subscription
from .availability import judge
from .catalog import Catalog
from .conditions import Verdict, is_available, verdict_of, with_verdict
from .discovered import fetch_resources
from .localservices import GroupVersion
from .metrics import AggregatorMetrics
from .remote import Identity, RemoteService, forward, remote_service
from .specs import RemoteSpecs

log = get_logger("apiserver")

PREFIX = prefix_of(APISERVICES.group, APISERVICES.plural)
SERVICE_PREFIX = prefix_of(SERVICES.group, SERVICES.plural)
SLICE_PREFIX = prefix_of(ENDPOINTSLICES.group, ENDPOINTSLICES.plural)
RESYNC_SECONDS = 30.0
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 30.0


class Watched:
    """A remote with what is known of it from one check to the next."""

    def __init__(self, remote: RemoteService) -> None:
        self.remote = remote
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Aggregator:
    """`start` it once the caches are filled; `remotes` is empty, and nothing is done, without extension servers."""

    def __init__(self, state: State, backends: Backends, identity: Identity) -> None:
        self._state, self._backends, self._identity = state, backends, identity
        self.catalog = Catalog()
        self.specs = RemoteSpecs(state, backends)
        self.metrics = AggregatorMetrics(
            lambda: (entry.decode() for entry in self._store().cache.entries()), lambda: self.catalog.aggregations
        )
        self.remotes: dict[GroupVersion, RemoteService] = {}
        self._watched: dict[str, Watched] = {}
        self._subscription: Subscription | None = None
        self._endpoints: list[Subscription] = []
        self._follows_endpoints = False

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Follow the APIServices from now on; the tasks that look after extension servers live in `tasks`."""
        self._tasks = tasks
        for entry in self._store().cache.entries():
            self._observe(entry.decode())
        self._subscription = await self._state.storage.subscribe(
            prefix=PREFIX, after_revision=self._state.caches.revision, deliver=self._deliver
        )

    def stop(self) -> None:
        for subscription in (*self._endpoints, *([self._subscription] if self._subscription else ())):
            subscription.close()
        for watched in self._watched.values():
            if watched.task is not None:
                watched.task.cancel()

    def remote_of(self, request: Request) -> RemoteService | None:
        """The extension server that answers a request; None if that is this server's business."""
        info = request.info
        if info.is_resource:
            return self.remotes.get((info.group, info.version))
        parts = request.path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "apis":
            return self.remotes.get((parts[1], parts[2]))
        if parts[:2] == ["openapi", "v3"]:
            return self.specs.owner("/".join(parts[2:]), self.remotes)
        return None

    async def forward(self, remote: RemoteService, request: Request) -> Answer:
        return await forward(self._state, self._backends, remote, request)

    def _deliver(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.value is None:
                self._withdraw(change.key.removeprefix(PREFIX))
            else:
                self._observe(orjson.loads(change.value))

    def _observe(self, obj: Object) -> None:
        name, spec = obj["metadata"]["name"], obj["spec"]
        watched = self._watched.get(name)
        if "service" not in spec:
            if watched is not None:
                self._withdraw(name)
            return
        remote = remote_service(obj, self._identity) if watched is None or watched.remote.spec != spec else None
        if watched is None:
            assert remote is not None
            watched = self._watched[name] = Watched(remote)
            watched.task = self._tasks.create_task(self._attend(watched), name=f"apiservice-{name}")
        elif remote is not None:
            self._forget(watched.remote)
            watched.remote = remote
            watched.changed.set()
        else:
            watched.remote.is_available = is_available(obj)
        self.remotes[watched.remote.key] = watched.remote
        self.catalog.set_priority(watched.remote.key, (spec["groupPriorityMinimum"], spec["versionPriority"]))

    def _withdraw(self, name: str) -> None:
        watched = self._watched.pop(name, None)
        if watched is None:
            return
        if watched.task is not None:
            watched.task.cancel()
        self._forget(watched.remote)

    def _forget(self, remote: RemoteService) -> None:
        if self.remotes.get(remote.key) is remote:
            del self.remotes[remote.key]
            self.catalog.withdraw(remote.key)
            self.specs.forget(remote.key)

    async def _follow_endpoints(self) -> None:
        """Once there is somebody to look after."""
        if self._follows_endpoints:
            return
        self._follows_endpoints = True
        for prefix in (SERVICE_PREFIX, SLICE_PREFIX):
            subscription = await self._state.storage.subscribe(
                prefix=prefix, after_revision=self._state.caches.revision, deliver=self._endpoints_changed
            )
            self._endpoints.append(subscription)

    def _endpoints_changed(self, changes: Sequence[Change]) -> None:
        """Have the remotes behind a changed Service looked at again."""
        for change in changes:
            if change.key.startswith(SERVICE_PREFIX):
                namespace, name = change.key.removeprefix(SERVICE_PREFIX).split("/")
            else:
                namespace = change.key.removeprefix(SLICE_PREFIX).partition("/")[0]
                labels = orjson.loads(change.value)["metadata"].get("labels") or {} if change.value is not None else {}
                name = labels.get(LABEL_SERVICE_NAME, "")
            for watched in self._watched.values():
                if watched.remote.service[0] == namespace and name in ("", watched.remote.service[1]):
                    watched.changed.set()

    async def _attend(self, watched: Watched) -> None:
        """Check one remote whenever something changes, and now and then; tell what was found."""
        await self._follow_endpoints()
        failures = 0
        while True:
            watched.changed.clear()
            remote = watched.remote
            verdict = await judge(self._state, self._backends, remote)
            if remote is watched.remote:
                await self._tell(remote, verdict)
                await self._learn(remote, verdict)
            failures = 0 if verdict[0] == "True" else failures + 1
            pause = RESYNC_SECONDS if not failures else min(RETRY_SECONDS_MIN * 2 ** (failures - 1), RETRY_SECONDS_MAX)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await watched.changed.wait()

    async def _learn(self, remote: RemoteService, verdict: Verdict) -> None:
        """Take up the resources it serves; what was known stays, marked stale, when it cannot say."""
        document = self.catalog.documents.get(remote.key)
        resources = await fetch_resources(self._state, self._backends, remote) if verdict[0] == "True" else None
        if self.remotes.get(remote.key) is not remote:
            return
        if resources is not None:
            self.catalog.publish(remote.key, {"version": remote.key[1], "resources": resources, "freshness": "Current"})
        else:
            self.catalog.publish(remote.key, {**(document or {"version": remote.key[1]}), "freshness": "Stale"})

    async def _tell(self, remote: RemoteService, verdict: Verdict) -> None:
        """Write the condition if it says something new."""
        store = self._store()
        entry = store.cache.get(remote.name)
        before = verdict_of(entry.decode()) if entry is not None else None
        if entry is None or before == verdict:
            return
        if verdict[0] != "True" and before is not None and before[0] == "True":
            self.metrics.lost[remote.name, verdict[1]] += 1
        now = self._state.clock.now()
        try:
            await store.change_system_fields("", remote.name, lambda obj: with_verdict(obj, verdict, now), APISERVER)
        except (ApiError, StorageError) as error:
            log.error("the condition of an APIService could not be written", name=remote.name, error=str(error))

    def _store(self) -> ResourceStore:
        return self._state.store(APISERVICES.group, APISERVICES.version, APISERVICES.plural)

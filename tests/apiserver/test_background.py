"""What the server does by itself, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from kubecosm.api.resources import EVENTS, Object, load_builtin
from kubecosm.services.apiserver import background
from kubecosm.services.apiserver.assembly import build_state, start_strategies
from kubecosm.services.apiserver.bootstrap import APISERVER, ensure_system_objects, keep_system_objects
from kubecosm.services.apiserver.cache.selection import Selection
from kubecosm.services.apiserver.cache.view import AS_STORED
from kubecosm.services.apiserver.config import Config
from kubecosm.services.apiserver.rest.options import DeleteOptions
from kubecosm.services.apiserver.rest.store import ResourceStore
from kubecosm.services.apiserver.state import State
from kubecosm.services.apiserver.storage.memory import open_memory
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

HOUR = 3600.0


async def make_state() -> State:
    config = Config(storage_backend="memory")
    state = build_state(config, open_memory(), load_builtin(), VirtualClock(), random.Random(1))
    await state.caches.start()
    start_strategies(state, config)
    await ensure_system_objects(state, service_range=config.service_cluster_ip_range, address="127.0.0.1", port=6443)
    return state


async def beside(job: Awaitable[None], test: Callable[[], Awaitable[None]]) -> None:
    """Run a test while a background job runs."""

    async def run_job() -> None:
        await job

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_job())
        await test()
        running.cancel()


def event(name: str) -> Object:
    regarding = {"kind": "Pod", "namespace": "default", "name": "p"}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": regarding, "reason": "R", "type": "Normal"}


async def create_event(store: ResourceStore, name: str) -> None:
    obj = event(name)
    store.strategy.default(obj)
    await store.create(obj, "default", APISERVER)


def test_events_go_an_hour_after_their_last_change() -> None:
    async def main() -> None:
        state = await make_state()
        store = state.store("", "v1", EVENTS.plural)

        async def test() -> None:
            await create_event(store, "old")
            await create_event(store, "renewed")
            await asyncio.sleep(HOUR / 2)
            await store.change_system_fields("default", "renewed", lambda obj: {**obj, "count": 2}, APISERVER)
            await asyncio.sleep(HOUR / 2 + 2 * background.EXPIRY_SECONDS)
            assert [entry.name for entry in store.cache.entries()] == ["renewed"]
            await asyncio.sleep(HOUR)
            assert len(store.cache) == 0

        await beside(background.expire_events_forever(state, HOUR), test)

    run_virtual(main())


class Listener:
    """A watcher that only counts bookmarks."""

    def __init__(self) -> None:
        self.bookmarks: list[int] = []

    def send(self, piece: bytes) -> None:
        raise AssertionError("there are no events")

    def bookmark(self, revision: int) -> None:
        self.bookmarks.append(revision)

    def end(self) -> None:
        pass


def test_idle_watches_hear_every_minute_how_far_they_are() -> None:
    async def main() -> None:
        state = await make_state()
        listener = Listener()
        state.store("", "v1", "configmaps").cache.watch(listener, Selection(), AS_STORED)

        async def test() -> None:
            await asyncio.sleep(3.5 * background.BOOKMARK_SECONDS)
            assert listener.bookmarks == [state.caches.revision] * 3

        await beside(background.bookmarks_forever(state), test)

    run_virtual(main())


def test_compaction_forgets_what_was_old_an_interval_ago_but_never_recent_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "HISTORY_REVISIONS_MAX", 5)

    async def main() -> None:
        state = await make_state()
        store = state.store("", "v1", EVENTS.plural)

        async def test() -> None:
            before = state.storage.revision
            for n in range(20):
                await create_event(store, f"e{n}")
            await asyncio.sleep(1.5 * 300.0)
            assert state.storage.compacted_revision == 0, "what is new at one tick stays until the next"
            await asyncio.sleep(300.0)
            assert state.storage.compacted_revision == before + 20 - 5
            assert len((await state.storage.list(prefix=store.prefix)).items) == 20

        await beside(background.compact_forever(state, 300.0), test)

    run_virtual(main())


def test_the_service_of_the_api_and_the_systems_namespaces_come_back() -> None:
    async def main() -> None:
        state = await make_state()
        services, namespaces = state.store("", "v1", "services"), state.store("", "v1", "namespaces")
        keeping = keep_system_objects(
            state, service_range=Config().service_cluster_ip_range, address="127.0.0.1", port=6443, shared=False
        )

        async def test() -> None:
            await state.clock.sleep(0)
            before = services.entry("default", "kubernetes").decode()["spec"]["clusterIP"]
            await services.delete("default", "kubernetes", DeleteOptions(), APISERVER)
            assert services.cache.get("default/kubernetes") is None
            await state.clock.sleep(5)
            assert services.entry("default", "kubernetes").decode()["spec"]["clusterIP"] == before
            await namespaces.remove(namespaces.entry("", "kube-node-lease"), APISERVER)
            await state.clock.sleep(5)
            namespaces.entry("", "kube-node-lease")

        await beside(keeping, test)

    run_virtual(main())

"""Store and informer: what readers may rely on while the server lists, restarts, forgets and lies silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from kubecosm.api.errors import Expired, Forbidden, InternalError
from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import CONFIGMAPS, PODS, Object
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import Informer, InformerFactory, InformerStopped, drop_managed_fields
from kubecosm.client.store import Store
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_until


def configmap(name: str, value: int = 0, namespace: str = "default", **labels: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": {"value": str(value)}}


def by_value(obj: Object) -> list[str]:
    return [obj["data"]["value"]]


Scenario = Callable[[MemoryServer, Informer, VirtualClock], Awaitable[None]]


def with_informer(scenario: Scenario, *, prepare: Callable[[MemoryServer], None] = lambda server: None, **options: Any) -> None:
    """Run the scenario next to an informer of ConfigMaps."""

    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            prepare(server)
            informer = Informer(client, CONFIGMAPS, clock=clock, random=Random(1), **options)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(informer.run())
                await scenario(server, informer, clock)
                running.cancel()

    run_virtual(main())


def record(informer: Informer) -> list[str]:
    """What handlers are told, one word each: `+name`, `~name`, `-name`."""
    told: list[str] = []
    informer.add_handler(
        lambda obj: told.append(f"+{obj['metadata']['name']}"),
        lambda old, new: told.append(f"~{new['metadata']['name']}"),
        lambda obj: told.append(f"-{obj['metadata']['name']}"),
    )
    return told


class TestStore:
    def test_objects_are_found_by_key_namespace_and_index(self) -> None:
        store = Store({"value": by_value})
        objects = [configmap("a", 1), configmap("b", 1), configmap("a", 2, "other")]
        for obj in objects:
            store.apply(obj)
        assert store.get(Key("other", "a")) is objects[2]
        assert store.get(Key("other", "b")) is None
        assert store.list("default") == objects[:2]
        assert store.by_index("value", "1") == objects[:2]
        assert store.by_index("value", "3") == []
        assert sorted(store.index_values("value")) == ["1", "2"]
        assert (len(store), Key("default", "b") in store, list(store)) == (3, True, objects)

    def test_indexes_follow_changes_and_deletions(self) -> None:
        store = Store({"value": by_value})
        store.apply(configmap("a", 1))
        assert store.index_values("value") == ("1",)
        changed = configmap("a", 2)
        store.apply(changed)
        assert store.by_index("value", "1") == []
        assert store.by_index("value", "2") == [changed]
        store.delete(Key("default", "a"))
        assert store.index_values("value") == ()

    def test_an_update_within_a_bucket_replaces_the_object(self) -> None:
        store = Store({"value": by_value})
        assert store.by_index("value", "1") == []
        store.apply(configmap("a", 1))
        newer = configmap("a", 1)
        store.apply(newer)
        assert store.by_index("value", "1")[0] is newer

    def test_replace_says_what_vanished_and_what_differs(self) -> None:
        def version(name: str, number: int) -> Object:
            return {"metadata": {"name": name, "resourceVersion": str(number)}}

        store = Store()
        for name in "abc":
            store.apply(version(name, 1))
        unchanged = store.get(Key("", "b"))
        changes = store.replace([version("b", 1), version("c", 2), version("d", 2)])
        assert store.get(Key("", "b")) is unchanged
        told = [(old and old["metadata"]["name"], new and new["metadata"]["name"]) for old, new in changes]
        assert told == [("a", None), ("c", "c"), (None, "d")]

    def test_an_index_may_be_declared_late_but_not_twice(self) -> None:
        store = Store()
        store.apply(configmap("a", 1))
        store.add_indexers({"value": by_value})
        store.add_indexers({"value": by_value})
        assert len(store.by_index("value", "1")) == 1
        with pytest.raises(ValueError, match="value"):
            store.add_indexers({"value": lambda obj: []})
        with pytest.raises(KeyError):
            store.by_index("unknown", "1")

    def test_an_index_function_may_give_many_values_or_none(self) -> None:
        store = Store({"word": lambda obj: obj["words"]})
        store.apply({"metadata": {"name": "a"}, "words": ["x", "y"]})
        store.apply({"metadata": {"name": "b"}, "words": []})
        assert [key_of(obj).name for obj in store.by_index("word", "y")] == ["a"]
        store.apply({"metadata": {"name": "a"}, "words": ["y", "z"]})
        assert store.index_values("word") == ("y", "z")


def test_handlers_hear_of_every_change_after_the_store_has_it() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        seen: list[tuple[str, Any]] = []

        def stored(obj: Object) -> Any:
            known = informer.store.get(key_of(obj))
            return known and known["data"]["value"]

        informer.add_handler(
            lambda obj: seen.append(("add", stored(obj))),
            lambda old, new: seen.append((f"update from {old['data']['value']}", stored(new))),
            lambda obj: seen.append((f"delete of {obj['data']['value']}", stored(obj))),
        )
        await informer.wait_synced()
        server.create(CONFIGMAPS, configmap("a", 1))
        server.update(CONFIGMAPS, configmap("a", 2))
        server.delete(CONFIGMAPS, Key("default", "a"))
        await wait_until(lambda: len(seen) == 3)
        assert [word for word, _ in seen] == ["add", "update from 1", "delete of 2"]
        assert seen == [("add", "1"), ("update from 1", "2"), ("delete of 2", None)]

    with_informer(scenario)


def test_no_half_filled_list_is_visible() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        sizes: set[int] = set()
        informer.add_handler(lambda obj: sizes.add(len(informer.store)))
        await informer.wait_synced()
        assert sizes == {5}
        assert sum("limit=2" in request for request in server.requests) == 3

    with_informer(scenario, prepare=lambda server: fill(server, 5), page_items=2)


def fill(server: MemoryServer, count: int) -> None:
    for number in range(count):
        server.create(CONFIGMAPS, configmap(f"c{number}"))


def test_a_deletion_missed_while_disconnected_is_synthesized_after_the_relist() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        told = record(informer)
        assert told == ["+c0", "+c1", "+c2"]
        server.delete(CONFIGMAPS, Key("default", "c1"))
        server.update(CONFIGMAPS, configmap("c2", 7))
        server.create(CONFIGMAPS, configmap("c3"))
        server.compact()
        server.cut_connections()
        await wait_until(lambda: Key("default", "c3") in informer.store)
        assert told[3:] == ["-c1", "~c2", "+c3"]

    with_informer(scenario, prepare=lambda server: fill(server, 3))


def test_after_a_disconnect_the_watch_resumes_without_a_new_list() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        await wait_until(lambda: any("watch=true" in request for request in server.requests))
        server.cut_connections()
        server.create(CONFIGMAPS, configmap("late"))
        await wait_until(lambda: Key("default", "late") in informer.store)
        lists = [request for request in server.requests if "watch" not in request]
        assert len(lists) == 1
        assert clock.monotonic() < 1, "the first retry is fast"

    with_informer(scenario, prepare=lambda server: fill(server, 3))


def test_a_server_that_refuses_is_asked_less_and_less_often() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        for _ in range(15):
            server.refuse_next(Forbidden("configmaps is forbidden"))
        await informer.wait_synced()
        assert 150 < clock.monotonic() < 400  # 0.05 + 0.1 + … + 25.6, then 30 each, each stretched by one to two
        assert len(server.requests) >= 16

    with_informer(scenario)


def test_a_server_that_lists_but_never_watches_is_asked_less_and_less_often() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        for _ in range(8):
            server.refuse_next(Expired("too old resource version"), path="configmaps", query="watch")
        await informer.wait_synced()
        await wait_until(lambda: sum("watch" in request for request in server.requests) == 9)
        assert clock.monotonic() > 0.05 * (2**8 - 1), "0.05 + 0.1 + … + 6.4 at least"

    with_informer(scenario)


def test_after_a_healthy_watch_the_first_retry_is_fast_again() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        for _ in range(8):
            server.refuse_next(Forbidden("not yet"))
        await informer.wait_synced()
        await clock.sleep(10)
        server.cut_connections()
        cut, requests = clock.monotonic(), len(server.requests)
        await wait_until(lambda: len(server.requests) > requests)
        assert clock.monotonic() - cut < 0.2

    with_informer(scenario)


def test_a_bookmark_moves_the_version_on() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        assert informer.store.resource_version == 100
        await wait_until(lambda: any("watch=true" in request for request in server.requests))
        server.create(PODS, {"metadata": {"name": "elsewhere", "namespace": "default"}})
        server.send_bookmarks()
        await wait_until(lambda: informer.store.resource_version == 101)

    with_informer(scenario)


def test_selectors_and_namespace_limit_what_is_cached() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        told = record(informer)
        server.create(CONFIGMAPS, configmap("a", app="web"))
        server.create(CONFIGMAPS, configmap("b", app="db"))
        server.create(CONFIGMAPS, configmap("a", namespace="other", app="web"))
        server.update(CONFIGMAPS, configmap("b", app="web"))
        server.update(CONFIGMAPS, configmap("a", app="db"))
        await wait_until(lambda: len(told) == 3)
        assert told == ["+a", "+b", "-a"]

    with_informer(scenario, namespace="default", label_selector="app=web")


def test_a_transform_sees_objects_before_anyone_else() -> None:
    def prepare(server: MemoryServer) -> None:
        server.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default", "managedFields": [{"manager": "kubectl"}]}})

    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        assert "managedFields" not in informer.store.list()[0]["metadata"]

    with_informer(scenario, prepare=prepare, transform=drop_managed_fields)


def test_cached_objects_of_a_list_name_their_kind_like_watched_ones() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        listed = informer.store.list()[0]
        assert (listed["apiVersion"], listed["kind"]) == ("v1", "ConfigMap")

    with_informer(scenario, prepare=lambda server: fill(server, 1))


def test_when_seen_waits_for_the_version_and_when_gone_for_the_deletion() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        calls: list[str] = []
        obj = server.create(CONFIGMAPS, configmap("a"))
        informer.when_seen(int(obj["metadata"]["resourceVersion"]), lambda: calls.append("seen"))
        assert calls == []
        await wait_until(lambda: calls == ["seen"])
        informer.when_gone(obj, lambda: calls.append("gone"))
        assert calls == ["seen"]
        server.delete(CONFIGMAPS, key_of(obj))
        await wait_until(lambda: calls == ["seen", "gone"])
        informer.when_gone(obj, lambda: calls.append("gone already"))
        informer.when_seen(1, lambda: calls.append("seen already"))
        assert calls[2:] == ["gone already", "seen already"]

    with_informer(scenario)


def test_a_recreated_object_counts_as_gone() -> None:
    async def scenario(server: MemoryServer, informer: Informer, clock: VirtualClock) -> None:
        await informer.wait_synced()
        first = server.create(CONFIGMAPS, configmap("a"))
        await wait_until(lambda: len(informer.store) == 1)
        calls: list[str] = []
        informer.when_gone(first, lambda: calls.append("gone"))
        server.cut_connections()
        server.delete(CONFIGMAPS, key_of(first))
        server.create(CONFIGMAPS, configmap("a"))
        server.compact()
        await wait_until(lambda: calls == ["gone"])

    with_informer(scenario)


def test_wait_synced_raises_when_the_informer_died() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            server.create(CONFIGMAPS, configmap("a"))
            informer = Informer(client, CONFIGMAPS, clock=clock)

            def broken(obj: Object) -> None:
                raise LookupError("a bug in a handler")

            informer.add_handler(broken)
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(informer.run())
            assert caught.group_contains(LookupError, match="a bug in a handler")
            with pytest.raises(InformerStopped, match="configmaps"):
                await informer.wait_synced()
            assert not informer.has_synced

    run_virtual(main())


def test_factory_shares_one_informer_for_the_same_question() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            fill(server, 2)
            factory = InformerFactory(client, clock, random=Random(1))
            first = factory.informer(CONFIGMAPS, indexers={"value": by_value})
            assert factory.informer(CONFIGMAPS) is first
            assert factory.informer(CONFIGMAPS, namespace="default") is not first
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(factory.run())
                await factory.wait_synced()
                assert len(first.store.by_index("value", "0")) == 2
                late = factory.informer(PODS)
                await late.wait_synced()
                running.cancel()
            assert sum("watch=true" not in request for request in server.requests) == 3

    run_virtual(main())


FAULTS: list[Callable[[MemoryServer], None]] = [
    lambda server: server.cut_connections(),
    lambda server: server.compact(),
    lambda server: server.end_watches(),
    lambda server: server.end_watches(InternalError("etcdserver: leader changed")),
    lambda server: server.refuse_next(Forbidden("not now")),
    lambda server: server.send_bookmarks(),
    lambda server: server.refuse_next(InternalError("boom"), path="configmaps"),
]


def change_something(server: MemoryServer, random: Random) -> None:
    name = f"c{random.randrange(12)}"
    known = Key("default", name) in {key_of(obj) for obj in server.list(CONFIGMAPS)}
    if not known:
        server.create(CONFIGMAPS, configmap(name, random.randrange(3)))
    elif random.random() < 0.5:
        server.update(CONFIGMAPS, configmap(name, random.randrange(3)))
    else:
        server.delete(CONFIGMAPS, Key("default", name))


async def follow(client: ApiClient, server: MemoryServer, clock: VirtualClock, random: Random) -> list[str]:
    """Let an informer follow random changes under random faults; returns the log of what handlers heard."""
    informer = Informer(client, CONFIGMAPS, clock=clock, random=Random(random.random()), page_items=random.choice((0, 0, 3)))
    shadow: dict[Key, Object] = {}
    log: list[str] = []

    def added(obj: Object) -> None:
        assert key_of(obj) not in shadow, "an object was added twice"
        shadow[key_of(obj)] = obj
        log.append(f"+{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}")

    def updated(old: Object, new: Object) -> None:
        assert shadow[key_of(new)] is old, "the old state was never told of"
        assert int(old["metadata"]["resourceVersion"]) < int(new["metadata"]["resourceVersion"]), "time went back"
        shadow[key_of(new)] = new
        log.append(f"~{new['metadata']['name']}@{new['metadata']['resourceVersion']}")

    def deleted(obj: Object) -> None:
        del shadow[key_of(obj)]
        log.append(f"-{obj['metadata']['name']}")

    informer.add_handler(added, updated, deleted)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(informer.run())
        for _ in range(150):
            change_something(server, random)
            if random.random() < 0.15:
                random.choice(FAULTS)(server)
            if random.random() < 0.5:
                await clock.sleep(random.random() * 2)
        await wait_until(lambda: informer.store.list() != [] and contents(informer.store) == versions(server), timeout_seconds=300)
        assert {key: obj["metadata"]["resourceVersion"] for key, obj in shadow.items()} == contents(informer.store)
        running.cancel()
    return log


def contents(store: Store) -> dict[Key, str]:
    return {key_of(obj): obj["metadata"]["resourceVersion"] for obj in store}


def versions(server: MemoryServer) -> dict[Key, str]:
    return {key_of(obj): obj["metadata"]["resourceVersion"] for obj in server.list(CONFIGMAPS)}


@pytest.mark.parametrize("seed", range(8))
def test_under_random_faults_the_store_converges_and_handlers_hear_a_consistent_story(seed: int) -> None:
    async def main() -> list[str]:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            server.create(CONFIGMAPS, configmap("always"))
            return await follow(client, server, clock, Random(seed))

    assert len(run_virtual(main())) > 50

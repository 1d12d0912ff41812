"""Watches: nothing lost, nothing twice, recovery after every kind of break."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from kubecosm.services.apiserver.cache import events as cache_events
from kubecosm.services.apiserver.cache import watchers
from kubecosm.services.apiserver.rest import watchstream

from .harness import ACCOUNT, ACCOUNTS, CONFIGMAPS, PODS, Api, Watch, api_server, configmap, pod, with_api


async def list_version(api: Api, path: str = CONFIGMAPS) -> str:
    version: str = (await api.get(path))["metadata"]["resourceVersion"]
    return version


def test_a_watch_tells_of_every_change_after_its_version(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("before"))
        version = await list_version(api)
        made = await api.create(CONFIGMAPS, configmap("a"))
        async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={version}") as watch:
            first = await watch.next()
            assert first == {"type": "ADDED", "object": made}
            changed = await api.merge(f"{CONFIGMAPS}/a", {"data": {"k": "2"}})
            assert await watch.next() == {"type": "MODIFIED", "object": changed}
            await api.delete(f"{CONFIGMAPS}/a")
            gone = await watch.next()
            assert gone["type"] == "DELETED"
            assert gone["object"]["data"] == {"k": "2"}
            assert int(gone["object"]["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])

    with_api(tmp_path, test)


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"], ids=["unset", "zero"])
def test_a_watch_without_a_version_begins_with_what_is_there(tmp_path: Path, version: str) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("b"))
        await api.create(CONFIGMAPS, configmap("a"))
        async with api.watch(f"{CONFIGMAPS}?watch=true{version}") as watch:
            assert await watch.names(2) == [("ADDED", "a"), ("ADDED", "b")]
            await api.create(CONFIGMAPS, configmap("c"))
            assert await watch.names(1) == [("ADDED", "c")]

    with_api(tmp_path, test)


def test_no_event_is_lost_or_repeated_between_list_and_watch_under_writes(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async def write(worker: int) -> None:
            for n in range(60):
                await api.create(CONFIGMAPS, configmap(f"w{worker}-{n}"))

        async def follow() -> None:
            listed = await api.get(CONFIGMAPS)
            seen = {item["metadata"]["name"] for item in listed["items"]}
            async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}") as watch:
                while len(seen) < 180:
                    event = await watch.next()
                    name = event["object"]["metadata"]["name"]
                    assert event["type"] == "ADDED"
                    assert name not in seen
                    seen.add(name)

        async with asyncio.TaskGroup() as tasks:
            for worker in range(3):
                tasks.create_task(write(worker))
            for _ in range(5):
                tasks.create_task(follow())

    with_api(tmp_path, test)


def test_selectors_turn_changes_into_arrivals_and_departures(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        version = await list_version(api)
        async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={version}&labelSelector=app%3Dweb") as watch:
            await api.create(CONFIGMAPS, configmap("other"))
            await api.create(CONFIGMAPS, configmap("a", labels={"app": "web"}))
            await api.merge(f"{CONFIGMAPS}/a", {"data": {"k": "2"}})
            left = await api.merge(f"{CONFIGMAPS}/a", {"metadata": {"labels": {"app": "db"}}})
            await api.merge(f"{CONFIGMAPS}/a", {"metadata": {"labels": {"app": "web"}}})
            await api.delete(f"{CONFIGMAPS}/a")
            events = [await watch.next() for _ in range(5)]
            assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
            departure = events[2]["object"]
            assert departure["metadata"]["labels"] == {"app": "web"}, "what the watcher knew"
            assert departure["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"], "at the revision of the change"

    with_api(tmp_path, test)


def test_a_node_sees_only_its_own_pods(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        async with api.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dnode-1") as watch:
            await api.create(PODS, pod("elsewhere", nodeName="node-2"))
            await api.create(PODS, pod("here", nodeName="node-1"))
            await api.create(PODS, pod("late"))
            await api.create(f"{PODS}/late/binding", {"metadata": {"name": "late"}, "target": {"kind": "Node", "name": "node-1"}})
            assert await watch.names(2) == [("ADDED", "here"), ("ADDED", "late")]

    with_api(tmp_path, test)


def test_one_object_can_be_watched_by_name(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        await api.create(CONFIGMAPS, configmap("b"))
        async with api.watch(f"{CONFIGMAPS}?watch=1&fieldSelector=metadata.name%3Db") as watch:
            await api.merge(f"{CONFIGMAPS}/a", {"data": {"k": "2"}})
            await api.merge(f"{CONFIGMAPS}/b", {"data": {"k": "2"}})
            assert await watch.names(2) == [("ADDED", "b"), ("MODIFIED", "b")]

    with_api(tmp_path, test)


def test_the_deprecated_watch_paths_are_still_served(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        await api.create(CONFIGMAPS, configmap("b"))
        async with api.watch("/api/v1/watch/namespaces/default/configmaps") as watch:
            assert await watch.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        async with api.watch("/api/v1/watch/namespaces/default/configmaps/b") as watch:
            assert await watch.names(1) == [("ADDED", "b")]

    with_api(tmp_path, test)


def test_a_crowd_of_watchers_is_served_in_fewer_larger_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "REST_AFTER_SECONDS", 0.0)  # every flush is followed by a rest

    async def test(api: Api) -> None:
        version = await list_version(api)
        path = f"{CONFIGMAPS}?watch=1&resourceVersion={version}"
        async with api.watch(path) as first, api.watch(path) as second:

            async def follow(watch: Watch) -> list[tuple[str, str]]:
                return await watch.names(50)

            async with asyncio.TaskGroup() as tasks:
                seen = [tasks.create_task(follow(watch)) for watch in (first, second)]
                for n in range(50):
                    await api.create(CONFIGMAPS, configmap(f"c{n:02}"))
                    if n == 25:
                        async with api.watch(f"{CONFIGMAPS}?watch=1") as late:
                            assert await late.names(26) == [("ADDED", f"c{m:02}") for m in range(26)]
            assert [task.result() for task in seen] == [[("ADDED", f"c{n:02}") for n in range(50)]] * 2

    with_api(tmp_path, test)


def test_initial_events_end_with_a_marked_bookmark(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("a"))
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{CONFIGMAPS}?{query}") as watch:
            assert await watch.names(1) == [("ADDED", "a")]
            bookmark = await watch.next()
            assert bookmark["type"] == "BOOKMARK"
            assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert bookmark["object"]["metadata"]["resourceVersion"] == await list_version(api)

    with_api(tmp_path, test)


def test_options_that_do_not_fit_a_watch_are_refused(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("GET", f"{CONFIGMAPS}?watch=1&sendInitialEvents=true")
        assert (code, status["reason"]) == (422, "Invalid")
        assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in status["message"]

    with_api(tmp_path, test)


def test_a_version_older_than_the_history_is_told_in_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_events, "HISTORY_EVENTS_MAX", 4)

    async def test(api: Api) -> None:
        version = await list_version(api)
        for n in range(12):
            await api.create(CONFIGMAPS, configmap(f"c{n}"))
        async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={version}") as watch:
            assert watch.response.status == 200
            event = await watch.next()
            assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
            assert event["object"]["message"].startswith(f"too old resource version: {version} (")
            assert await watch.wait_end() == b""
        recent = str(int(await list_version(api)) - 2)
        async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={recent}") as watch:
            assert await watch.names(2) == [("ADDED", "c10"), ("ADDED", "c11")]

    with_api(tmp_path, test)


def test_compaction_lets_old_watches_and_pages_expire(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for n in range(3):
            await api.create(CONFIGMAPS, configmap(f"c{n}"))
        page = await api.get(f"{CONFIGMAPS}?limit=1")
        await api.merge(f"{CONFIGMAPS}/c2", {"data": {"k": "new"}})
        await api.state.storage.compact(revision=api.state.storage.revision)
        code, status = await api.call("GET", f"{CONFIGMAPS}?limit=1&continue={page['metadata']['continue']}")
        assert (code, status["reason"]) == (410, "Expired")
        onward = status["metadata"]["continue"]
        rest = await api.get(f"{CONFIGMAPS}?continue={onward}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["c1", "c2"]
        exact = f"resourceVersion={page['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
        code, status = await api.call("GET", f"{CONFIGMAPS}?{exact}")
        assert (code, status["reason"]) == (410, "Expired")

    with_api(tmp_path, test)


def test_a_watch_resumes_across_a_restart_of_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        storage = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data")}
        async with api_server(tmp_path, **storage) as api:
            await api.create(CONFIGMAPS, configmap("a"))
            version = await list_version(api)
            await api.create(CONFIGMAPS, configmap("b"))
            await api.delete(f"{CONFIGMAPS}/a")
        async with api_server(tmp_path, **storage) as api, api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={version}") as watch:
            assert await watch.names(2) == [("ADDED", "b"), ("DELETED", "a")]

    asyncio.run(main())


def test_a_watch_ends_at_its_timeout_with_a_bookmark(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        async with api.watch(f"{CONFIGMAPS}?watch=1&resourceVersion=0&timeoutSeconds=1&allowWatchBookmarks=1") as watch:
            bookmark = orjson.loads(await watch.wait_end())
            assert bookmark["type"] == "BOOKMARK"
            assert bookmark["object"]["metadata"]["resourceVersion"] == await list_version(api)
        await api.create(CONFIGMAPS, configmap("after"))

    with_api(tmp_path, test)


def test_a_slow_watcher_is_cut_off_and_the_others_get_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchstream, "WATCH_UNSENT_BYTES_MAX", 256 * 1024)

    async def test(api: Api) -> None:
        version = await list_version(api)
        path = f"{CONFIGMAPS}?watch=1&resourceVersion={version}"
        cache = api.state.store("", "v1", "configmaps").cache
        async with api.watch(path) as slow, api.watch(path) as quick:
            transport = slow.response.connection.transport  # type: ignore[union-attr]  # an open response has both
            transport.pause_reading()

            async def read_quick() -> int:
                return len(await quick.names(400))

            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(read_quick())
                for n in range(400):
                    await api.create(CONFIGMAPS, configmap(f"c{n}", {"k": "x" * 50_000}))
            assert reader.result() == 400
            assert cache.watches.watcher_count == 1

    with_api(tmp_path, test)


def test_nothing_is_left_behind_by_watchers_who_leave(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        cache = api.state.store("", "v1", "configmaps").cache
        async with api.watch(f"{CONFIGMAPS}?watch=1") as watch, api.watch("/api/v1/configmaps?watch=1&labelSelector=a"):
            await api.create(CONFIGMAPS, configmap("a"))
            await watch.names(1)
            assert cache.watches.watcher_count == 2
        for _ in range(100):
            await api.get("/api/v1/namespaces/default")  # gives the server's tasks their turn
            if cache.watches.watcher_count == 0:
                break
        assert cache.watches.watcher_count == 0
        assert list(cache.watches.groups()) == []
        assert not api.state.streams

    with_api(tmp_path, test)


def test_a_stopping_server_ends_its_watches_in_good_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server(tmp_path) as api, api.watch(f"{CONFIGMAPS}?watch=1") as watch:
            for stream in tuple(api.state.streams):
                stream.end()
            assert await watch.wait_end() == b""

    asyncio.run(main())


def test_watches_serve_tables_and_bare_metadata(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        async with api.watch(f"{CONFIGMAPS}?watch=1", Accept=table) as rows, api.watch(f"{CONFIGMAPS}?watch=1", Accept=partial) as metas:
            await api.create(CONFIGMAPS, configmap("a"))
            row = (await rows.next())["object"]
            assert (row["kind"], row["rows"][0]["cells"][0]) == ("Table", "a")
            meta = (await metas.next())["object"]
            assert (meta["kind"], meta["apiVersion"], set(meta)) == (
                "PartialObjectMetadata", "meta.k8s.io/v1", {"kind", "apiVersion", "metadata"},
            )  # fmt: skip

    with_api(tmp_path, test)

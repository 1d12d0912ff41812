"""The fake apiservers: the scripted one fails loudly, the one in memory keeps what clients depend on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubecosm.api import errors
from kubecosm.api.meta import Key
from kubecosm.api.resources import CONFIGMAPS, NODES, PODS, Object
from kubecosm.client.http import ApiClient, PatchType
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.scripted import ScriptedServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_for_condition, wait_until


def pod(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


class TestScriptedServer:
    def test_an_expected_call_that_never_comes_fails_the_test(self) -> None:
        async def main() -> None:
            async with ScriptedServer() as server:
                server.expect("GET", "/api/v1/pods", {"watch": "true"})
                await server.wait_done(timeout_seconds=60)

        with pytest.raises(AssertionError, match=r"never came: GET /api/v1/pods\?watch=true"):
            run_virtual(main())

    def test_leaving_early_fails_too(self) -> None:
        async def main() -> None:
            async with ScriptedServer() as server:
                server.expect("GET", "/version")

        with pytest.raises(AssertionError, match="never came: GET /version"):
            run_virtual(main())

    def test_an_unexpected_call_fails_both_sides(self) -> None:
        async def main() -> None:
            clock = VirtualClock()
            async with ScriptedServer() as server, server.client(clock) as client:
                server.expect("GET", "/other")
                with pytest.raises(errors.InternalError, match="does not expect DELETE"):
                    await client.delete(NODES, "node-1")
                await server.wait_done()

        with pytest.raises(AssertionError, match="unexpected requests: DELETE /api/v1/nodes/node-1"):
            run_virtual(main())

    def test_of_alike_expectations_the_first_answers_first(self) -> None:
        async def main() -> None:
            async with ScriptedServer() as server, server.client(VirtualClock()) as client:
                server.expect("GET", "/x").answer(1)
                server.expect("GET", "/x").answer(2)
                assert [await client.request("GET", "/x"), await client.request("GET", "/x")] == [b"1", b"2"]
                await server.wait_done()

        run_virtual(main())


def with_memory_server(scenario: Any) -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            await scenario(server, client, clock)

    run_virtual(main())


class TestMemoryServer:
    def test_objects_live_as_clients_expect(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            created = await client.create(PODS, pod("web", spec={"nodeName": ""}))
            meta = created["metadata"]
            assert (created["kind"], meta["generation"], meta["creationTimestamp"]) == ("Pod", 1, "2026-01-02T03:04:05Z")
            with pytest.raises(errors.AlreadyExists):
                await client.create(PODS, pod("web"))
            changed = await client.update(PODS, {**created, "spec": {"nodeName": "n1"}})
            assert changed["metadata"]["generation"] == 2
            assert int(changed["metadata"]["resourceVersion"]) > int(meta["resourceVersion"])
            with pytest.raises(errors.Conflict, match="the object has been modified"):
                await client.update(PODS, created)
            await client.update(PODS, {**changed, "status": {"phase": "Running"}, "spec": {}}, subresource="status")
            found = await client.get(PODS, "web", "default")
            assert (found["spec"], found["status"]) == ({"nodeName": "n1"}, {"phase": "Running"})
            patched = await client.patch(
                PODS, "web", {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": None}}, "default", patch_type=PatchType.MERGE
            )
            assert (patched["metadata"]["labels"], patched["spec"], patched["status"]) == ({"a": "b"}, {}, {"phase": "Running"})
            gone = await client.delete(PODS, "web", "default")
            assert (gone["status"], gone["details"]["uid"]) == ("Success", meta["uid"])
            with pytest.raises(errors.NotFound, match='pods "web" not found'):
                await client.get(PODS, "web", "default")

        with_memory_server(scenario)

    def test_finalizers_hold_an_object(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            held = {"metadata": {"name": "web", "namespace": "default", "finalizers": ["x.y/z"]}}
            await client.create(PODS, held)
            terminating = await client.delete(PODS, "web", "default")
            assert terminating["metadata"]["deletionTimestamp"]
            await client.patch(PODS, "web", {"metadata": {"finalizers": None}}, "default", patch_type=PatchType.MERGE)
            assert server.list(PODS) == []

        with_memory_server(scenario)

    def test_lists_select_and_page(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            for number in range(5):
                server.create(PODS, {"metadata": {"name": f"p{number}", "namespace": "default", "labels": {"even": str(number % 2 == 0)}}})
            even = await client.list(PODS, label_selector="even=True")
            assert [item["metadata"]["name"] for item in even["items"]] == ["p0", "p2", "p4"]
            page = await client.list(PODS, "default", limit=3)
            rest = await client.list(PODS, "default", limit=3, continue_token=page["metadata"]["continue"])
            assert [item["metadata"]["name"] for item in rest["items"]] == ["p3", "p4"]
            assert "continue" not in rest["metadata"]
            assert (await client.list(PODS, "other"))["items"] == []
            await client.delete_collection(PODS, "default", label_selector="even!=True")
            assert len(server.list(PODS)) == 3

        with_memory_server(scenario)

    def test_watches_replay_select_and_end(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            start = str(server.revision)
            server.create(CONFIGMAPS, pod("other"))
            server.create(PODS, pod("web", spec={"nodeName": "n1"}))
            events = client.watch(PODS, resource_version=start, field_selector="spec.nodeName=n1", timeout_seconds=60)
            assert (await anext(events)).type == "ADDED"
            server.update(PODS, pod("web", spec={"nodeName": "n2"}))
            assert (await anext(events)).type == "DELETED"
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            assert clock.monotonic() == pytest.approx(60)
            server.compact()
            with pytest.raises(errors.Expired):
                await client.open_watch(PODS, resource_version=start)

        with_memory_server(scenario)

    def test_an_unknown_resource_is_not_found(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            with pytest.raises(errors.NotFound, match="the server could not find the requested resource"):
                await client.request("GET", "/apis/example.com/v1/widgets")

        with_memory_server(scenario)


class TestWaiting:
    def test_a_condition_is_waited_for_through_faults(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            async def later() -> None:
                await clock.sleep(5)
                server.create(PODS, pod("web"))
                server.cut_connections()
                await clock.sleep(5)
                server.update(PODS, pod("web", spec={"nodeName": "n1"}))

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(later())
                found = await wait_for_condition(
                    client, PODS, "web", lambda obj: obj is not None and obj.get("spec") == {"nodeName": "n1"}, "default"
                )
                assert found is not None
                assert clock.monotonic() == pytest.approx(10, abs=0.5)
            server.delete(PODS, Key("default", "web"))
            assert await wait_for_condition(client, PODS, "web", lambda obj: obj is None, "default") is None

        with_memory_server(scenario)

    def test_a_condition_that_never_holds_fails_with_the_last_state(self) -> None:
        async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock) -> None:
            server.create(PODS, pod("web", status={"phase": "Pending"}))
            with pytest.raises(AssertionError, match=r'(?s)Pod default/web did not reach.*"phase": "Pending"'):
                await wait_for_condition(client, PODS, "web", lambda obj: False, "default", timeout_seconds=7)
            assert clock.monotonic() == pytest.approx(7)
            with pytest.raises(AssertionError, match="not so after 3 s: the moon is full"):
                await wait_until(lambda: False, timeout_seconds=3, what="the moon is full")

        with_memory_server(scenario)

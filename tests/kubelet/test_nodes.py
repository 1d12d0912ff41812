"""Nodes: their plan, objects, heartbeats; timers and the request pipeline under them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest

from kubecosm.api.errors import NotFound
from kubecosm.client.config import ClientConfig
from kubecosm.client.connection import Answer
from kubecosm.runtime.errors import StartupError
from kubecosm.services.kubelet.nodes.addresses import NodeRanges, NodeSpec, plan_nodes
from kubecosm.services.kubelet.nodes.events import start_events
from kubecosm.services.kubelet.nodes.heartbeat import Heartbeat
from kubecosm.services.kubelet.nodes.objects import NodeShape, disputed_conditions, heartbeat_patch, node_object, node_status
from kubecosm.services.kubelet.nodes.power import Powers
from kubecosm.services.kubelet.nodes.registration import Registrar
from kubecosm.services.kubelet.nodes.watched import slim
from kubecosm.services.kubelet.pipeline import ApiPipeline, Request
from kubecosm.services.kubelet.pods.events import NODE_EVENTS_QUEUED_MAX, KubeletEvents
from kubecosm.services.kubelet.timers import Timers
from kubecosm.testing.virtualtime import EPOCH, VirtualClock, run_virtual
from tests.kubelet.served import Served

SHAPE = NodeShape(cpu="4", memory="8Gi", ephemeral_storage="10Gi", max_pods=110, port=10250, runtime_version="sim://1", zones=2)


def test_nodes_get_names_addresses_and_pod_ranges_in_order() -> None:
    nodes = plan_nodes(NodeRanges(300, "node-", "127.16.0.0/18", "127.64.0.0/15"))
    assert nodes[0] == NodeSpec(0, "node-0", "127.16.0.1", "127.64.0.0/24")
    assert nodes[299] == NodeSpec(299, "node-299", "127.16.1.44", "127.65.43.0/24")
    only = plan_nodes(NodeRanges(1, "node-", "127.16.0.0/18", "127.64.0.0/16", 2, "worker", "10.0.0.7"))
    assert only == [NodeSpec(2, "worker", "10.0.0.7", "127.64.2.0/24")]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (NodeRanges(300, "n", "127.16.0.0/24", "127.64.0.0/10"), "no room for 300 nodes"),
        (NodeRanges(3, "n", "127.16.0.0/24", "127.64.0.0/23"), "room for 2 nodes"),
        (NodeRanges(3, "n", "nonsense", "127.64.0.0/16"), "--node-cidr"),
        (NodeRanges(2, "n", "127.16.0.0/24", "127.64.0.0/16", 0, "worker"), "--nodes=1"),
    ],
    ids=["too few addresses", "too few subnets", "malformed", "one name for two"],
)
def test_wrong_ranges_are_told_at_the_start(ranges: NodeRanges, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        plan_nodes(ranges)


def test_a_node_object_says_what_a_kubelet_says() -> None:
    node = node_object(NodeSpec(1, "node-1", "127.16.0.2", "127.64.1.0/24"), SHAPE, EPOCH)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-1"
    assert node["spec"]["podCIDR"] == "127.64.1.0/24"
    status = node["status"]
    assert status["allocatable"]["memory"] == f"{8 * 1024**2 - 100 * 1024}Ki"
    assert status["allocatable"]["ephemeral-storage"] == "9Gi", "a tenth of the disk is kept back"
    assert [c["type"] for c in status["conditions"]] == ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
    assert status["conditions"][-1]["message"] == "kubelet is posting ready status"
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.0"


def test_a_heartbeat_keeps_the_transition_times() -> None:
    conditions = node_object(NodeSpec(0, "n", "ip", "cidr"), SHAPE, EPOCH)["status"]["conditions"]
    ready = heartbeat_patch(conditions, EPOCH + timedelta(hours=1))["status"]["conditions"][-1]
    assert (ready["lastTransitionTime"], ready["lastHeartbeatTime"]) == ("2026-01-02T03:04:05Z", "2026-01-02T04:04:05Z")


class ScriptedApi:
    """Stands in for the pipeline: remembers requests, answers from a small store of nodes and leases."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.seen: list[tuple[float, str, str]] = []
        self.objects: dict[str, Any] = {}

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Answer:
        self.seen.append((self.clock.monotonic(), method, path))
        return self._answer(method, path, body)

    async def batch(self, requests: list[Request]) -> list[asyncio.Future[Answer]]:
        futures = []
        for request in requests:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            future.set_result(await self.request(*request))
            futures.append(future)
        return futures

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        given = orjson.loads(body) if body else {}
        if method == "POST":
            path = f"{path}/{given['metadata']['name']}"
            if path in self.objects:
                return Answer(409, orjson.dumps({"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "exists"}))
            given["metadata"]["uid"] = f"uid-{given['metadata']['name']}"
            self.objects[path] = given
            return Answer(201, orjson.dumps(given))
        target = self.objects.get(path.removesuffix("/status"))
        if target is None:
            return Answer(404, orjson.dumps({"kind": "Status", "code": 404, "reason": "NotFound", "message": "gone"}))
        return Answer(200, orjson.dumps(target))


def heartbeats(count: int, seconds: float, prepare: Callable[[ScriptedApi], Awaitable[None]] | None = None) -> ScriptedApi:
    """What is sent while `count` nodes live for so long."""

    async def main() -> ScriptedApi:
        clock = VirtualClock()
        api: Any = ScriptedApi(clock)
        registrar = Registrar(api, clock, SHAPE, tell=lambda node, told: None)
        nodes = await registrar.register(plan_nodes(NodeRanges(count, "node-", "127.16.0.0/16", "127.64.0.0/10")))
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(Heartbeat(api, clock, SHAPE, registrar, status_seconds=300, powers=Powers()).run(nodes))
            if prepare is not None:
                await clock.sleep(15)
                await prepare(api)
            await clock.sleep(seconds)
            beating.cancel()
        return api

    return run_virtual(main())


def test_leases_are_renewed_every_ten_seconds_and_spread_over_them() -> None:
    api = heartbeats(400, 60)
    renewals = [at for at, method, path in api.seen if method == "PATCH" and "/leases/" in path]
    assert len(renewals) == pytest.approx(400 * 6, rel=0.02)
    busiest = max(sum(1 for at in renewals if start <= at < start + 1) for start in range(10, 60))
    assert busiest <= 50
    one = [at for at, method, path in api.seen if method == "PATCH" and path.endswith("/leases/node-7")]
    assert [round(after - before, 3) for before, after in pairwise(one[1:])] == [10.0] * (len(one) - 2)


def test_the_status_is_posted_every_five_minutes() -> None:
    api = heartbeats(3, 1200)
    posted = [at for at, method, path in api.seen if method == "PATCH" and path.endswith("/nodes/node-0/status")]
    assert len(posted) in (3, 4)


def test_a_lease_that_was_deleted_is_made_again() -> None:
    async def delete(api: ScriptedApi) -> None:
        api.objects = {path: obj for path, obj in api.objects.items() if "/leases/" not in path}

    api = heartbeats(2, 30, delete)
    assert sum(path.endswith("/leases/node-0") for path in api.objects) == 1


def test_a_node_that_was_deleted_stays_away_while_its_kubelet_runs_on() -> None:
    async def main() -> None:
        clock = VirtualClock()
        api: Any = ScriptedApi(clock)
        registrar = Registrar(api, clock, SHAPE, tell=lambda node, told: None)
        nodes = await registrar.register(plan_nodes(NodeRanges(2, "node-", "127.16.0.0/16", "127.64.0.0/10")))
        heartbeat = Heartbeat(api, clock, SHAPE, registrar, status_seconds=60, powers=Powers())
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(heartbeat.run(nodes))
            await clock.sleep(15)
            api.objects = {path: obj for path, obj in api.objects.items() if not path.endswith("/node-0")}
            heartbeat.node_gone("node-0")
            await clock.sleep(400)
            assert [path for path in api.objects if path.endswith("/node-0")] == []
            api.objects["/api/v1/nodes/node-0"] = {"metadata": {"name": "node-0", "uid": "another"}, "spec": {}}
            heartbeat.node_there("node-0", "another")
            await clock.sleep(20)
            lease = api.objects["/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-0"]
            assert lease["metadata"]["ownerReferences"][0]["uid"] == "another", "whoever creates it gets a node that is alive"
            beating.cancel()

    run_virtual(main())


def test_a_node_that_was_taken_for_silent_is_told_alive_with_the_next_renewal() -> None:
    async def main() -> None:
        clock = VirtualClock()
        api: Any = ScriptedApi(clock)
        told: list[str] = []
        registrar = Registrar(api, clock, SHAPE, tell=lambda node, event: told.append(f"{node} {event.reason}"))
        nodes = await registrar.register(plan_nodes(NodeRanges(2, "node-", "127.16.0.0/16", "127.64.0.0/10")))
        heartbeat = Heartbeat(api, clock, SHAPE, registrar, status_seconds=300, powers=Powers())
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(heartbeat.run(nodes))
            await clock.sleep(60)
            before, told[:] = len(api.seen), []
            node = {"status": {"conditions": [{**condition, "status": "Unknown"} for condition in nodes[0].conditions]}}
            heartbeat.node_disputed("node-0", disputed_conditions(node))
            await clock.sleep(11)
            posted = [path for _at, method, path in api.seen[before:] if method == "PATCH" and path.endswith("/status")]
            assert posted == ["/api/v1/nodes/node-0/status"]
            beating.cancel()
        assert told == [
            f"node-0 {reason}" for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady")
        ]
        assert nodes[0].conditions[-1]["lastTransitionTime"] != nodes[1].conditions[-1]["lastTransitionTime"], "when it came back"

    run_virtual(main())


def test_only_what_differs_from_a_healthy_node_is_remembered_of_its_conditions() -> None:
    node = node_object(NodeSpec(0, "n", "ip", "cidr"), SHAPE, EPOCH)
    assert "status" not in slim(node)
    node["status"]["conditions"][-1]["status"] = "Unknown"
    node["status"]["conditions"].append({"type": "Custom", "status": "False"})
    assert [condition["type"] for condition in slim(node)["status"]["conditions"]] == ["Ready"]


def test_new_images_are_told_with_the_next_renewals_but_never_by_all_nodes_at_once() -> None:
    async def main() -> list[float]:
        clock = VirtualClock()
        api: Any = ScriptedApi(clock)
        registrar = Registrar(api, clock, SHAPE, tell=lambda node, told: None)
        nodes = await registrar.register(plan_nodes(NodeRanges(400, "node-", "127.16.0.0/16", "127.64.0.0/10")))
        heartbeat = Heartbeat(
            api, clock, SHAPE, registrar, status_seconds=10_000, powers=Powers(), images=lambda node: [{"names": [node], "sizeBytes": 1}]
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(heartbeat.run(nodes))
            await clock.sleep(15)
            for _ in range(2):
                for node in nodes:
                    heartbeat.images_changed(node.spec.name)
            await clock.sleep(100)
            beating.cancel()
        return [at for at, method, path in api.seen if path.endswith("/status") and at > 15]

    posted = run_virtual(main())
    assert len(posted) == 400
    assert min(posted) < 26
    assert max(sum(1 for at in posted if start <= at < start + 10) for start in range(15, 110)) <= 210


def start_told(before: Any) -> list[str]:
    """The reasons of the events of a kubelet that starts and finds this Node."""
    status = node_status(NodeSpec(0, "node-0", "127.16.0.1", "127.64.0.0/24"), SHAPE, EPOCH)
    return [told.reason for told in start_events("node-0", before, status)]


def test_a_kubelet_that_starts_tells_so_and_how_its_node_is() -> None:
    first = ["Starting", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeAllocatableEnforced"]
    assert start_told(None) == [*first, "NodeReady"]
    known = node_object(NodeSpec(0, "node-0", "127.16.0.1", "127.64.0.0/24"), SHAPE, EPOCH)
    assert start_told(known) == first, "it was ready before"
    known["spec"]["unschedulable"] = True
    known["status"]["conditions"][-1]["status"] = "Unknown"
    known["status"]["nodeInfo"]["bootID"] = "another"
    assert start_told(known) == ["Starting", "Rebooted", *first[1:], "NodeNotSchedulable", "NodeReady"]


def test_the_events_of_a_node_have_the_kubelets_words() -> None:
    status = node_status(NodeSpec(0, "n", "127.16.0.1", "127.64.0.0/24"), SHAPE, EPOCH)
    told = {one.reason: one.message for one in start_events("n", None, status)}
    assert told["Starting"] == "Starting kubelet."
    assert told["NodeAllocatableEnforced"] == "Updated Node Allocatable limit across pods"
    assert told["NodeReady"] == "Node n status is now: NodeReady"


class RecordedWrites:
    """Stands in for the recorder: what would be written, by whom."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []

    def event(
        self, obj: Any, resource: Any, type: str, reason: str, message: str, *, field_path: str = "", host: str = ""
    ) -> None:  # fmt: skip
        self.written.append((host, reason))


def test_all_nodes_of_a_process_share_the_rate_of_events_and_pods_go_first() -> None:
    async def main() -> None:
        clock = VirtualClock()
        timers, recorder = Timers(clock), RecordedWrites()
        events = KubeletEvents(recorder, clock, timers, qps=50, burst=100)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(timers.run())
            for number in range(5000):
                events.node(f"node-{number}", "Normal", "NodeReady", "")
            assert len(recorder.written) == 100
            assert events.dropped == 5000 - 100 - NODE_EVENTS_QUEUED_MAX
            events.pod({"metadata": {}, "spec": {"nodeName": "node-4999"}}, "Normal", "Pulled", "")
            await clock.sleep(1)
            assert recorder.written[100] == ("node-4999", "Pulled")
            assert len(recorder.written) == pytest.approx(150, abs=2)
            await clock.sleep(30)
            assert len(recorder.written) == 100 + NODE_EVENTS_QUEUED_MAX + 1
            running.cancel()

    run_virtual(main())


def test_existing_nodes_are_adopted_with_their_pod_range() -> None:
    async def main() -> str:
        clock = VirtualClock()
        api: Any = ScriptedApi(clock)
        spec = NodeSpec(0, "node-0", "127.16.0.1", "127.64.0.0/24")
        existing = node_object(spec, SHAPE, EPOCH)
        existing["metadata"]["uid"] = "old"
        existing["spec"]["podCIDR"] = "127.64.77.0/24"
        api.objects["/api/v1/nodes/node-0"] = existing
        (node,) = await Registrar(api, clock, SHAPE, tell=lambda node, told: None).register([spec])
        return node.info.pod_cidr

    assert run_virtual(main()) == "127.64.77.0/24"


def test_timers_fire_in_order_and_not_when_cancelled() -> None:
    async def main() -> list[tuple[str, float]]:
        clock, fired = VirtualClock(), []
        timers = Timers(clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(timers.run())
            timers.call_later(30, lambda: fired.append(("late", clock.monotonic())))
            await clock.sleep(1)
            timers.call_later(5, lambda: fired.append(("soon", clock.monotonic())))
            timers.call_later(7, lambda: fired.append(("never", clock.monotonic()))).cancel()
            await clock.sleep(100)
            running.cancel()
        return fired

    assert run_virtual(main()) == [("soon", 6.0), ("late", 30.0)]


def test_many_cancelled_timers_are_swept_out() -> None:
    async def main() -> int:
        timers = Timers(VirtualClock())
        for _ in range(5000):
            timers.call_later(1000, lambda: None).cancel()
        return len(timers._heap)

    assert run_virtual(main()) < 3000


async def _serve(answers: Callable[[str], bytes]) -> Served:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length"))
                await reader.readexactly(length)
                writer.write(answers(lines[0]))

    served = Served()
    await served.start(handler)
    return served


def _json(code: int, body: object) -> bytes:
    data = orjson.dumps(body)
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_pipelined_requests_get_their_own_answers() -> None:
    async def main() -> None:
        def answer(line: str) -> bytes:
            path = line.split()[1]
            if path == "/chunked":
                return b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
            if path == "/missing":
                return _json(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such thing"})
            return _json(200, {"path": path})

        server = await _serve(answer)
        pipeline = ApiPipeline(ClientConfig(f"http://127.0.0.1:{server.port}"), "test", connections_max=2)
        futures = await pipeline.batch([Request("GET", f"/{number}") for number in range(50)])
        assert [(await future).object()["path"] for future in futures] == [f"/{number}" for number in range(50)]
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(pipeline.request("PATCH", f"/p{number}", b"{}")) for number in range(80)]
        assert [job.result().object()["path"] for job in jobs] == [f"/p{number}" for number in range(80)]
        assert (await pipeline.request("GET", "/chunked")).object() == {"a": 1}
        with pytest.raises(NotFound, match="no such thing"):
            (await pipeline.request("GET", "/missing")).object()
        pipeline.close()
        await server.end()

    asyncio.run(main())


def test_a_lost_connection_fails_its_requests_and_the_next_one_connects_anew() -> None:
    async def main() -> None:
        calls = 0

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            await reader.readuntil(b"\r\n\r\n")
            if calls > 1:
                writer.write(_json(200, {"ok": True}))
                await writer.drain()

        server = Served()
        await server.start(connected)
        pipeline = ApiPipeline(ClientConfig(f"http://127.0.0.1:{server.port}"), "test")
        with pytest.raises(ConnectionResetError):
            await pipeline.request("GET", "/a")
        assert (await pipeline.request("GET", "/a")).object() == {"ok": True}
        pipeline.close()
        await server.end()

    asyncio.run(main())

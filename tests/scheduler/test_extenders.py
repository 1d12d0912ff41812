"""Extenders, against a real HTTP server that speaks as one in Go would."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web

from kubecosm.api.resources import Object
from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.clock import RealClock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.tls import server_context
from kubecosm.services.scheduler.configuration import ExtenderSettings
from kubecosm.services.scheduler.extended import ExtendedCycle
from kubecosm.services.scheduler.extenders.chain import Extenders
from kubecosm.services.scheduler.extenders.client import HttpExtender, tls_of
from tests.conftest import ClusterUnderTest

from .helpers import Cluster, node, pod
from .test_on_a_cluster import Kube, k
from .test_on_a_cluster import pod as real_pod

__all__ = ["k"]

Reply = Callable[[Object], Any]


class Server:
    """Answers each verb by a function of the body, and remembers what came."""

    def __init__(self, **replies: Reply) -> None:
        self.replies = replies
        self.seen: list[tuple[str, Object]] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        verb, body = request.path.rsplit("/", 1)[-1], await request.json()
        self.seen.append((verb, body))
        if self.before is not None:
            await self.before()
        answer = self.replies[verb](body)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)

    @asynccontextmanager
    async def serve(self, tls: Any = None) -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=0.05)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/scheduler"
        try:
            yield
        finally:
            await runner.cleanup()


def run(cluster: Cluster, server: Server, *pods: Object, server_tls: Any = None, **settings: Any) -> list[str]:
    """Schedule pods one by one with one extender; where each went."""

    async def scenario() -> list[str]:
        async with server.serve(server_tls), aiohttp.ClientSession() as session:
            client = HttpExtender(ExtenderSettings(server.url, **settings), session)
            scheduler = cluster.scheduler
            scheduler.extended = ExtendedCycle(scheduler, Extenders([client], scheduler.cluster.nodes))
            return [await attempt(cluster, one) for one in pods]

    return asyncio.run(scenario())


async def attempt(cluster: Cluster, one: Object) -> str:
    cluster.add(one)
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = await cluster.scheduler._decide(queued)
    if binding is not None:
        await binding
    while cluster.work:
        await cluster.work.pop(0)[1]
    return cluster.api.bound.get(queued.info.key, "")


def only(name: str) -> Reply:
    """A filter that keeps one node."""

    def reply(body: Object) -> Object:
        names = body["NodeNames"] or [n["metadata"]["name"] for n in body["Nodes"]["items"]]
        failed = {other: "not this one" for other in names if other != name}
        return {"NodeNames": [name], "FailedNodes": failed} if body["NodeNames"] else {
            "Nodes": {"items": [n for n in body["Nodes"]["items"] if n["metadata"]["name"] == name]}, "FailedNodes": failed,
        }  # fmt: skip

    return reply


@pytest.mark.parametrize("caches", [True, False], ids=["names", "whole nodes"])
def test_an_extender_filters_nodes(caches: bool) -> None:
    server = Server(filter=only("b"))
    cluster = Cluster(node("a"), node("b"), node("c", unschedulable=True))
    assert run(cluster, server, pod("p"), filter_verb="filter", node_cache_capable=caches) == ["b"]
    [(_, body)] = server.seen
    assert body["Pod"]["metadata"]["name"] == "p"
    if caches:
        assert (body["NodeNames"], body["Nodes"]) == (["a", "b"], None)
    else:
        assert [(n["kind"], n["metadata"]["name"]) for n in body["Nodes"]["items"]] == [("Node", "a"), ("Node", "b")]
        assert body["NodeNames"] is None


def test_what_an_extender_refuses_is_told_with_its_reasons() -> None:
    server = Server(filter=lambda body: {
        "nodenames": [], "failedNodes": {"a": "no licence"}, "FailedAndUnresolvableNodes": {"b": "no dongle"}, "Error": "",
    })  # fmt: skip
    cluster = Cluster(node("a"), node("b"))
    assert run(cluster, server, pod("p"), filter_verb="filter", node_cache_capable=True) == [""]
    assert cluster.message("default/p").startswith("0/2 nodes are available: 1 no dongle, 1 no licence.")
    [waiting] = cluster.scheduler.queue.unschedulable
    assert waiting.unschedulable_plugins == {"Extender"}
    cluster.handlers.node_updated(node("a"), node("a", labels={"any": "event"}))
    assert len(cluster.scheduler.queue.unschedulable) == 0


def test_an_extenders_scores_count_tenfold_by_weight() -> None:
    server = Server(prioritize=lambda body: [{"Host": "small", "Score": 10}, {"Host": "large", "Score": 0}])
    cluster = Cluster(node("small", cpu="2"), node("large", cpu="64"))
    wanted = pod("p", cpu="1", memory="1Gi")
    assert run(cluster, server, wanted, prioritize_verb="prioritize", weight=5, node_cache_capable=True) == ["small"]
    decision = cluster.scheduler.decisions.get("default/p")
    assert decision is not None
    assert decision.explain()["nodes"][0]["scores"]["Extender"] == 500


def test_an_extender_that_cannot_score_is_passed_over() -> None:
    server = Server(prioritize=lambda body: web.Response(status=500))
    assert run(Cluster(node("a"), node("b", unschedulable=False)), server, pod("p"), prioritize_verb="prioritize", weight=1) != [""]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (lambda body: web.Response(status=503), "failed filter with extender at URL http://127.0.0.1"),
        (lambda body: {"Error": "out of order"}, "out of order"),
        (lambda body: {"NodeNames": ["elsewhere"]}, 'claims a filtered node "elsewhere" which is not found in the input node list'),
        (lambda body: web.Response(text="hello"), "answered what is no JSON"),
        (lambda body: [1], "gave an answer of the wrong form"),
    ],
    ids=["status", "error", "stranger", "no JSON", "a list"],
)
def test_a_failing_extender_is_an_error_unless_it_can_be_ignored(reply: Reply, why: str) -> None:
    cluster = Cluster(node("a"), node("b"))
    assert run(cluster, Server(filter=reply), pod("p"), filter_verb="filter", node_cache_capable=True) == [""]
    assert why in cluster.message("default/p")
    [error] = [patch["conditions"][0] for _, patch in cluster.api.patches]
    assert error["reason"] == "SchedulerError"
    other = Cluster(node("a"), node("b"))
    [placed] = run(other, Server(filter=reply), pod("p"), filter_verb="filter", node_cache_capable=True, ignorable=True)
    assert placed in ("a", "b")


def test_an_extender_that_does_not_answer_in_time_is_an_error() -> None:
    server = Server(filter=only("a"))

    async def never() -> None:
        await asyncio.Event().wait()

    server.before = never
    cluster = Cluster(node("a"))
    assert run(cluster, server, pod("p"), filter_verb="filter", http_timeout_seconds=0.05) == [""]
    assert "context deadline exceeded" in cluster.message("default/p")


def test_only_pods_with_managed_resources_concern_an_extender() -> None:
    server = Server(filter=only("b"))
    cluster = Cluster(*(node(name, extended={"example.com/gpu": "4"}) for name in ("a", "b")))
    asking = pod("asking", requests={"example.com/gpu": "1"})
    placed = run(cluster, server, asking, pod("other"), filter_verb="filter", managed_resources=("example.com/gpu",))
    assert placed[0] == "b"
    assert [body["Pod"]["metadata"]["name"] for _, body in server.seen] == ["asking"]


def test_an_extender_binds_instead_of_the_scheduler() -> None:
    server = Server(bind=lambda body: {"Error": ""})
    cluster = Cluster(node("a"))
    assert run(cluster, server, pod("p"), bind_verb="bind") == [""]
    assert server.seen == [("bind", {"PodName": "p", "PodNamespace": "default", "PodUID": "uid-default-p", "Node": "a"})]
    assert ("default/p", "Normal", "Scheduled", "Successfully assigned default/p to a") in cluster.api.events


def test_a_binding_that_an_extender_fails_gives_the_room_back() -> None:
    cluster = Cluster(node("a", cpu="1"))
    run(cluster, Server(bind=lambda body: {"Error": "not today"}), pod("p", cpu="1"), bind_verb="bind")
    assert cluster.message("default/p") == "not today"
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == [0]


@pytest.mark.parametrize("caches", [True, False], ids=["uids", "whole pods"])
def test_an_extender_may_change_the_victims(caches: bool) -> None:
    def choose(body: Object) -> Object:
        told = body["NodeNameToMetaVictims"] or body["NodeNameToVictims"]
        assert set(told) == {"a", "b"}
        return {"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "uid-default-low-b"}], "NumPDBViolations": 0}}}

    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1"))
    cluster.add(pod("low-a", cpu="1", node_name="a"), pod("low-b", cpu="1", node_name="b", priority=5))
    server = Server(preempt=choose)
    run(cluster, server, pod("high", cpu="1", priority=10), preempt_verb="preempt", node_cache_capable=caches)
    assert cluster.api.deleted == ["default/low-b"]
    [(_, body)] = server.seen
    if not caches:
        assert body["NodeNameToVictims"]["a"]["Pods"][0]["metadata"]["name"] == "low-a"


def test_an_extender_may_forbid_preemption() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    run(cluster, Server(preempt=lambda body: {}), pod("high", cpu="1", priority=10), preempt_verb="preempt")
    assert cluster.api.deleted == []
    assert cluster.message("default/high").endswith("1 Insufficient cpu. preemption: no candidate node for preemption")


def test_an_extender_that_refuses_the_nominated_node_is_asked_about_the_others() -> None:
    cluster = Cluster(node("a"), node("b"), node("c"))
    server = Server(filter=lambda body: {"NodeNames": [name for name in body["NodeNames"] if name == "c"]})
    nominated = pod("p", status={"nominatedNodeName": "b"})
    assert run(cluster, server, nominated, pod("q"), filter_verb="filter", node_cache_capable=True) == ["c", "c"]
    assert [body["NodeNames"] for _, body in server.seen] == [["b"], ["a", "b", "c"], ["a", "b", "c"]]


def test_a_victim_that_is_not_there_is_an_error() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    server = Server(preempt=lambda body: {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "ghost"}]}}})
    run(cluster, server, pod("high", cpu="1", priority=10), preempt_verb="preempt")
    told = cluster.message("default/high")
    assert told.startswith("0/1 nodes are available: 1 Insufficient cpu. preemption: extender: ")
    assert told.endswith(" claims to preempt pod (UID: ghost) on node: a, but the pod is not found on that node")
    assert len(cluster.scheduler.queue.unschedulable) == 1


# ---- the world goes on meanwhile


def test_a_node_that_goes_while_an_extender_thinks_is_not_chosen() -> None:
    cluster = Cluster(node("a"), node("b"))
    server = Server(filter=lambda body: {"NodeNames": body["NodeNames"]})

    async def lose_a() -> None:
        cluster.handlers.node_deleted(node("a"))

    server.before = lose_a
    assert run(cluster, server, pod("p"), filter_verb="filter", node_cache_capable=True) == ["b"]


def test_a_pod_that_goes_while_an_extender_thinks_is_not_bound() -> None:
    cluster = Cluster(node("a"))
    server, going = Server(filter=only("a")), pod("p")

    async def delete() -> None:
        cluster.handlers.pod_deleted(going)

    server.before = delete
    assert run(cluster, server, going, filter_verb="filter", node_cache_capable=True) == [""]
    assert cluster.scheduler.cluster.pod_count == 0


def test_a_pod_that_changes_while_an_extender_thinks_is_tried_once() -> None:
    cluster = Cluster(node("a"))
    server, old = Server(filter=only("a")), pod("p")

    async def relabel() -> None:
        cluster.handlers.pod_updated(old, pod("p", labels={"new": "label"}))

    server.before = relabel
    assert run(cluster, server, old, filter_verb="filter", node_cache_capable=True) == ["a"]
    assert cluster.scheduler.queue.pop() is None


def test_events_while_an_extender_thinks_are_not_lost() -> None:
    cluster = Cluster(node("a"))
    server = Server(filter=lambda body: {"NodeNames": [], "FailedNodes": {"a": "full"}})

    async def add_node() -> None:
        cluster.handlers.node_added(node("b"))

    server.before = add_node
    assert run(cluster, server, pod("p"), filter_verb="filter", node_cache_capable=True) == [""]
    assert (len(cluster.scheduler.queue.unschedulable), len(cluster.scheduler.queue.backoff)) == (0, 1)


# ---- TLS


def test_an_extender_is_reached_over_tls_with_a_client_certificate(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    pki.ensure(paths, ClusterSpec("test", 0, Slots(0), nodes=1), RealClock())
    tls = server_context(paths.cert(pki.KUBELET), paths.key(pki.KUBELET), client_ca=paths.cert(pki.CA))
    files = {"caFile": str(paths.cert(pki.CA)), "certFile": str(paths.cert(pki.ADMIN)), "keyFile": str(paths.key(pki.ADMIN))}
    data = {
        name.replace("File", "Data"): base64.b64encode(Path(path).read_bytes()).decode() for name, path in files.items()
    }  # fmt: skip
    for config in (files, data):
        server = Server(filter=only("a"))
        placed = run(Cluster(node("a")), server, pod("p"), server_tls=tls, filter_verb="filter", enable_https=True, tls=config)
        assert placed == ["a"]


def test_tls_files_that_are_not_there_are_told_at_start() -> None:
    with pytest.raises(StartupError, match=r"extender https://x: cannot use its tlsConfig: .*No such file"):
        tls_of(ExtenderSettings("https://x", enable_https=True, tls={"caFile": "/no/such/file"}))


# ---- in a process of its own


class Handler(BaseHTTPRequestHandler):
    """An extender as one writes it in an afternoon: keeps node-1, likes it, and takes note of the bodies."""

    bodies: ClassVar[list[Object]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        kept = [n for n in body["Nodes"]["items"] if n["metadata"]["name"] != "node-0"]
        answer: Any = {"Nodes": {"items": kept}, "FailedNodes": {"node-0": "node(s) displease the extender"}}
        if self.path.endswith("/prioritize"):
            answer = [{"Host": n["metadata"]["name"], "Score": 10 if n["metadata"]["name"] == "node-1" else 0} for n in kept]
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def extender() -> Iterator[str]:
    """The URL of a running extender."""
    Handler.bodies.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/scheduler"
        server.shutdown()
        thread.join()


@pytest.mark.process
def test_schedulers_with_an_extender_and_a_common_lease_work_one_at_a_time(
    k: Kube, cluster: ClusterUnderTest, extender: str, tmp_path: Path
) -> None:
    document = {
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
        "leaderElection": {
            "leaderElect": True, "resourceName": k.namespace, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "200ms",
        },
        "profiles": [{"schedulerName": "extended"}],
        "extenders": [{
            "urlPrefix": extender, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 100, "httpTimeout": "2s",
        }],
    }  # fmt: skip
    path = tmp_path / "extended.json"
    path.write_text(json.dumps(document))
    command = [sys.executable, "-m", "kubecosm.services.scheduler", f"--config={path}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as one, subprocess.Popen(command, stderr=subprocess.DEVNULL) as other:
        try:
            k.apply(real_pod("first", schedulerName="extended"))
            assert k.wait_scheduled("first") == ["node-1"]
            sent = Handler.bodies[0]
            assert sent["Pod"]["metadata"]["name"] == "first"
            assert "nodeInfo" in sent["Nodes"]["items"][0]["status"], "extenders are sent whole nodes"
            k.apply(*(real_pod(f"p-{index}", schedulerName="extended") for index in range(5)))
            assert k.wait_scheduled(*(f"p-{index}" for index in range(5))) == ["node-1"] * 5
            asked = [body["Pod"]["metadata"]["name"] for body in Handler.bodies]
            assert sorted(asked) == sorted(2 * ["first", *(f"p-{index}" for index in range(5))]), "each pod was tried by one of them"
        finally:
            for process in (one, other):
                process.terminate()
        assert [one.wait(10), other.wait(10)] == [0, 0]

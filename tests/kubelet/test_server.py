"""The kubelet's API over TLS: who gets in, what it answers, and what rubbish does to it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from kubecosm.api.errors import ServiceUnavailable
from kubecosm.api.resources import Object, Resource
from kubecosm.client.http import ApiClient
from kubecosm.cluster import pki
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.runtime.health import HealthEndpoints
from kubecosm.runtime.metrics import Metrics
from kubecosm.runtime.tls import client_context, server_context
from kubecosm.services.kubelet.cri.cadvisor import Machine
from kubecosm.services.kubelet.pods.worker import PodWorker
from kubecosm.services.kubelet.server.delegation import DelegatedGate
from kubecosm.services.kubelet.server.routes import Routes
from kubecosm.services.kubelet.server.server import KubeletServer
from tests.kubelet.lab import NODE, Lab, container, make_pod, open_lab, shell


class Pods:
    """The workers of a lab, as the API asks for them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def workers(self) -> list[PodWorker]:
        return list(self._lab.workers.values())

    def find(self, namespace: str, name: str, uid: str = "") -> PodWorker | None:
        return next((w for w in self.workers() if w.pod["metadata"]["name"] == name), None)


class Caller:
    """Speaks HTTP/1.1 to the kubelet with one certificate."""

    def __init__(self, paths: ClusterPaths, port: int, identity: str) -> None:
        cert, key = (paths.cert(identity), paths.key(identity)) if identity else (None, None)
        self._tls: ssl.SSLContext = client_context(paths.cert(pki.CA), cert, key)
        self._port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname="127.0.0.1")

    async def send(self, data: bytes) -> bytes:
        """Everything that comes back for these bytes."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            async with asyncio.timeout(5):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    async def call(self, target: str, method: str = "GET", headers: str = "") -> tuple[int, str]:
        answer = await self.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode(errors="replace")


Story = Callable[[Lab, Callable[[str], Caller]], Awaitable[None]]


def with_server(paths: ClusterPaths, story: Story) -> None:
    """Run a story with a lab and the kubelet's API in front of it; callers by the name of their certificate (empty: none)."""

    async def main() -> None:
        async with open_lab() as lab:
            routes = Routes(
                pods=Pods(lab),  # type: ignore[arg-type]
                runtime_of=lambda pod: lab.runtime, nodes={NODE.name: NODE}, clock=lab.clock, health=HealthEndpoints(Metrics()),
                usage_of=lambda node: list(filter(None, map(lab.runtime.usage, lab.workers))), machine=Machine(4, 2**30),
                is_pod_address=lab.runtime.has_address,
            )  # fmt: skip
            tls = server_context(paths.cert(pki.KUBELET), paths.key(pki.KUBELET), client_ca=paths.cert(pki.CA))
            gate = DelegatedGate(
                cast(ApiClient, REVIEWS), lab.clock, lambda _ip: NODE.name, token_seconds=120.0, allowed_seconds=300.0, refused_seconds=30.0
            )
            server = KubeletServer(routes, tls, gate)
            port = await server.start("127.0.0.1", 0)
            try:
                await story(lab, lambda identity: Caller(paths, port, identity))
            finally:
                server.close()

    asyncio.run(main())


class Reviews:
    """The API server's side: the token `scraper` is that of a scraper, who may read metrics; system:kube-proxy may nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_gone = False

    async def create(self, resource: Resource, review: Object) -> Object:
        if self.is_gone:
            raise ServiceUnavailable("gone")
        spec = review["spec"]
        self.asked.append(resource.kind)
        if resource.kind == "TokenReview":
            is_known = spec["token"] == "scraper"
            return {"status": {"authenticated": is_known, **({"user": {"username": "scraper", "groups": ["g"]}} if is_known else {})}}
        wanted = spec["resourceAttributes"]
        assert (wanted["resource"], wanted["name"]) == ("nodes", NODE.name)
        may = {("scraper", "get", "metrics"), ("reader", "get", "pods")}
        return {"status": {"allowed": (spec["user"], wanted["verb"], wanted["subresource"]) in may}}


REVIEWS = Reviews()


@pytest.fixture(autouse=True)
def _fresh_reviews() -> None:
    REVIEWS.__init__()  # type: ignore[misc]


def test_the_api_server_says_who_a_caller_is_and_what_he_may(certificates: ClusterPaths) -> None:
    async def story(lab: Lab, caller: Callable[[str], Caller]) -> None:
        assert await caller("").call("/healthz") == (200, "ok")
        assert (await caller("").call("/pods"))[0] == 401
        refused = "Forbidden (user=system:kube-proxy, verb=create, resource=nodes, subresource(s)=[proxy])\n"
        assert await caller("proxy").call("/exec/default/web/c?command=id", "POST") == (403, refused)
        assert (await caller("proxy").call("/metrics"))[0] == 403
        assert (await caller("kubelet-client").call("/pods"))[0] == 403  # another kubelet
        assert (await caller("admin").call("/pods"))[0] == 200
        token, nobodys = "Authorization: Bearer scraper\r\n", "Authorization: Bearer other\r\n"
        assert (await caller("").call("/metrics", headers=nobodys))[0] == 401
        REVIEWS.asked.clear()
        assert [(await caller("").call("/metrics", headers=token))[0] for _ in range(3)] == [200] * 3
        assert REVIEWS.asked == ["TokenReview", "SubjectAccessReview"]
        code, text = await caller("").call("/pods", headers=token)
        assert (code, text) == (403, "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n")
        REVIEWS.is_gone = True
        assert (await caller("").call("/metrics", headers=token))[0] == 200  # remembered
        assert (await caller("").call("/stats/summary", headers=token))[0] == 500

    with_server(certificates, story)


def test_pods_logs_and_statistics_are_told(certificates: ClusterPaths) -> None:
    async def story(lab: Lab, caller: Callable[[str], Caller]) -> None:
        lab.run(make_pod(shell("echo one; echo two; sleep 1000")))
        await lab.until_phase("Running")
        admin = caller("admin")
        pods: Object = json.loads((await admin.call("/pods"))[1])
        assert [item["metadata"]["name"] for item in pods["items"]] == ["web"]
        code, body = await admin.call("/containerLogs/default/web/c?tailLines=1")
        assert (code, "two\n" in body, "one" in body) == (200, True, False)
        assert await admin.call("/containerLogs/default/web/c?tailLines=x") == (400, "invalid tailLines: 'x' is not a number\n")
        assert await admin.call("/containerLogs/default/gone/c") == (404, 'pod "gone" not found\n')
        assert (await admin.call("/containerLogs/default/web/c?previous=true"))[0] == 400
        usage: Object = json.loads((await admin.call("/stats/summary"))[1])
        assert usage["pods"][0]["podRef"]["name"] == "web"
        assert (
            'container_memory_working_set_bytes{container="c",namespace="default",pod="web"}' in (await admin.call("/metrics/resource"))[1]
        )

        told = (await admin.call("/metrics/cadvisor"))[1]
        assert "machine_cpu_cores 4\nmachine_memory_bytes" in told.replace("# TYPE machine_memory_bytes gauge\n", "")
        of_container = [line for line in told.splitlines() if 'container="c"' in line and 'image=""' not in line]
        assert {line.split("{")[0] for line in of_container} == {
            "container_cpu_usage_seconds_total", "container_last_seen", "container_memory_rss", "container_memory_usage_bytes",
            "container_memory_working_set_bytes", "container_start_time_seconds",
        }  # fmt: skip
        of_pod = [line for line in told.splitlines() if 'container=""' in line and 'pod="web"' in line]
        assert len(of_pod) == len(of_container)

    with_server(certificates, story)


def test_exec_needs_an_upgrade_a_command_and_a_stream(certificates: ClusterPaths) -> None:
    async def story(lab: Lab, caller: Callable[[str], Caller]) -> None:
        lab.run(make_pod(container()))
        await lab.until_phase("Running")
        admin = caller("admin")
        assert await admin.call("/exec/default/web/c?command=id&output=1", "POST") == (
            400,
            "unable to upgrade: missing upgrade headers in request\n",
        )
        assert (await admin.call("/exec/default/web/c?output=1", "POST"))[1] == "you must specify at least 1 command for the container\n"
        assert (await admin.call("/exec/default/web/c?command=id", "POST"))[1] == "you must specify at least 1 of stdin, stdout, stderr\n"
        assert await admin.call("/exec/default/web/nope?command=id&output=1", "POST") == (404, 'container not found ("nope")\n')
        code, body = await admin.call("/run/default/web/c?cmd=hostname", "POST")
        assert (code, body) == (200, "web\n")

    with_server(certificates, story)


def test_connect_tunnels_to_pods_and_to_nothing_else(certificates: ClusterPaths) -> None:
    async def story(lab: Lab, caller: Callable[[str], Caller]) -> None:
        lab.run(make_pod(container(ports=[{"containerPort": 18099}])))
        await lab.until_phase("Running")
        proxy = caller("proxy")
        reader, writer = await proxy.connect()
        writer.write(f"CONNECT {lab.status()['podIP']}:18099 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"X-Pod-Name: web" in await reader.read()
        writer.transport.abort()
        assert (await proxy.call("127.0.0.1:22", "CONNECT"))[0] == 403
        assert (await proxy.call(f"{lab.status()['podIP']}:1", "CONNECT"))[0] == 502

    with_server(certificates, story)


EXEC = b"/exec/default/web/c?command=id&output=1 HTTP/1.1\r\n"
RUBBISH = (
    b"\r\n\r\n", b"GET\r\n\r\n", b"\x00\xff" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"POST /exec HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"CONNECT nonsense HTTP/1.1\r\n\r\n", b"GET /%ff%fe/../.. HTTP/1.1\r\n\r\n",
    b"POST " + EXEC + b"Upgrade: SPDY/3.1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
    b"GET " + EXEC + b"Upgrade: websocket\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n\x00\x00\x00",
)  # fmt: skip


def test_rubbish_costs_the_caller_its_connection_and_nobody_else(certificates: ClusterPaths) -> None:
    async def story(lab: Lab, caller: Callable[[str], Caller]) -> None:
        lab.run(make_pod(container()))
        await lab.until_phase("Running")
        for data in RUBBISH:
            await caller("admin").send(data + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert await caller("admin").call("/healthz") == (200, "ok")

    with_server(certificates, story)


def test_a_port_in_use_is_told_in_one_line(certificates: ClusterPaths, tmp_path: Path) -> None:
    from kubecosm.runtime.errors import StartupError
    from kubecosm.services.kubelet.server.server import listening_socket

    with (
        listening_socket("127.0.0.1", 0) as held,
        pytest.raises(StartupError, match="the port is in use; stop the other program or use --port=0"),
    ):
        listening_socket("127.0.0.1", held.getsockname()[1])

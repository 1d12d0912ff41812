"""The paths of the kubelet's API (pkg/kubelet/server/server.go)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import orjson
from multidict import MultiDict

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.health import HealthEndpoints

from ..cri.cadvisor import Machine, cadvisor_metrics
from ..cri.logs import LogOptions
from ..cri.runtime import Runtime
from ..cri.stats import PodUsage, resource_metrics, summary
from ..cri.streams import ProcessStreams
from ..cri.types import NodeInfo, RuntimeFailure
from ..network.http1 import Request
from ..nodes.shutdown import NodeShutdown
from ..pods.hooks import run_exec
from ..pods.manager import PodManager
from ..pods.worker import PodWorker
from ..streaming import portforward, remotecommand
from ..streaming.bytechannel import SocketChannel, relay
from ..streaming.channels import ChannelSocket
from ..streaming.spdy_session import SpdySession
from ..streaming.websocket import WebSocket, WebSocketChannel, accept_key, choose_protocol
from .logs import BadOptions, container_id_for, parse_options
from .server import Exchange

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
STREAM_TEXT = "text/plain"

UsageOf = Callable[[str], list[PodUsage]]
"""What the pods of a node use; an empty name means all nodes."""


class NoSuchPod(LookupError):
    """404: the pod or container is not on this kubelet; the message is for the client."""


class Routes:
    """Handles every request of the kubelet's API."""

    def __init__(
        self, *, pods: PodManager, runtime_of: Callable[[Object], Runtime], nodes: Mapping[str, NodeInfo], clock: Clock,
        health: HealthEndpoints,
        usage_of: UsageOf, machine: Machine, is_pod_address: Callable[[str], bool], shutdown: NodeShutdown | None = None,
        probes_of: Callable[[str], str] | None = None, configuration: Callable[[], Object] | None = None,
    ) -> None:  # fmt: skip
        self._pods = pods
        self._runtime_of = runtime_of
        self._nodes = nodes
        self._clock = clock
        self._health = health
        self._usage_of = usage_of
        self._machine = machine
        self._is_pod_address = is_pod_address
        self._shutdown = shutdown
        self._probes_of, self._configuration = probes_of, configuration
        self._started_at = clock.now()

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "CONNECT":
            await self._connect(exchange)
            return
        parts = [part for part in request.path.split("/") if part]
        try:
            await self._dispatch(exchange, parts)
        except NoSuchPod as missing:
            await exchange.answer(404, f"{missing}\n".encode())
        except BadOptions as bad:
            await exchange.answer(400, f"{bad}\n".encode())
        except RuntimeFailure as failure:
            await exchange.answer(500, f"{failure.message}\n".encode())

    async def _dispatch(self, exchange: Exchange, parts: list[str]) -> None:
        match parts:
            case ["containerLogs", namespace, pod, container]:
                await self._logs(exchange, namespace, pod, container)
            case ["exec" | "attach" as verb, namespace, pod, container]:
                await self._exec(exchange, self._worker(namespace, pod), container, attach=verb == "attach")
            case ["exec" | "attach" as verb, namespace, pod, uid, container]:
                await self._exec(exchange, self._worker(namespace, pod, uid), container, attach=verb == "attach")
            case ["portForward", namespace, pod]:
                await self._port_forward(exchange, self._worker(namespace, pod))
            case ["portForward", namespace, pod, uid]:
                await self._port_forward(exchange, self._worker(namespace, pod, uid))
            case ["run", namespace, pod, container] if exchange.request.method == "POST":
                await self._run(exchange, self._worker(namespace, pod), container)
            case ["power"] if exchange.request.method == "POST" and self._shutdown is not None:
                await self._power(exchange, self._shutdown)
            case _ if exchange.request.method in ("GET", "HEAD"):
                await self._read(exchange, parts)
            case _:
                await exchange.answer(404, b"404 page not found\n")

    async def _read(self, exchange: Exchange, parts: list[str]) -> None:
        node = self._asked_node(exchange)
        match parts:
            case ["pods"] | ["runningpods"]:
                items = [worker.pod for worker in self._pods.workers() if not node or worker.node.name == node]
                body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
                await exchange.answer(200, orjson.dumps(body), JSON)
            case ["stats", "summary"] | ["stats"]:
                body = summary(node, self._usage_of(node), self._clock.now(), self._started_at, self._machine.memory_bytes)
                await exchange.answer(200, orjson.dumps(body), JSON)
            case ["metrics", "resource"]:
                text = resource_metrics(self._usage_of(node), self._clock.now())
                await exchange.answer(200, text.encode(), PROMETHEUS)
            case ["metrics", "cadvisor"]:
                text = cadvisor_metrics(self._usage_of(node), self._machine, self._clock.now())
                await exchange.answer(200, text.encode(), PROMETHEUS)
            case ["metrics", "probes"] if self._probes_of is not None:
                await exchange.answer(200, self._probes_of(node).encode(), PROMETHEUS)
            case ["configz"] if self._configuration is not None:
                await exchange.answer(200, orjson.dumps({"kubeletconfig": self._configuration()}), JSON)
            case _:
                request = exchange.request
                answer = await self._health.answer(request.path, MultiDict(request.query), request.headers.get("accept", ""))
                if answer is None:
                    await exchange.answer(404, b"404 page not found\n")
                else:
                    await exchange.answer(answer.status, answer.body, answer.content_type)

    async def _power(self, exchange: Exchange, shutdown: NodeShutdown) -> None:
        """`?state=`: `shutdown` gracefully, `off` at once, `on` again; `&node=`: of another of this process. Ours."""
        query = dict(exchange.request.query)
        node, state = query.get("node") or self._asked_node(exchange), query.get("state", "")
        if node and node not in self._nodes:
            raise BadOptions(f"node {node} is not run by this kubelet")
        if not node:
            raise BadOptions("this is not the address of a node")
        if state not in ("shutdown", "off", "on"):
            raise BadOptions("state must be shutdown, off or on")
        told = shutdown.switch_on(node) if state == "on" else shutdown.begin(node, at_once=state == "off")
        await exchange.answer(200, f"{told}\n".encode(), TEXT)

    def _asked_node(self, exchange: Exchange) -> str:
        """The node whose address was called; empty for an address that is no node's (all nodes are meant)."""
        return next((node.name for node in self._nodes.values() if node.ip == exchange.node_ip), "")

    def _worker(self, namespace: str, name: str, uid: str = "") -> PodWorker:
        worker = self._pods.find(namespace, name, uid)
        if worker is None:
            raise NoSuchPod(f'pod "{name}" not found')
        return worker

    def _container_id(self, worker: PodWorker, container: str) -> str:
        status = self._runtime_of(worker.pod).pod_status(worker.uid)
        current = status.containers.get(container) if status is not None else None
        if current is None:
            raise NoSuchPod(f'container not found ("{container}")')
        return current.container_id

    # -- logs --------------------------------------------------------------------------------------------------------

    async def _logs(self, exchange: Exchange, namespace: str, name: str, container: str) -> None:
        worker = self._worker(namespace, name)
        options = parse_options(exchange.request.query, self._clock.now())
        runtime = self._runtime_of(worker.pod)
        container_id = container_id_for(worker.pod, runtime.pod_status(worker.uid), container, previous=options.previous)
        await exchange.start_chunks(STREAM_TEXT)
        await self._send_logs(exchange, runtime, container_id, options)
        await exchange.end_chunks()

    async def _send_logs(self, exchange: Exchange, runtime: Runtime, container_id: str, options: LogOptions) -> None:
        """Send the log; while following, notice that the client has gone."""

        async def send() -> None:
            async for data in runtime.logs(container_id, options):
                await exchange.chunk(data)

        async def gone() -> None:
            await exchange.reader.read(1)

        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(_quiet(send()), name="logs-send"), tasks.create_task(_quiet(gone()), name="logs-client")]
            await asyncio.wait(jobs if options.follow else jobs[:1], return_when=asyncio.FIRST_COMPLETED)
            if options.follow:
                exchange.keep_alive = exchange.keep_alive and jobs[0].done()
            for job in jobs:
                job.cancel()

    # -- exec and attach ---------------------------------------------------------------------------------------------

    async def _exec(self, exchange: Exchange, worker: PodWorker, container: str, *, attach: bool) -> None:
        request = exchange.request
        container_id = self._container_id(worker, container)
        runtime = self._runtime_of(worker.pod)
        command = [value for name, value in request.query if name == "command"]
        options = remotecommand.StreamOptions.of(request.query)
        if not attach and not command:
            raise BadOptions("you must specify at least 1 command for the container")
        if not (options.stdin or options.stdout or options.stderr):
            raise BadOptions("you must specify at least 1 of stdin, stdout, stderr")

        async def run(streams: ProcessStreams) -> int:
            if attach:
                return await runtime.attach(container_id, streams)
            return await runtime.exec(container_id, command, streams)

        if _is_websocket(request):
            protocol = choose_protocol(request.headers.get("sec-websocket-protocol", "channel.k8s.io"), remotecommand.WEBSOCKET_PROTOCOLS)
            if protocol is None:
                raise BadOptions("no supported WebSocket subprotocol")
            socket = WebSocket(await _upgrade_websocket(exchange, protocol))
            client = remotecommand.WebSocketClient(ChannelSocket(socket, protocol), protocol)
            await client.start(options)
            await remotecommand.serve(client, options, run)
        elif request.headers.get("upgrade", "").lower() == "spdy/3.1":
            await self._exec_spdy(exchange, options, run)
        else:
            raise BadOptions("unable to upgrade: missing upgrade headers in request")

    async def _exec_spdy(self, exchange: Exchange, options: remotecommand.StreamOptions, run: remotecommand.RunProcess) -> None:
        protocol = choose_protocol(
            exchange.request.headers.get("x-stream-protocol-version", "channel.k8s.io"), remotecommand.SPDY_PROTOCOLS
        )
        if protocol is None:
            exchange.keep_alive = False
            await exchange.answer(403, b"unable to upgrade: unable to negotiate protocol\n")
            return
        channel = await exchange.upgrade({"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol})
        session = SpdySession(channel)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(session.run(), name="spdy-session")
            client = remotecommand.SpdyClient(session)
            if await client.start(options):
                await remotecommand.serve(client, options, run)
            reader.cancel()

    async def _run(self, exchange: Exchange, worker: PodWorker, container: str) -> None:
        """Run one command and answer its output (the kubelet's debugging handler)."""
        command = dict(exchange.request.query).get("cmd", "").split()
        _, output = await run_exec(self._runtime_of(worker.pod), self._container_id(worker, container), command)
        await exchange.answer(200, output.encode(), TEXT)

    # -- port-forward and CONNECT ------------------------------------------------------------------------------------

    async def _port_forward(self, exchange: Exchange, worker: PodWorker) -> None:
        runtime, request = self._runtime_of(worker.pod), exchange.request
        status = runtime.pod_status(worker.uid)
        if status is None or not status.ip:
            raise NoSuchPod(f'pod "{worker.pod["metadata"]["name"]}" has no address')
        ip, name = status.ip, worker.pod["metadata"]["name"]

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await runtime.dial(ip, port)

        if _is_websocket(request):
            offered = request.headers.get("sec-websocket-protocol", portforward.WEBSOCKET_PROTOCOLS[0])
            protocol = choose_protocol(offered, (portforward.TUNNEL_PROTOCOL, *portforward.WEBSOCKET_PROTOCOLS))
            if protocol is None:
                raise BadOptions("no supported WebSocket subprotocol")
            socket = WebSocket(await _upgrade_websocket(exchange, protocol))
            if protocol == portforward.TUNNEL_PROTOCOL:
                await portforward.PortForwarder(SpdySession(WebSocketChannel(socket)), dial, name).run()
            else:
                ports = [int(value) for key, value in request.query if key in ("port", "ports") and value.isdigit()]
                await portforward.ChannelForwarder(ChannelSocket(socket, protocol), dial, ports, name).run()
            await socket.close()
        elif request.headers.get("upgrade", "").lower() == "spdy/3.1":
            headers = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": portforward.SPDY_PROTOCOL}
            await portforward.PortForwarder(SpdySession(await exchange.upgrade(headers)), dial, name).run()
        else:
            raise BadOptions("unable to upgrade: missing upgrade headers in request")

    async def _connect(self, exchange: Exchange) -> None:
        """A tunnel to a pod of this kubelet: the user-space overlay."""
        host, _, port = exchange.request.target.rpartition(":")
        if not port.isdigit() or not self._is_pod_address(host):
            exchange.keep_alive = False
            await exchange.answer(403, b"CONNECT is for pods of this kubelet only\n")
            return
        try:
            reader, writer = await self._runtime_of({"spec": {}}).dial(host, int(port))
        except OSError as failure:
            exchange.keep_alive = False
            await exchange.answer(502, f"{failure.strerror or failure}\n".encode())
            return
        await relay(await exchange.tunnel(), SocketChannel(reader, writer))


def _is_websocket(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket"


async def _upgrade_websocket(exchange: Exchange, protocol: str) -> SocketChannel:
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Accept": accept_key(exchange.request.headers.get("sec-websocket-key", ""))}
    if exchange.request.headers.get("sec-websocket-protocol"):
        headers["Sec-WebSocket-Protocol"] = protocol
    return await exchange.upgrade(headers)


async def _quiet(job: Awaitable[None]) -> None:
    """A client that goes away is no error."""
    with contextlib.suppress(OSError):
        await job

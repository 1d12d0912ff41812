"""The UDP side of the proxy: one socket per listening address, one connected socket per client flow, forgotten when idle."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from kubecosm.runtime.clock import Clock

from .balancer import Balancer
from .tcp import RouteSource

Client = tuple[str, int]
PENDING_DATAGRAMS_MAX = 64


@dataclass(eq=False)
class Flow(asyncio.DatagramProtocol):
    """A client's conversation with one backend; answers go back from the Service's own address."""

    listener: UdpListener
    client: Client
    used_at: float
    transport: asyncio.DatagramTransport | None = None
    pending: list[bytes] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        for data in self.pending:
            self.transport.sendto(data)  # type: ignore[union-attr]
        self.pending.clear()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.listener.answer(data, self)

    def error_received(self, exc: Exception) -> None:
        """The backend refused: the next datagram of this client chooses anew."""
        self.listener.close_flow(self)

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.sendto(data)
        elif len(self.pending) < PENDING_DATAGRAMS_MAX:
            self.pending.append(data)


class UdpContext:
    """What every UDP listener of the process shares; bounds the number of flows over all of them."""

    def __init__(self, balancer: Balancer, tasks: asyncio.TaskGroup, clock: Clock, *, idle_seconds: float, flows_max: int) -> None:
        self.balancer = balancer
        self.tasks = tasks
        self.clock = clock
        self.idle_seconds = idle_seconds
        self.flows_max = flows_max
        self.flows: OrderedDict[Flow, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, flow: Flow) -> None:
        self.flows[flow] = None
        if len(self.flows) > self.flows_max:
            oldest = next(iter(self.flows))
            oldest.listener.close_flow(oldest)
        self._arm()

    def touched(self, flow: Flow) -> None:
        flow.used_at = self.clock.monotonic()
        self.flows.move_to_end(flow)

    def _arm(self) -> None:
        """One timer, set only while flows exist: an idle proxy wakes for nothing."""
        if self._timer is None and self.flows:
            wait = next(iter(self.flows)).used_at + self.idle_seconds - self.clock.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(wait, 0.01), self._expire)

    def _expire(self) -> None:
        self._timer = None
        deadline = self.clock.monotonic() - self.idle_seconds
        while self.flows and (flow := next(iter(self.flows))).used_at <= deadline:
            flow.listener.close_flow(flow)
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for flow in list(self.flows):
            flow.listener.close_flow(flow)


class UdpListener(asyncio.DatagramProtocol):
    """Receives datagrams of one Service address and keeps its clients' flows."""

    def __init__(self, context: UdpContext, route: RouteSource, node: str) -> None:
        self._context = context
        self._route = route
        self._node = node
        self._flows: dict[Client, Flow] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for flow in list(self._flows.values()):
            self.close_flow(flow)

    def datagram_received(self, data: bytes, addr: Client) -> None:
        flow = self._flows.get(addr)
        if flow is None:
            flow = self._flows[addr] = Flow(self, addr, self._context.clock.monotonic())
            self._context.opened(flow)
            self._context.tasks.create_task(self._connect(flow), name="proxy-udp-flow")
        else:
            self._context.touched(flow)
        flow.send(data)

    def answer(self, data: bytes, flow: Flow) -> None:
        self._context.touched(flow)
        if self._transport is not None:
            self._transport.sendto(data, flow.client)

    def close_flow(self, flow: Flow) -> None:
        self._flows.pop(flow.client, None)
        self._context.flows.pop(flow, None)
        if flow.transport is not None:
            flow.transport.close()

    async def _connect(self, flow: Flow) -> None:
        route = self._route()
        backend = route and self._context.balancer.pick(route, self._node, flow.client[0])
        if not backend:
            self.close_flow(flow)
            return
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: flow, remote_addr=(backend.address, backend.port))
        except OSError:
            self.close_flow(flow)

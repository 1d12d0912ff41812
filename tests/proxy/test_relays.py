"""Traffic through real sockets: what a client of a Service address sees."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from kubecosm.api.meta import Key
from kubecosm.runtime.clock import RealClock
from kubecosm.services.proxy import listeners
from kubecosm.services.proxy.balancer import Balancer
from kubecosm.services.proxy.dialer import Dialer, NodeAddress
from kubecosm.services.proxy.listeners import Bind, BindFailure, Listeners
from kubecosm.services.proxy.table import Address, Backend, Protocol, Route
from kubecosm.services.proxy.tcp import Half, TcpContext
from kubecosm.services.proxy.udp import UdpContext

VIP = "127.33.7.1"


class Rig:
    """Listeners with what they need, and small servers to stand behind them."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.nodes: dict[str, NodeAddress] = {}
        balancer = Balancer("round-robin", clock=RealClock(), rng=random.Random(1), affinity_entries_max=100)
        self.tcp = TcpContext(Dialer(self.nodes, None, timeout_seconds=2), balancer, tasks, attempts_max=4)
        self.udp = UdpContext(balancer, tasks, RealClock(), idle_seconds=30, flows_max=3)
        self.failures: list[BindFailure] = []
        self.listeners = Listeners(self.tcp, self.udp, self.failures.append)

    async def route(self, *backends: Backend, port: int, protocol: Protocol = "TCP") -> Bind:
        bind = Bind(Address(VIP, port, protocol), "")
        route = Route(Key("default", "web"), "", "ClusterIP", backends, local_only=False, affinity_seconds=0)
        await self.listeners.sync({bind: route} if backends else {}, {bind})
        return bind


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as tasks:
        made = Rig(tasks)
        yield made
        made.listeners.close()
        made.udp.close()
        for half in list(made.tcp.connections):
            half.close()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((VIP, 0))
        return int(sock.getsockname()[1])


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def tcp_backend(handler: Handler) -> tuple[asyncio.Server, Backend]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, Backend("127.0.0.1", server.sockets[0].getsockname()[1], "node-0")


async def echo_until_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = await reader.read()
    writer.write(b"echo:" + data)
    await writer.drain()
    writer.close()


async def greet_then_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await echo_until_eof(reader, writer)


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(VIP, port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def test_bytes_flow_both_ways_and_half_close_is_passed_on() -> None:
    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(echo_until_eof)
            port = free_port()
            await r.route(backend, port=port)
            big = random.Random(3).randbytes(3_000_000)
            assert await exchange(port, big) == b"echo:" + big
            server.close()

    asyncio.run(scenario())


def test_a_pod_sees_the_address_of_the_pod_that_calls_it() -> None:
    async def tell_who_calls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        writer.close()

    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(tell_who_calls)
            port = free_port()
            await r.route(backend, port=port)
            for source, seen in (("127.64.9.9", b"127.64.9.9"), ("127.0.0.1", b"127.0.0.1")):
                reader, writer = await asyncio.open_connection(VIP, port, local_addr=(source, 0))
                assert await reader.read() == seen
                writer.close()
            server.close()

    asyncio.run(scenario())


def test_a_backend_that_is_gone_costs_the_client_nothing() -> None:
    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(echo_until_eof)
            dead = Backend("127.0.0.1", free_port(), "node-0")
            port = free_port()
            await r.route(dead, backend, port=port)
            assert [await exchange(port, b"x") for _ in range(4)] == [b"echo:x"] * 4
            server.close()

    asyncio.run(scenario())


def test_without_a_living_backend_the_connection_is_reset_and_without_endpoints_refused() -> None:
    async def scenario() -> None:
        async with rig() as r:
            port = free_port()
            await r.route(Backend("127.0.0.1", free_port(), "node-0"), port=port)
            with pytest.raises(ConnectionResetError):
                await exchange(port, b"x")
            await r.route(port=port)
            with pytest.raises(ConnectionRefusedError):
                await exchange(port, b"x")

    asyncio.run(scenario())


def test_closing_a_listener_leaves_established_connections_alone() -> None:
    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(greet_then_echo)
            port = free_port()
            await r.route(backend, port=port)
            reader, writer = await asyncio.open_connection(VIP, port)
            assert await reader.readexactly(5) == b"hello"
            await r.route(port=port)
            writer.write(b"still here")
            writer.write_eof()
            assert await reader.read() == b"echo:still here"
            writer.close()
            server.close()

    asyncio.run(scenario())


def test_a_pod_of_another_host_is_reached_through_its_kubelets_tunnel() -> None:
    asked: list[str] = []

    async def kubelet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode().split("\r\n")[0])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await echo_until_eof(reader, writer)

    async def scenario() -> None:
        async with rig() as r:
            server, address = await tcp_backend(kubelet)
            r.nodes["far"] = NodeAddress("far", address.address, address.port, is_local=False)
            port = free_port()
            await r.route(Backend("10.9.8.7", 8080, "far"), port=port)
            assert await exchange(port, b"hello") == b"echo:hello"
            server.close()

    asyncio.run(scenario())
    assert asked == ["CONNECT 10.9.8.7:8080 HTTP/1.1"]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_bytes_sent_before_the_backend_accepts_are_not_lost(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def slow_kubelet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await sent.wait()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await echo_until_eof(reader, writer)

    async def scenario() -> None:
        async with rig() as r:
            server, address = await tcp_backend(slow_kubelet)
            r.nodes["far"] = NodeAddress("far", address.address, address.port, is_local=False)
            port = free_port()
            await r.route(Backend("10.9.8.7", 8080, "far"), port=port)
            reader, writer = await asyncio.open_connection(VIP, port)
            writer.write(b"early")
            writer.write_eof()
            await writer.drain()
            asyncio.get_running_loop().call_later(0.05, sent.set)
            assert await reader.read() == b"echo:early"
            writer.close()
            server.close()

    sent = asyncio.Event()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(b"echo:" + data, addr)  # type: ignore[attr-defined]


async def udp_ask(port: int, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (VIP, port))
        await loop.sock_sendall(sock, data)
        return await asyncio.wait_for(loop.sock_recv(sock, 2000), 5)


def test_datagrams_are_answered_from_the_services_address_and_flows_are_bounded() -> None:
    async def scenario() -> None:
        async with rig() as r:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(UdpEcho, local_addr=("127.0.0.1", 0))
            backend = Backend("127.0.0.1", transport.get_extra_info("sockname")[1], "node-0")
            port = free_port(socket.SOCK_DGRAM)
            await r.route(backend, port=port, protocol="UDP")
            answers = [await udp_ask(port, str(i).encode()) for i in range(6)]
            assert answers == [f"echo:{i}".encode() for i in range(6)]
            assert len(r.udp.flows) == 3
            transport.close()

    asyncio.run(scenario())


def test_a_port_in_use_is_reported_once_with_advice_and_bound_when_it_is_free() -> None:
    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(echo_until_eof)
            holder = socket.socket()
            holder.bind((VIP, 0))
            holder.listen()
            port = holder.getsockname()[1]
            bind = await r.route(backend, port=port)
            await r.listeners.retry_failed()
            assert [f.address for f in r.failures] == [bind.address]
            assert "another program holds the port" in r.failures[0].message()
            holder.close()
            await r.listeners.retry_failed()
            assert await exchange(port, b"x") == b"echo:x"
            server.close()

    asyncio.run(scenario())


def test_bytes_that_come_before_the_backend_are_kept() -> None:
    """uvloop delivers what it has read even to a protocol that paused reading in connection_made."""

    class Sink(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.written = b""

        def write(self, data: bytes) -> None:  # type: ignore[override]
            self.written += data

    client, backend = Half(), Half()
    backend.connection_made(sink := Sink())
    client.connection_made(Sink())
    client.data_received(b"GET / ")
    client.data_received(b"HTTP/1.1")
    client.join(backend)
    assert sink.written == b"GET / HTTP/1.1"


def test_a_port_that_needs_permission_is_substituted_until_it_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    asked, bind_really = [False], listeners.bound_socket

    def bind_if_permitted(address: Address) -> socket.socket:
        if address.port == 443 and not asked[0]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return bind_really(address if address.port != 443 else address._replace(port=port))

    monkeypatch.setattr(listeners, "bound_socket", bind_if_permitted)

    async def scenario() -> None:
        async with rig() as r:
            server, backend = await tcp_backend(echo_until_eof)
            await r.route(backend, port=443)
            assert await exchange(10443, b"x") == b"echo:x"
            assert "Port 10443 answers instead" in r.failures[0].message()
            asked[0] = True
            await r.listeners.retry_failed()
            assert await exchange(port, b"y") == b"echo:y"
            with pytest.raises(ConnectionRefusedError):
                await exchange(10443, b"x")
            server.close()

    asyncio.run(scenario())

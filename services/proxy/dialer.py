"""Opens connections to backends: directly on this host, or through the CONNECT tunnel of the backend's kubelet.

The tunnel is the user-space overlay of a cluster that spans hosts, and the way to a port under 1024 that an unprivileged
kubelet could not bind.
Left out: UDP across hosts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from kubecosm.api import names
from kubecosm.api.meta import labels_of
from kubecosm.api.resources import Object

from .table import Backend

PRIVILEGED_PORTS_END = 1024
HANDSHAKE_BYTES_MAX = 8192
POD_NETWORK = ip_network("127.64.0.0/10")
ProtocolFactory = Callable[[], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node is: where its kubelet answers, whether its pods can be reached directly from this process, its zone and subnets."""

    name: str
    ip: str
    kubelet_port: int
    is_local: bool
    zone: str = ""
    pod_cidrs: tuple[str, ...] = ()


def node_address(node: Object, hostname_override: str) -> NodeAddress | None:
    """Read a Node; None while it has no InternalIP. Loopback nodes share this host unless the proxy serves one named node only."""
    status = node.get("status") or {}
    ip = next((a["address"] for a in status.get("addresses") or () if a.get("type") == "InternalIP"), "")
    if not ip:
        return None
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 0
    name = node["metadata"]["name"]
    spec = node.get("spec") or {}
    cidrs = tuple(spec.get("podCIDRs") or [cidr for cidr in (spec.get("podCIDR"),) if cidr])
    is_local = ip_address(ip).is_loopback or name == hostname_override
    return NodeAddress(name, ip, port, is_local, labels_of(node).get(names.LABEL_ZONE, ""), cidrs)


class Dialer:
    """Connects a protocol to a backend. `nodes` is the live table of nodes by name, owned by the caller."""

    def __init__(self, nodes: dict[str, NodeAddress], tls: ssl.SSLContext | None, *, timeout_seconds: float) -> None:
        self._nodes = nodes
        self._tls = tls
        self._timeout_seconds = timeout_seconds

    async def dial(self, backend: Backend, factory: ProtocolFactory, client: str = "") -> None:
        """Connect `factory()`'s protocol to the backend, which sees the address of a `client` that is a pod of this host.

        Raises OSError or TimeoutError when the backend does not take the connection.
        """
        node = self._nodes.get(backend.node)
        async with asyncio.timeout(self._timeout_seconds):
            if node is not None and not node.is_local:
                await self._tunnel(node, backend, factory)
                return
            try:
                source = (client, 0) if client and ip_address(client) in POD_NETWORK else None
                await asyncio.get_running_loop().create_connection(factory, backend.address, backend.port, local_addr=source)
            except ConnectionRefusedError:
                if node is None or backend.port >= PRIVILEGED_PORTS_END or self._tls is None:
                    raise
                await self._tunnel(node, backend, factory)

    async def _tunnel(self, node: NodeAddress, backend: Backend, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        handshake = ConnectHandshake(backend, factory, loop.create_future())
        name = names.KUBELET_SERVER_NAME if self._tls else None
        transport, _ = await loop.create_connection(lambda: handshake, node.ip, node.kubelet_port, ssl=self._tls, server_hostname=name)
        try:
            await handshake.done
        except BaseException:
            transport.abort()
            raise


class ConnectHandshake(asyncio.Protocol):
    """Speaks HTTP CONNECT to a kubelet, then hands the connection over to the real protocol."""

    def __init__(self, backend: Backend, factory: ProtocolFactory, done: asyncio.Future[None]) -> None:
        self._backend = backend
        self._factory = factory
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        target = f"{self._backend.address}:{self._backend.port}"
        self._transport.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > HANDSHAKE_BYTES_MAX:
                self._fail(ConnectionError("the kubelet's answer to CONNECT has no end"))
            return
        status = head.split(b"\r\n", 1)[0]
        if b" 200" not in status:
            self._fail(ConnectionRefusedError(f"the kubelet refused the tunnel: {status.decode('latin-1')}"))
            return
        if self.done.done() or self._transport is None:
            return
        protocol = self._factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if rest:
            protocol.data_received(rest)
        self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the kubelet closed the tunnel"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

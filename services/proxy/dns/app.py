"""Opens the DNS sockets and makes the Service by which the cluster knows its DNS (`kube-system/kube-dns`, as add-ons name it)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from kubecosm.api import names
from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.meta import Key
from kubecosm.api.resources import SERVICES, Object
from kubecosm.client.http import ApiClient
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.logs import get_logger

from ..config import Config
from ..listeners import BindFailure, bound_socket
from ..table import Address, Route
from .server import Resolver, TcpServer, UdpServer
from .upstream import Upstream
from .zone import Zone

log = get_logger("dns")

SERVICE_NAME = "kube-dns"
DNS_PORT = 53


def dns_service(cluster_ip: str) -> Object:
    """The Service object; it has no selector, for its address is served by this process and not by pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE_NAME,
            "namespace": names.NAMESPACE_SYSTEM,
            "labels": {"k8s-app": SERVICE_NAME, names.LABEL_CLUSTER_SERVICE: "true", names.LABEL_CLUSTER_SERVICE_NAME: "CoreDNS"},
        },
        "spec": {
            "clusterIP": cluster_ip,
            "ports": [
                {"name": "dns", "port": DNS_PORT, "protocol": "UDP", "targetPort": DNS_PORT},
                {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP", "targetPort": DNS_PORT},
            ],
        },
    }


async def ensure_service(client: ApiClient, cluster_ip: str) -> None:
    """Create the Service unless it is there; another address in its place is left alone and told."""
    try:
        found = await client.get(SERVICES, SERVICE_NAME, names.NAMESPACE_SYSTEM)
    except NotFound:
        try:
            await client.create(SERVICES, dns_service(cluster_ip), names.NAMESPACE_SYSTEM)
        except ApiError as error:
            log.warning("cannot create the DNS Service", error=error.message)
        return
    if found["spec"].get("clusterIP") != cluster_ip:
        log.warning("the DNS Service has another address", wanted=cluster_ip, found=found["spec"].get("clusterIP"))


class DnsApp:
    """The DNS as a part of the proxy: a zone to fill, a resolver, and the sockets."""

    def __init__(self, config: Config, clock: Clock, tasks: asyncio.TaskGroup, on_failure: Callable[[BindFailure], None]) -> None:
        self.zone = Zone(config.cluster_domain)
        self.zone.server_ip = config.dns_ip
        self._config = config
        self._on_failure = on_failure
        self._upstream = Upstream(config.dns_upstream, clock, config.dns_upstream_timeout)
        self.resolver = Resolver(
            self.zone, self._upstream, tasks, ttl_seconds=config.dns_ttl, cache_entries_max=config.dns_cache_entries_max
        )
        self._closers: list[Callable[[], None]] = []

    async def open(self) -> list[int]:
        """Bind port 53 and the second port; the ports that could be opened, an event tells of the others."""
        return [port for port in (DNS_PORT, self._config.dns_port) if port and await self._open_port(port)]

    async def _open_port(self, port: int) -> bool:
        udp, tcp = Address(self._config.dns_ip, port, "UDP"), Address(self._config.dns_ip, port, "TCP")
        try:
            sockets = [bound_socket(udp), bound_socket(tcp)]
        except OSError as error:
            self._on_failure(BindFailure(service_route(), udp, error, self._config.dns_port if port == DNS_PORT else 0))
            return False
        await self._serve(*sockets)
        return True

    async def _serve(self, udp: socket.socket, tcp: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: UdpServer(self.resolver), sock=udp)
        server = await loop.create_server(lambda: TcpServer(self.resolver, self._config.dns_tcp_idle_timeout), sock=tcp)
        self._closers += [transport.close, server.close]

    async def close(self) -> None:
        for closer in self._closers:
            closer()
        await self._upstream.close()


def service_route() -> Route:
    """The DNS Service as the subject of an event."""
    return Route(Key(names.NAMESPACE_SYSTEM, SERVICE_NAME), "dns", "ClusterIP", (), local_only=False, affinity_seconds=0)

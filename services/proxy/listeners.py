"""Opens and closes the sockets that the routing table asks for, and tells when one cannot be opened."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kubecosm.api.names import PRIVILEGED_PORT_SUBSTITUTE

from .table import Address, Route
from .tcp import Frontside, TcpContext
from .udp import UdpContext, UdpListener

BACKLOG = 1024


class Bind(NamedTuple):
    """A socket to open: an address, and the node it stands for ("" if no node in particular)."""

    address: Address
    node: str


@dataclass
class Listener:
    """An open socket and the route it serves at present."""

    route: Route
    closer: Callable[[], None]


class BindFailure(NamedTuple):
    route: Route
    address: Address
    error: OSError
    substitute: int = 0
    """The port that answers instead; 0: none does."""

    def message(self) -> str:
        """One line that says what to do."""
        ip, port, protocol = self.address
        what = f"cannot listen on {ip}:{port}/{protocol}"
        if self.error.errno in (errno.EACCES, errno.EPERM):
            instead = f"Port {self.substitute} answers instead" if self.substitute else "The Service stays reachable by NodePort"
            return (
                f"{what}: ports under 1024 need permission; run `sysctl net.ipv4.ip_unprivileged_port_start=0` or give the process "
                f"CAP_NET_BIND_SERVICE. {instead}"
            )
        if self.error.errno == errno.EADDRINUSE:
            return f"{what}: another program holds the port on all addresses; stop it or let it listen on 127.0.0.1 only"
        if self.error.errno == errno.EADDRNOTAVAIL:
            return f"{what}: the address is not one of this host; use ranges within 127.0.0.0/8, or add it to an interface"
        if self.error.errno in (errno.EMFILE, errno.ENFILE):
            return f"{what}: too many open files; raise the limit (`ulimit -n`)"
        return f"{what}: {self.error.strerror or self.error}"


class Listeners:
    """The open sockets by what they are bound to. `sync` makes them equal to the wish and reports what could not be opened."""

    def __init__(self, tcp: TcpContext, udp: UdpContext, on_failure: Callable[[BindFailure], None]) -> None:
        self._tcp = tcp
        self._udp = udp
        self._on_failure = on_failure
        self._open: dict[Bind, Listener] = {}
        self.failed: dict[Bind, Route] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def sync(self, wanted: Mapping[Bind, Route], scope: set[Bind]) -> None:
        """Make the open sockets among `scope` (what was and what is wanted) those of `wanted`; established connections are left alone."""
        for bind in scope:
            route = wanted.get(bind)
            listener = self._open.get(bind)
            if route is None:
                self.failed.pop(bind, None)
                if listener is not None:
                    self._open.pop(bind).closer()
            elif listener is not None:
                listener.route = route
                if bind in self.failed:
                    self.failed[bind] = route
            else:
                await self._listen(bind, route, wanted)

    async def retry_failed(self) -> None:
        """Try again what could not be bound; the port may be free by now."""
        for bind, route in list(self.failed.items()):
            await self._listen(bind, route, {})

    def close(self) -> None:
        for listener in self._open.values():
            listener.closer()
        self._open.clear()

    async def _listen(self, bind: Bind, route: Route, wanted: Mapping[Bind, Route]) -> None:
        """Open a socket. Where the port is not permitted, its substitute is opened, and the port itself tried again later."""
        try:
            closer = await self._open_socket(bind, bind.address)
        except OSError as error:
            if bind not in self.failed:
                substitute = await self._open_substitute(bind, route, wanted) if error.errno in (errno.EACCES, errno.EPERM) else 0
                self._on_failure(BindFailure(route, bind.address, error, substitute))
            self.failed[bind] = route
            return
        self.failed.pop(bind, None)
        if (substitute_listener := self._open.pop(bind, None)) is not None:
            substitute_listener.closer()
        self._open[bind] = Listener(route, closer)

    async def _open_substitute(self, bind: Bind, route: Route, wanted: Mapping[Bind, Route]) -> int:
        """The port that was opened instead; 0 if none could be."""
        address = bind.address._replace(port=bind.address.port + PRIVILEGED_PORT_SUBSTITUTE)
        if not address.ip or bind._replace(address=address) in wanted:
            return 0
        try:
            closer = await self._open_socket(bind, address)
        except OSError:
            return 0
        self._open[bind] = Listener(route, closer)
        return address.port

    async def _open_socket(self, bind: Bind, address: Address) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        sock = bound_socket(address)

        def route() -> Route | None:
            listener = self._open.get(bind)
            return listener.route if listener else None

        if bind.address.protocol == "TCP":
            server = await loop.create_server(lambda: Frontside(self._tcp, route, bind.node), sock=sock, backlog=BACKLOG)
            return server.close
        transport, _ = await loop.create_datagram_endpoint(lambda: UdpListener(self._udp, route, bind.node), sock=sock)
        return transport.close


def bound_socket(address: Address) -> socket.socket:
    """A non-blocking socket bound to the address; OSError says why not.

    An empty ip binds all addresses. SO_REUSEPORT lets it stand beside a kubelet's wildcard listener of the same port and user.
    """
    kind = socket.SOCK_STREAM if address.protocol == "TCP" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        if address.ip:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address.ip, address.port))
    except OSError:
        sock.close()
        raise
    return sock

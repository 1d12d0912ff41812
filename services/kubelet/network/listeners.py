"""The sockets of the pod network: one per pod address and port, or one wildcard listener for a port that many pods share.

A wildcard listener is bound to 0.0.0.0 on device `lo`; the local address of an accepted connection tells the pod. It is taken
only if no other process holds such a listener on the port, so clusters on one machine never get each other's connections.
An address that cannot be bound stays reachable through `dial` (port-forward, CONNECT, probes).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from .applications import identity_fields
from .connections import Delay, PodConnection, TlsContext
from .endpoint import Endpoint

SHARED_PORT_PODS_MIN = 64
"""From so many pods on, a port gets one wildcard listener instead of a socket per pod."""
BACKLOG = 256
DATAGRAM_BYTES_MAX = 65_535
DATAGRAM_BATCH_MAX = 64
LISTEN_STATE = "0A"
IP_PKTINFO = 8
"""Linux's number; Python does not name it."""

Address = tuple[str, int]


class PortRefused(Exception):
    """The address could not be bound; the message says why and what to do."""


def explain(failure: OSError, address: Address) -> str:
    """One line for a Warning event."""
    host, port = address
    if failure.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Cannot listen on {host}:{port}: ports under 1024 need permission. Run `sysctl net.ipv4.ip_unprivileged_port_start=0` once "
            "as root, or give the kubelet CAP_NET_BIND_SERVICE. Meanwhile NodePorts, Service ports above 1023 and port-forward reach it."
        )
    if failure.errno == errno.EADDRINUSE:
        return f"Cannot listen on {host}:{port}: another program listens on port {port} of every address. Stop it, or use another port."
    if failure.errno in (errno.EMFILE, errno.ENFILE):
        return f"Cannot listen on {host}:{port}: too many open files. Raise the limit (ulimit -n)."
    return f"Cannot listen on {host}:{port}: {failure.strerror}."


class PodNetwork:
    """Owns every socket that a simulated pod answers on."""

    def __init__(self, delay: Delay, tls: TlsContext | None = None) -> None:
        """`tls` makes what is shown to clients that want TLS; it is asked when the first comes. Without it they are not understood."""
        self._delay = delay
        self._tls = None if tls is None else cache(tls)
        self._tcp: dict[Address, Endpoint] = {}
        self._udp: dict[Address, Endpoint] = {}
        self._servers: dict[Address, asyncio.Server] = {}
        self._shared: dict[int, asyncio.Server | None] = {}
        self._udp_sockets: dict[Address, socket.socket] = {}
        self._udp_shared: dict[int, socket.socket | None] = {}
        self._tcp_count: dict[int, int] = {}
        self._udp_count: dict[int, int] = {}

    def lookup(self, ip: str, port: int) -> Endpoint | None:
        return self._tcp.get((ip, port))

    async def open(self, address: Address, endpoint: Endpoint, *, udp: bool = False) -> None:
        """Answer on this address; PortRefused if it cannot be bound, and then `dial` still works."""
        endpoints, counts = (self._udp, self._udp_count) if udp else (self._tcp, self._tcp_count)
        endpoints[address] = endpoint
        port = address[1]
        counts[port] = counts.get(port, 0) + 1
        try:
            if counts[port] > SHARED_PORT_PODS_MIN and await self._ensure_shared(port, udp=udp):
                return
            if udp:
                self._open_udp(address)
            else:
                if (former := self._servers.pop(address, None)) is not None:
                    former.close()  # two containers of a pod declare one port: the newest has it
                server = self._servers[address] = await asyncio.get_running_loop().create_server(
                    self._connection, sock=_tcp_socket(address), backlog=BACKLOG, start_serving=False
                )
                await server.start_serving()  # apart, so that who cancels this finds the server among ours
        except OSError as failure:
            raise PortRefused(explain(failure, address)) from failure

    def close(self, address: Address, *, udp: bool = False) -> None:
        """Refuse new connections; those that are open are the endpoint's to close. Idempotent."""
        endpoints, counts = (self._udp, self._udp_count) if udp else (self._tcp, self._tcp_count)
        if endpoints.pop(address, None) is None:
            return
        counts[address[1]] -= 1
        if udp:
            if (sock := self._udp_sockets.pop(address, None)) is not None:
                _forget_reader(sock)
        elif (server := self._servers.pop(address, None)) is not None:
            server.close()

    def close_all(self) -> None:
        for server in (*self._servers.values(), *filter(None, self._shared.values())):
            server.close()
        for sock in (*self._udp_sockets.values(), *filter(None, self._udp_shared.values())):
            _forget_reader(sock)
        for endpoint in self._tcp.values():
            endpoint.kill()
        self._servers.clear()
        self._shared.clear()
        self._udp_sockets.clear()
        self._udp_shared.clear()

    async def dial(self, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to this address, from inside the process if its socket could not be bound; OSError as connect() gives it."""
        endpoint = self._tcp.get(address)
        if endpoint is None or address in self._servers or self._shared.get(address[1]) is not None:
            return await asyncio.open_connection(*address)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(partial(self._connection, endpoint), theirs)
        return await asyncio.open_connection(sock=ours)

    def _connection(self, endpoint: Endpoint | None = None) -> PodConnection:
        return PodConnection(self.lookup, self._delay, endpoint, self._tls)

    async def _ensure_shared(self, port: int, *, udp: bool) -> bool:
        """True if a wildcard listener serves this port."""
        shared: dict[int, socket.socket | None] | dict[int, asyncio.Server | None] = self._udp_shared if udp else self._shared
        if port not in shared:
            shared[port] = None
            with contextlib.suppress(OSError):
                if udp:
                    self._udp_shared[port] = _listen_datagrams(_wildcard_socket(port, socket.SOCK_DGRAM), self._on_datagram)
                elif not wildcard_is_taken(port):
                    sock = _wildcard_socket(port, socket.SOCK_STREAM)
                    self._shared[port] = await asyncio.get_running_loop().create_server(self._connection, sock=sock, backlog=BACKLOG)
        return shared[port] is not None

    def _open_udp(self, address: Address) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            _allow_reuse(sock)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        self._udp_sockets[address] = _listen_datagrams(sock, self._on_datagram)

    def _on_datagram(self, sock: socket.socket) -> None:
        """Answer each datagram with the pod's identity and the datagram itself, from the address it was sent to."""
        for _ in range(DATAGRAM_BATCH_MAX):
            try:
                data, ancillary, _, client = sock.recvmsg(DATAGRAM_BYTES_MAX, 64)
            except OSError:
                return
            local = _packet_info(ancillary)
            if local is None:
                continue
            endpoint = self._udp.get((local, sock.getsockname()[1]))
            if endpoint is None:
                continue
            endpoint.requests += 1
            head = " ".join(f"{name}={value}" for name, value in identity_fields(endpoint).items())
            info = struct.pack("I4s4s", 0, socket.inet_aton(local), socket.inet_aton(local))
            with contextlib.suppress(OSError):
                sock.sendmsg([head.encode(), b"\n", data], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, client)


def _allow_reuse(sock: socket.socket) -> None:
    """A wildcard listener and sockets on single addresses may share a port then; the kernel prefers the single address."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _tcp_socket(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _allow_reuse(sock)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _wildcard_socket(port: int, kind: socket.SocketKind) -> socket.socket:
    """Bound to every address of the loopback device only; OSError where that is not possible."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOTSUP, "no wildcard listener on this platform")
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        _allow_reuse(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.bind(("0.0.0.0", port))
    except OSError:
        sock.close()
        raise
    return sock


def wildcard_is_taken(port: int, table: Path = Path("/proc/net/tcp")) -> bool:
    """Whether some process listens on 0.0.0.0:port already; true where that cannot be known."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return True
    wanted = f"00000000:{port:04X}"
    return any((parts := line.split())[1] == wanted and parts[3] == LISTEN_STATE for line in lines)


def _listen_datagrams(sock: socket.socket, on_datagram: Callable[[socket.socket], None]) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    asyncio.get_running_loop().add_reader(sock, on_datagram, sock)
    return sock


def _forget_reader(sock: socket.socket) -> None:
    asyncio.get_running_loop().remove_reader(sock)
    sock.close()


def _packet_info(ancillary: list[tuple[int, int, bytes]]) -> str | None:
    """The local address that a datagram was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return socket.inet_ntoa(data[8:12])
    return None

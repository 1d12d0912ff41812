"""Addresses for many clusters on one machine: which part of 127.0.0.0/8 and which port is whose.

The loopback network is cut into 64 slots. A running cluster holds its slots as bound abstract Unix sockets: they have the scope that
loopback addresses have (the network namespace), need no file, and vanish with their process however it ends. Where abstract sockets
do not exist, slots are not held and only the clusters of one home directory keep apart.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from zlib import crc32

from kubecosm.runtime.errors import StartupError, explain_os_error

SLOTS = 64
NODES_PER_SLOT = 256
FIRST_PORT = 26_443
"""The API server of slot i listens on 26443 + i, or that plus a multiple of 64: below the ports that the kernel hands out itself."""
PORT_TRIES = 48

NODES_RANGE = IPv4Network("127.16.0.0/12")
SERVICES_RANGE = IPv4Network("127.32.0.0/12")
LOAD_BALANCERS_RANGE = IPv4Network("127.48.0.0/12")
PODS_RANGE = IPv4Network("127.64.0.0/10")
NODE_POD_PREFIX = 24


@dataclass(frozen=True, order=True)
class Slots:
    """`count` (a power of two) neighbouring slots from `first`, which is a multiple of `count`."""

    first: int
    count: int = 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + self.count))

    def _part_of(self, whole: IPv4Network) -> IPv4Network:
        size = whole.num_addresses // SLOTS
        prefix = whole.prefixlen + (SLOTS.bit_length() - 1) - (self.count.bit_length() - 1)
        return IPv4Network((int(whole.network_address) + self.first * size, prefix))

    @property
    def nodes(self) -> IPv4Network:
        return self._part_of(NODES_RANGE)

    @property
    def services(self) -> IPv4Network:
        return self._part_of(SERVICES_RANGE)

    @property
    def load_balancers(self) -> IPv4Network:
        return self._part_of(LOAD_BALANCERS_RANGE)

    @property
    def pods(self) -> IPv4Network:
        return self._part_of(PODS_RANGE)

    @property
    def apiserver_service_ip(self) -> IPv4Address:
        """Address of the Service default/kubernetes: the first of the range."""
        return self.services[1]

    @property
    def dns_service_ip(self) -> IPv4Address:
        """Address of the Service kube-system/kube-dns: the tenth of the range."""
        return self.services[10]

    def node_ip(self, index: int) -> IPv4Address:
        return self.nodes[index + 1]


class Claim:
    """Slots held against every other cluster of the machine until `close` or the end of the process (and of those that inherit it)."""

    def __init__(self, slots: Slots, sockets: list[socket.socket]) -> None:
        self.slots = slots
        self._sockets = sockets

    def filenos(self) -> list[int]:
        return [s.fileno() for s in self._sockets]

    def close(self) -> None:
        for held in self._sockets:
            held.close()


def slots_needed(nodes: int) -> int:
    """How many slots (a power of two) hold so many nodes' pod subnets."""
    blocks = max(1, -(-nodes // NODES_PER_SLOT))
    return 1 << (blocks - 1).bit_length()


def claim(slots: Slots) -> Claim | None:
    """Holds these slots, or None if another running cluster holds one of them."""
    held = Claim(slots, [])
    if sys.platform != "linux":
        return held
    for index in slots:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        held._sockets.append(holder)
        try:
            holder.bind(f"\0kubecosm-slot-{index}")
        except OSError as error:
            held.close()
            if error.errno == errno.EADDRINUSE:
                return None
            raise explain_os_error(error, "reserve loopback addresses") from error
    return held


def claim_free(count: int, taken: Collection[Slots], seed: str) -> Claim:
    """Holds `count` neighbouring slots that neither a running cluster nor one in `taken` has.

    The search starts at a place given by `seed` (the cluster's directory), so that stopped clusters of different homes seldom
    meet. StartupError when all are in use.
    """
    places = SLOTS // count
    reserved = {index for slots in taken for index in slots}
    start = crc32(seed.encode()) % places
    for step in range(places):
        slots = Slots((start + step) % places * count, count)
        if reserved.isdisjoint(slots) and (held := claim(slots)):
            return held
    raise StartupError(f"no free loopback addresses for {count * NODES_PER_SLOT} nodes: stop or delete a cluster (see `kubecosm list`)")


def free_port(slots: Slots, taken: Collection[int]) -> int:
    """A free port for the API server of these slots; no other kubecosm cluster tries the same ones. StartupError if none is free."""
    for attempt in range(PORT_TRIES):
        port = FIRST_PORT + slots.first + attempt * SLOTS
        if port not in taken and port_is_free(port):
            return port
    raise StartupError("no free port for the API server: choose one with --port")


def may_use_low_ports() -> bool:
    """Whether this user may listen on ports under 1024."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 1))
        except PermissionError:
            return False
        except OSError:
            return True
        return True


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""The ranges that Service addresses come from, and the bands of a range that are given out last, so that users may choose from them.

Imitates pkg/registry/core/service/ipallocator (cidrallocator, ipallocator) and portallocator. Pure but for `rng`.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence

from ..formats import parse_ip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RANDOM_TRIES = 64
BAND_MIN = 16
ADDRESS_BAND = (16, 256)
"""(fraction of the range, most of it) that is given out last."""
PORT_BAND = (32, 128)


def static_band(size: int, shape: tuple[int, int]) -> int:
    """How many of the first addresses or ports of a range are given out last."""
    step, most = shape
    return 0 if size <= BAND_MIN else min(max(BAND_MIN, size // step), most)


class AddressRange:
    """The usable addresses of one network; remembers that it is full until told that one has come free."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.size = network.num_addresses - (2 if network.version == 4 else 1)
        self._band = static_band(network.num_addresses, ADDRESS_BAND)
        self.is_full = self.size < 1

    def holds(self, address: str) -> bool:
        """Whether the address may be given out: neither the network's own nor its broadcast address."""
        ip = parse_ip(address)
        return ip is not None and ip in self.network and 0 < int(ip) - int(self.network.network_address) <= self.size

    def free(self, is_taken: Callable[[str], bool], rng: random.Random) -> str | None:
        """One that nobody has, by chance above the band, in order otherwise; None if there is none."""
        first = min(self._band, self.size - 1) + 1
        for _ in range(RANDOM_TRIES):
            address = str(self.network[rng.randint(first, self.size)])
            if not is_taken(address):
                return address
        for offset in (*range(first, self.size + 1), *range(1, first)):
            address = str(self.network[offset])
            if not is_taken(address):
                return address
        self.is_full = True
        return None


class Ranges:
    """The network of the flags, then those of ServiceCIDRs that are ready; all of one family."""

    def __init__(self, network: Network) -> None:
        self.primary = network
        self._ranges = [AddressRange(network)]

    def set_further(self, networks: Sequence[Network]) -> None:
        """Give out from these too, and from no others besides the primary one."""
        known = {found.network: found for found in self._ranges}
        wanted = dict.fromkeys([self.primary, *(n for n in networks if n.version == self.primary.version)])
        self._ranges = [known.get(network) or AddressRange(network) for network in wanted]

    def sizes(self) -> list[tuple[Network, int]]:
        """Each network, and how many addresses of it can be given out."""
        return [(found.network, found.size) for found in self._ranges]

    def came_free(self) -> None:
        for found in self._ranges:
            found.is_full = False

    def holds(self, address: str) -> bool:
        return any(found.holds(address) for found in self._ranges)

    def free(self, is_taken: Callable[[str], bool], rng: random.Random) -> str | None:
        for found in self._ranges:
            address = None if found.is_full else found.free(is_taken, rng)
            if address is not None:
                return address
        return None

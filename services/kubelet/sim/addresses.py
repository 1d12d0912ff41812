"""Pod addresses of one node: the next free one after the last given, as the host-local IPAM plugin does."""

from __future__ import annotations


class AddressesExhausted(Exception):
    """Every address of the node's pod range is in use."""


class AddressPool:
    """Gives out the host addresses of a CIDR; the network, gateway (first) and broadcast addresses stay unused."""

    def __init__(self, cidr: str) -> None:
        address, _, prefix = cidr.partition("/")
        size = 1 << 32 - int(prefix)
        self.cidr = cidr
        self._first = _number(address) // size * size + 2
        self._count = max(0, size - 3)
        self._next = 0
        self._used: set[int] = set()

    def take(self) -> str:
        """A free address; AddressesExhausted if there is none."""
        for step in range(self._count):
            offset = (self._next + step) % self._count
            if offset not in self._used:
                self._used.add(offset)
                self._next = (offset + 1) % self._count
                return _text(self._first + offset)
        raise AddressesExhausted(f"no IP addresses available in range set: {self.cidr}")

    def reserve(self, address: str) -> bool:
        """Mark an address as used (after a restart); false if it is used already or not of this range."""
        offset = _number(address) - self._first
        if not 0 <= offset < self._count or offset in self._used:
            return False
        self._used.add(offset)
        self._next = max(self._next, (offset + 1) % self._count)
        return True

    def release(self, address: str) -> None:
        self._used.discard(_number(address) - self._first)


def _text(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _number(address: str) -> int:
    a, b, c, d = address.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)

"""IP addresses and CIDRs. Imitates library/ip.go and cidr.go."""

from __future__ import annotations

import ipaddress
import math
from typing import Any

from ..functions import TRAVERSAL, Cost, Overload, fixed, overload, static, traversal
from ..values import CelError, Opaque

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class IP(Opaque):
    """An address."""

    __slots__ = ("address",)
    cel_kind = "net.IP"

    def __init__(self, address: Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return str(self.address)


class CIDR(Opaque):
    """A network, with the address it was written with."""

    __slots__ = ("address", "length")
    cel_kind = "net.CIDR"

    def __init__(self, address: Address, length: int) -> None:
        self.address, self.length = address, length

    @property
    def network(self) -> Network:
        return ipaddress.ip_network((self.address, self.length), strict=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (other.address, other.length) == (self.address, self.length)

    def __hash__(self) -> int:
        return hash((self.address, self.length))

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"


def _ip(text: str) -> IP:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CelError(f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP') from None
    if "%" in text:
        raise CelError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return IP(address)


def _cidr(text: str) -> CIDR:
    address, slash, length = text.partition("/")
    try:
        found = ipaddress.ip_address(address)
        if not slash or not length.isascii() or not length.isdigit() or int(length) > found.max_prefixlen or "%" in address:
            raise ValueError
    except ValueError:
        raise CelError(f'CIDR parse error during conversion from string: netip.ParsePrefix("{text}"): invalid') from None
    return CIDR(found, int(length))


def _valid(parse: Any) -> Any:
    def impl(text: str) -> bool:
        try:
            parse(text)
        except CelError:
            return False
        return True

    return impl


def _contains_ip(cidr: CIDR, address: Address) -> bool:
    return address.version == cidr.address.version and address in cidr.network


def _contains_cidr(cidr: CIDR, other: CIDR) -> bool:
    return other.length >= cidr.length and _contains_ip(cidr, other.network.network_address)


def _is_global(ip: IP) -> bool:
    found = ip.address
    broadcast = found == ipaddress.IPv4Address("255.255.255.255")
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local or broadcast)


def _containing(*, ip: bool) -> Cost:
    """The bytes of the prefix are compared twice, those of a network once more; a text is parsed."""

    def cost(args: tuple[Any, ...], result: Any) -> int:
        size: int = math.ceil(args[0].length / 8)
        text = math.ceil(len(args[1]) * TRAVERSAL) if isinstance(args[1], str) else 0
        return math.ceil(2 * size * TRAVERSAL) + text + (0 if ip else math.ceil(size * TRAVERSAL) + 1)

    return cost


def declarations() -> list[tuple[str, Overload]]:
    once, twice, one = traversal(), traversal(2), fixed(1)
    return [
        overload("ip(string) net.IP", _ip, once), overload("isIP(string) bool", _valid(_ip), once),
        static("ip.isCanonical", "(string) bool", lambda text: str(_ip(text)) == text, twice),
        static("string", "(net.IP) string", str), static("string", "(net.CIDR) string", str),
        overload("net.IP.family() int", lambda ip: ip.address.version),
        overload("net.IP.isUnspecified() bool", lambda ip: ip.address.is_unspecified),
        overload("net.IP.isLoopback() bool", lambda ip: ip.address.is_loopback),
        overload("net.IP.isLinkLocalMulticast() bool", _is_link_local_multicast),
        overload("net.IP.isLinkLocalUnicast() bool", lambda ip: ip.address.is_link_local),
        overload("net.IP.isGlobalUnicast() bool", _is_global),
        overload("cidr(string) net.CIDR", _cidr, once), overload("isCIDR(string) bool", _valid(_cidr), once),
        overload("net.CIDR.containsIP(string) bool", lambda cidr, text: _contains_ip(cidr, _ip(text).address), _containing(ip=True)),
        overload("net.CIDR.containsIP(net.IP) bool", lambda cidr, ip: _contains_ip(cidr, ip.address), _containing(ip=True)),
        overload("net.CIDR.containsCIDR(string) bool", lambda cidr, text: _contains_cidr(cidr, _cidr(text)), _containing(ip=False)),
        overload("net.CIDR.containsCIDR(net.CIDR) bool", _contains_cidr, _containing(ip=False)),
        overload("net.CIDR.ip() net.IP", lambda cidr: IP(cidr.address), one, "cidr_ip"),
        overload("net.CIDR.masked() net.CIDR", lambda cidr: CIDR(cidr.network.network_address, cidr.length)),
        overload("net.CIDR.prefixLength() int", lambda cidr: cidr.length),
    ]  # fmt: skip


def _is_link_local_multicast(ip: IP) -> bool:
    if ip.address.version == 4:
        return ip.address in ipaddress.ip_network("224.0.0.0/24")
    return ip.address.packed[0] == 0xFF and ip.address.packed[1] & 0x0F == 0x02

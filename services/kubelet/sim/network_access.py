"""The network as a simulated container reaches it: names by the cluster DNS and the pod's search list, connections from its address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Address

from kubecosm.api.names import PRIVILEGED_PORT_SUBSTITUTE

from ..network.listeners import PodNetwork

DNS_PORTS = (53, 10053)
"""The cluster DNS answers on 53 where permitted, and always on the high port."""
PRIVILEGED_PORTS_END = 1024
DNS_TIMEOUT_SECONDS = 2.0
NDOTS = 5
CNAME_HOPS_MAX = 8


@cache
def may_open_privileged_ports() -> bool:
    """Whether this user may listen on ports under 1024, as Services do; if not, the proxy listens on substitutes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(("127.0.0.1", PRIVILEGED_PORTS_END - 1))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


def is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def candidates(name: str, search: list[str], ndots: int = NDOTS) -> list[str]:
    """The absolute names to try, in order, as a resolver does with `search` and `ndots`."""
    if name.endswith("."):
        return [name[:-1]]
    expanded = [f"{name}.{domain}" for domain in search]
    return [name, *expanded] if name.count(".") >= ndots else [*expanded, name]


class Resolver:
    """Asks the cluster DNS over UDP."""

    def __init__(self, server: str) -> None:
        self.server = server

    async def query(self, name: str, record: str) -> list[tuple[str, str]]:
        """Answers as (type, text); LookupError with the response code's name, OSError if no server answers."""
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rdatatype

        question = dns.message.make_query(name, record)
        wire = question.to_wire()
        answer = dns.message.from_wire(await self._exchange(wire))
        code = answer.rcode()
        if code != dns.rcode.NOERROR:
            raise LookupError(dns.rcode.to_text(code))
        return [(dns.rdatatype.to_text(rrset.rdtype), item.to_text()) for rrset in answer.answer for item in rrset]

    async def _exchange(self, wire: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        failure: OSError = OSError("no DNS server answers")
        for port in DNS_PORTS:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                try:
                    sock.connect((self.server, port))
                    async with asyncio.timeout(DNS_TIMEOUT_SECONDS):
                        await loop.sock_sendall(sock, wire)
                        return await loop.sock_recv(sock, 65535)
                except TimeoutError as timeout:
                    failure = timeout
                except OSError as refused:
                    failure = refused
        raise failure


class ClusterNetwork:
    """NetworkAccess for one container."""

    def __init__(self, resolver: Resolver, network: PodNetwork, *, source: str, search: list[str], hosts: Mapping[str, str]) -> None:
        self._resolver = resolver
        self._network = network
        self._source = source
        self._search = search
        self._hosts = hosts

    @property
    def dns_server(self) -> str:
        return self._resolver.server

    async def resolve(self, name: str) -> list[str]:
        if name in self._hosts:
            return [self._hosts[name]]
        if is_address(name):
            return [name]
        _, answers = await self.lookup(name, "A")
        addresses = [answer for answer in answers if is_address(answer)]
        if not addresses:
            raise LookupError("NXDOMAIN")
        return addresses

    async def lookup(self, name: str, record: str) -> tuple[str, list[str]]:
        if record == "PTR" or is_address(name):
            name = ".".join(reversed(name.split("."))) + ".in-addr.arpa." if is_address(name) else name
            record = "PTR"
        code = "NXDOMAIN"
        for candidate in candidates(name, self._search):
            try:
                answers = await self._resolver.query(candidate, record)
            except LookupError as failure:
                code = str(failure.args[0])
                continue
            if answers:
                wanted = [text for kind, text in answers if kind == record] or [text for _, text in answers]
                return candidate, wanted
        raise LookupError(code)

    async def exchange(self, host: str, port: int, data: bytes, timeout: float) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            address = (await self.resolve(host))[0]
            sock.bind((self._source, 0))
            sock.connect((address, port))
            await loop.sock_sendall(sock, data)
            try:
                async with asyncio.timeout(timeout):
                    return await loop.sock_recv(sock, 65535)
            except TimeoutError:
                return b""

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self.resolve(host)
        failure: OSError = OSError(f"no address for {host}")
        for address in addresses:
            try:
                if self._network.lookup(address, port) is not None:
                    return await self._network.dial((address, port))
                return await asyncio.open_connection(address, port, local_addr=(self._source, 0))
            except ConnectionRefusedError as refused:
                failure = refused
                if port < PRIVILEGED_PORTS_END and not may_open_privileged_ports():
                    with contextlib.suppress(OSError):
                        return await asyncio.open_connection(address, port + PRIVILEGED_PORT_SUBSTITUTE, local_addr=(self._source, 0))
            except OSError as refused:
                failure = refused
        raise failure

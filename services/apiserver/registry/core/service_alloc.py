"""The addresses and node ports of Services: who holds which, and giving out free ones.

One family of addresses (the range's own), as a single-stack cluster has; IPAddress objects that are not ours take addresses too.
Imitates pkg/registry/core/service/storage/alloc.go and the port allocator; `service_ranges` knows the ranges.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import NamedTuple

from kubecosm.api.errors import ApiError, InternalError
from kubecosm.api.field import FieldError, invalid_kind, invalid_value
from kubecosm.api.resources import Object

from ..strategy import Finish, Settings
from .service_ips import check_cluster_ips, family_of, is_headless
from .service_ranges import PORT_BAND, RANDOM_TRIES, Ranges, static_band
from .service_update import needs_cluster_ip, needs_health_check_port, needs_node_ports

_FAMILY = {4: "IPv4", 6: "IPv6"}


class Holdings(NamedTuple):
    """What a stored Service holds."""

    addresses: frozenset[str]
    ports: frozenset[tuple[str, int]]


NOTHING_HELD = Holdings(frozenset(), frozenset())


def holdings_of(service: Object) -> Holdings:
    return Holdings(frozenset(_addresses_of(service["spec"])), frozenset(_ports_of(service["spec"])))


class Allocator:
    """Addresses and ports held by stored Services and by writes that are under way."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self.ranges = Ranges(ipaddress.ip_network(settings.service_cluster_ip_range))
        self._port_first, self._port_last = settings.service_node_port_range
        self._rng = rng
        self._addresses: set[str] = set()
        self._ports: set[tuple[str, int]] = set()
        self._family = _FAMILY[self.ranges.primary.version]
        self.foreign: set[str] = set()
        """Addresses of IPAddress objects that others have made: users, or servers that share the storage."""
        self.claimed_ports: set[tuple[str, int]] = set()
        """Ports that some server has claimed, where several share the storage."""
        self.is_told = False
        """Whether `changed` is called for every Service that is written; what writes release is then left to it."""
        self._other_family = "IPv6" if self._family == "IPv4" else "IPv4"
        band = static_band(self._port_last - self._port_first + 1, PORT_BAND)
        self._port_dynamic: int = min(self._port_first + band, self._port_last)

    def hold(self, service: Object) -> None:
        """Take up what a stored Service holds."""
        self._addresses |= _addresses_of(service["spec"])
        self._ports |= _ports_of(service["spec"])

    def release(self, service: Object) -> None:
        """Give back what a removed Service held; once somebody tells of changes, that does it."""
        if not self.is_told:
            self.changed(holdings_of(service), NOTHING_HELD)

    def changed(self, before: Holdings, now: Holdings) -> None:
        """A stored Service, whoever wrote it, holds something else than before."""
        self._addresses -= before.addresses - now.addresses
        self._ports -= before.ports - now.ports
        self._addresses |= now.addresses
        self._ports |= now.ports
        self.ranges.came_free()

    def addresses_held(self) -> Iterator[tuple[str, int, int]]:
        """(network, addresses taken, addresses free) of every range."""
        taken = self._addresses | self.foreign
        for network, usable in self.ranges.sizes():
            held = sum(1 for address in taken if ipaddress.ip_address(address) in network)
            yield str(network), held, max(usable - held, 0)

    def ports_held(self) -> tuple[int, int]:
        """(node ports taken, free), whatever their protocols."""
        taken = len({port for _, port in self._ports | self.claimed_ports})
        return taken, self._port_last - self._port_first + 1 - taken

    def _is_taken(self, address: str) -> bool:
        return address in self._addresses or address in self.foreign

    def allocate(self, service: Object, old: Object | None, *, dry_run: bool) -> Finish:
        """Give a new or changed Service what it needs, written into it. Raises Invalid if it asks for what cannot be had."""
        spec, name = service["spec"], service["metadata"].get("name", "")
        old_spec = old["spec"] if old is not None else {}
        held_addresses, held_ports = _addresses_of(old_spec), _ports_of(old_spec)
        taken_addresses: set[str] = set()
        taken_ports: set[tuple[str, int]] = set()
        try:
            self._init_families(spec, name)
            if needs_cluster_ip(spec):
                self._take_addresses(spec, name, held_addresses, taken_addresses, dry_run)
            if needs_node_ports(spec):
                self._take_ports(spec, name, held_ports, taken_ports)
            if needs_health_check_port(spec):
                self._take_health_port(spec, name, held_ports, taken_ports)
        except ApiError:
            self._addresses -= taken_addresses
            self._ports -= taken_ports
            raise

        def finish(succeeded: bool) -> None:
            if dry_run or not succeeded:
                self._addresses -= taken_addresses
                self._ports -= taken_ports
            elif not self.is_told:
                self._addresses -= held_addresses - _addresses_of(spec)
                self._ports -= held_ports - _ports_of(spec)
            self.ranges.came_free()

        return finish

    def _init_families(self, spec: Object, name: str) -> None:
        """ipFamilyPolicy and ipFamilies, as far as the client left them open."""
        if spec.get("type") == "ExternalName":
            return
        errors: list[FieldError] = []
        check_cluster_ips(spec, errors)
        if errors:
            raise invalid_kind("", "Service", name, errors)
        families, policy = list(spec.get("ipFamilies") or ()), spec.get("ipFamilyPolicy")
        if is_headless(spec) and not spec.get("selector"):
            if policy is None:
                policy = "SingleStack" if len(families) == 1 else "RequireDualStack"
            families = families or [self._family]
            if policy != "SingleStack" and len(families) == 1:
                families.append("IPv6" if families[0] == "IPv4" else "IPv4")
            spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families
            return
        wants_dual = policy == "RequireDualStack" or len(families) > 1 or len(spec.get("clusterIPs") or ()) > 1
        if wants_dual and policy != "PreferDualStack":
            detail = "this cluster is not configured for dual-stack services"
            errors.append(invalid_value("spec.ipFamilyPolicy", policy, detail))
        for i, family in enumerate(families):
            if family != self._family:
                errors.append(invalid_value(f"spec.ipFamilies[{i}]", family, "not configured on this cluster"))
        for i, address in enumerate(spec.get("clusterIPs") or ()):
            if address != "None" and family_of(address) != self._family:
                detail = f"{family_of(address)} is not configured on this cluster"
                errors.append(invalid_value(f"spec.clusterIPs[{i}]", spec["clusterIPs"], detail))
        if errors:
            raise invalid_kind("", "Service", name, errors)
        spec["ipFamilyPolicy"] = policy or "SingleStack"
        spec["ipFamilies"] = families or [self._family]

    def _take_addresses(self, spec: Object, name: str, held: set[str], taken: set[str], dry_run: bool) -> None:
        addresses = list(spec.get("clusterIPs") or ())
        if is_headless(spec):
            return
        if not addresses:
            address = self._free_address()
            taken.add(address)
            self._addresses.add(address)
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
            return
        for address in addresses:
            if address in held:
                continue
            complaint = self._address_complaint(address, dry_run)
            if complaint:
                detail = f"failed to allocate IP {address}: {complaint}"
                raise invalid_kind("", "Service", name, [invalid_value("spec.clusterIPs", addresses, detail)])
            taken.add(address)
            self._addresses.add(address)

    def _address_complaint(self, address: str, dry_run: bool) -> str:
        if not self.ranges.holds(address):
            if not dry_run:  # the allocator of all ranges is asked first, and finds none that fits
                return "the provided network does not match the current range"
            return f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {self.ranges.primary}"
        return "provided IP is already allocated" if self._is_taken(address) else ""

    def _free_address(self) -> str:
        address = self.ranges.free(self._is_taken, self._rng)
        if address is None:
            raise InternalError("failed to allocate a serviceIP: range is full")
        return address

    def _take_ports(self, spec: Object, name: str, held: set[tuple[str, int]], taken: set[tuple[str, int]]) -> None:
        by_port: dict[int, int] = {}  # two protocols of one port share the number
        ports = spec.get("ports") or []
        for i, port in enumerate(ports):
            protocol, number = port.get("protocol", ""), port.get("port", 0)
            wanted = port.get("nodePort", 0)
            if not wanted:
                later = next((p["nodePort"] for p in ports[i:] if p.get("port") == number and p.get("nodePort")), 0)
                wanted = by_port.get(number) or later
            if not wanted:
                wanted = self._free_port(protocol, ports)
                self._ports.add((protocol, wanted))
                taken.add((protocol, wanted))
            elif (protocol, wanted) not in held and (protocol, wanted) not in taken:
                complaint = self._port_complaint(protocol, wanted)
                if complaint:
                    raise invalid_kind("", "Service", name, [invalid_value(f"spec.ports[{i}].nodePort", wanted, complaint)])
                self._ports.add((protocol, wanted))
                taken.add((protocol, wanted))
            port["nodePort"] = wanted
            by_port.setdefault(number, wanted)

    def _take_health_port(self, spec: Object, name: str, held: set[tuple[str, int]], taken: set[tuple[str, int]]) -> None:
        wanted = spec.get("healthCheckNodePort", 0)
        if not wanted:
            wanted = self._free_port("TCP", [])
        elif ("TCP", wanted) in held:
            return
        elif complaint := self._port_complaint("TCP", wanted):
            detail = f"failed to allocate requested HealthCheck NodePort {wanted}: {complaint}"
            raise InternalError(f"Internal error occurred: {detail}")
        spec["healthCheckNodePort"] = wanted
        self._ports.add(("TCP", wanted))
        taken.add(("TCP", wanted))

    def _port_complaint(self, protocol: str, port: int) -> str:
        if not self._port_first <= port <= self._port_last:
            return f"provided port is not in the valid range. The range of valid ports is {self._port_first}-{self._port_last}"
        return "provided port is already allocated" if self._is_port_taken(protocol, port) else ""

    def _is_port_taken(self, protocol: str, port: int) -> bool:
        return (protocol, port) in self._ports or (protocol, port) in self.claimed_ports

    def _free_port(self, protocol: str, ports: list[Object]) -> int:
        reserved = {p["nodePort"] for p in ports if p.get("nodePort")}
        for _ in range(RANDOM_TRIES):
            port: int = self._rng.randint(self._port_dynamic, self._port_last)
            if not self._is_port_taken(protocol, port) and port not in reserved:
                return port
        for port in (*range(self._port_dynamic, self._port_last + 1), *range(self._port_first, self._port_dynamic)):
            if not self._is_port_taken(protocol, port) and port not in reserved:
                return port
        raise InternalError("failed to allocate a nodePort: range is full")


def _addresses_of(spec: Object) -> set[str]:
    return {address for address in spec.get("clusterIPs") or () if address != "None"}


def _ports_of(spec: Object) -> set[tuple[str, int]]:
    ports = {(port.get("protocol", ""), port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        ports.add(("TCP", spec["healthCheckNodePort"]))
    return ports

"""What the cluster's names mean. Pure: Services and EndpointSlices in, records out; no wire format and no I/O here.

Follows the Kubernetes DNS-Based Service Discovery specification 1.1.0, and CoreDNS' kubernetes plugin where that leaves room (names of
endpoints without a hostname, pod names, SRV weights, the SOA). Records of a Service are computed when it changes, not when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object

from ..table import HEADLESS

SRV_WEIGHT_TOTAL = 100
SCHEMA_VERSION = "1.1.0"


class Record(NamedTuple):
    """One resource record without its TTL: lower-case absolute owner name (no final dot), type, and data in presentation form."""

    name: str
    type: str
    data: str


@dataclass(frozen=True)
class Answer:
    """What a question gets: `exists` False is NXDOMAIN, True without records NODATA; `alias` is a name outside the zone to follow."""

    records: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    exists: bool = True
    alias: str = ""


NXDOMAIN = Answer(exists=False)
NODATA = Answer()


@dataclass
class ServiceRecords:
    """All names that one Service gives: owner name → type → records, the reverse names among them."""

    names: dict[str, dict[str, list[Record]]] = field(default_factory=dict)

    def add(self, name: str, rtype: str, data: str) -> None:
        records = self.names.setdefault(name, {}).setdefault(rtype, [])
        record = Record(name, rtype, data)
        if record not in records:
            records.append(record)


def reverse_name(ip: str) -> str:
    return ip_address(ip).reverse_pointer


def service_records(service: Object, slices: Iterable[Object], domain: str) -> ServiceRecords:
    """The records of one Service."""
    meta, spec = service["metadata"], service["spec"]
    base = f"{meta['name']}.{meta['namespace']}.svc.{domain}"
    out = ServiceRecords()
    if spec.get("type") == "ExternalName":
        out.add(base, "CNAME", spec["externalName"].rstrip(".").lower())
    elif spec.get("clusterIP") == HEADLESS:
        _add_headless(out, base, slices)
    elif spec.get("clusterIP"):
        _add_cluster_ip(out, base, spec)
    return out


def _add_cluster_ip(out: ServiceRecords, base: str, spec: Object) -> None:
    for ip in spec.get("clusterIPs") or (spec["clusterIP"],):
        out.add(base, "A" if isinstance(ip_address(ip), IPv4Address) else "AAAA", ip)
        out.add(reverse_name(ip), "PTR", base)
    for port in spec.get("ports") or ():
        _add_srv(out, base, port, SRV_WEIGHT_TOTAL, base)


def _add_headless(out: ServiceRecords, base: str, slices: Iterable[Object]) -> None:
    out.names.setdefault(base, {})
    for item in slices:
        rtype = {"IPv4": "A", "IPv6": "AAAA"}.get(item.get("addressType", ""))
        ready = [e for e in item.get("endpoints") or () if (e.get("conditions") or {}).get("ready", True) is not False]
        weight = max(1, SRV_WEIGHT_TOTAL // max(1, len(ready)))
        for endpoint in ready if rtype else ():
            for ip in endpoint["addresses"]:
                target = f"{endpoint.get('hostname') or ip.replace('.', '-').replace(':', '-')}.{base}"
                out.add(base, rtype or "A", ip)
                out.add(target, rtype or "A", ip)
                out.add(reverse_name(ip), "PTR", target)
                for port in item.get("ports") or ():
                    _add_srv(out, base, port, weight, target)


def _add_srv(out: ServiceRecords, base: str, port: Object, weight: int, target: str) -> None:
    data = f"0 {weight} {port['port']} {target}"
    out.add(base, "SRV", data)
    if port.get("name"):
        out.add(f"_{port['name']}._{(port.get('protocol') or 'TCP').lower()}.{base}", "SRV", data)


class Zone:
    """The cluster domain as a whole. The owner feeds it changes; `lookup` answers questions."""

    def __init__(self, domain: str) -> None:
        self.domain = domain.rstrip(".").lower()
        self.serial = 1
        self.server_ip = ""
        self._services: dict[Key, ServiceRecords] = {}
        self._names: dict[str, dict[Key, dict[str, list[Record]]]] = {}
        self._namespaces: set[str] = set()

    def put(self, key: Key, records: ServiceRecords | None) -> None:
        """Replace (or with None remove) what a Service says."""
        old = self._services.pop(key, None)
        for name in old.names if old else ():
            by_service = self._names[name]
            del by_service[key]
            if not by_service:
                del self._names[name]
        if records is not None:
            self._services[key] = records
            for name, by_type in records.names.items():
                self._names.setdefault(name, {})[key] = by_type
        self.serial += 1

    def set_namespaces(self, names: Iterable[str]) -> None:
        self._namespaces = set(names)
        self.serial += 1

    def covers(self, name: str) -> bool:
        """True for names that are answered here and never asked upstream."""
        return name == self.domain or name.endswith("." + self.domain) or (name.endswith(".in-addr.arpa") and name in self._names)

    def lookup(self, name: str, rtype: str) -> Answer:
        """Answer a question; `name` is lower case without the final dot."""
        found = self._names.get(name)
        if found is not None:
            return self._answer(found, rtype)
        return self._fixed(name, rtype)

    def soa(self) -> Record:
        data = f"ns.dns.{self.domain} hostmaster.{self.domain} {self.serial} 7200 1800 86400 5"
        return Record(self.domain, "SOA", data)

    def _answer(self, found: Mapping[Key, Mapping[str, list[Record]]], rtype: str) -> Answer:
        for by_type in found.values():
            alias = by_type.get("CNAME")
            if alias:
                return self._alias(alias, rtype)
        records = [r for by_type in found.values() for t, rs in by_type.items() if rtype in (t, "ANY") for r in rs]
        targets = {r.data.rsplit(" ", 1)[1] for r in records if r.type == "SRV"}
        additional = [r for target in sorted(targets) for r in self._addresses(target)]
        return Answer(records, additional)

    def _alias(self, alias: list[Record], rtype: str) -> Answer:
        target = alias[0].data
        if rtype in ("CNAME", "ANY"):
            return Answer(alias)
        if self.covers(target):
            inner = self.lookup(target, rtype)
            return Answer([*alias, *inner.records], inner.additional, alias=inner.alias)
        return Answer(alias, alias=target)

    def _addresses(self, name: str) -> Iterable[Record]:
        for by_type in self._names.get(name, {}).values():
            yield from by_type.get("A", ())
            yield from by_type.get("AAAA", ())

    def _fixed(self, name: str, rtype: str) -> Answer:
        """Names that no Service gives: the apex, the name server, the version, namespaces and pods' dashed addresses."""
        if name == self.domain:
            apex = {"SOA": self.soa(), "NS": Record(name, "NS", f"ns.dns.{self.domain}")}
            return Answer([apex[rtype]] if rtype in apex else ())
        labels = name.removesuffix("." + self.domain).split(".")
        if labels == ["ns", "dns"]:
            return Answer([Record(name, "A", self.server_ip)] if self.server_ip and rtype in ("A", "ANY") else ())
        if labels == ["dns-version"]:
            return Answer([Record(name, "TXT", f'"{SCHEMA_VERSION}"')] if rtype in ("TXT", "ANY") else ())
        if labels in (["svc"], ["pod"], ["dns"]):
            return NODATA
        if len(labels) == 2 and labels[1] in ("svc", "pod"):
            return NODATA if labels[0] in self._namespaces else NXDOMAIN
        if len(labels) == 3 and labels[2] == "pod" and labels[1] in self._namespaces:
            return self._pod(name, labels[0], rtype)
        return NODATA if self._is_inner(name) else NXDOMAIN

    def _pod(self, name: str, dashed: str, rtype: str) -> Answer:
        try:
            ip = str(IPv4Address(dashed.replace("-", ".")))
        except ValueError:
            return NXDOMAIN
        return Answer([Record(name, "A", ip)] if rtype in ("A", "ANY") else ())

    def _is_inner(self, name: str) -> bool:
        """Whether a longer name exists below this one, as `_tcp.web.default.svc` has when a port is named."""
        if not name.startswith("_"):
            return False
        return any(known.endswith("." + name) for known in self._names)

"""EndpointSlices. Imitates ValidateEndpointSlice(Update) and SetDefaults_EndpointPort."""

from __future__ import annotations

import re

from kubecosm.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_many
from kubecosm.api.resources import Object

from ..core.containers import PROTOCOLS
from ..formats import (
    Errors,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_fully_qualified_domain,
    check_immutable,
    check_non_special_ip,
    check_qualified_name,
    parse_ip,
)
from ..meta import check_labels
from ..strategy import Strategy

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
ADDRESSES_MAX = 100
ENDPOINTS_MAX = 1000
PORTS_MAX = 20000
ZONE_HINTS_MAX = 8
TOPOLOGY_LABELS_MAX = 16
_ZONE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]*")


class EndpointSliceStrategy(Strategy):
    """An EndpointSlice."""

    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        for port in obj.get("ports") or ():
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        changed = any(obj.get(f) != old.get(f) for f in ("endpoints", "ports", "addressType"))
        metadata, before = obj["metadata"], old["metadata"]
        changed = changed or metadata.get("labels") != before.get("labels")
        metadata["generation"] = before.get("generation", 0) + changed

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        kind = obj.get("addressType", "")
        if kind not in ADDRESS_TYPES:
            errors.append(not_supported("addressType", kind, ADDRESS_TYPES) if kind else required("addressType"))
        endpoints = obj.get("endpoints") or ()
        if len(endpoints) > ENDPOINTS_MAX:
            errors.append(too_many("endpoints", len(endpoints), ENDPOINTS_MAX))
            return errors
        for i, endpoint in enumerate(endpoints):
            _check_endpoint(endpoint, kind, f"endpoints[{i}]", errors)
        _check_ports(obj.get("ports") or [], errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        check_immutable(obj.get("addressType", ""), old.get("addressType", ""), "addressType", errors)
        return errors


def _check_endpoint(endpoint: Object, kind: str, path: str, errors: Errors) -> None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > ADDRESSES_MAX:
        errors.append(too_many(f"{path}.addresses", len(addresses), ADDRESSES_MAX))
    for i, address in enumerate(addresses):
        _check_address(address, kind, f"{path}.addresses[{i}]", errors)
    if "nodeName" in endpoint:
        check_dns1123_subdomain(endpoint["nodeName"], f"{path}.nodeName", errors)
    topology = endpoint.get("deprecatedTopology") or {}
    if len(topology) > TOPOLOGY_LABELS_MAX:
        errors.append(too_many(f"{path}.deprecatedTopology", len(topology), TOPOLOGY_LABELS_MAX))
    check_labels(topology, f"{path}.deprecatedTopology", errors)
    if "hostname" in endpoint:
        check_dns1123_label(endpoint["hostname"], f"{path}.hostname", errors)
    zones = (endpoint.get("hints") or {}).get("forZones") or ()
    if len(zones) > ZONE_HINTS_MAX:
        errors.append(too_many(f"{path}.hints.forZones", len(zones), ZONE_HINTS_MAX))
    for i, zone in enumerate(zones):
        name, where = zone.get("name", ""), f"{path}.hints.forZones[{i}].name"
        if not name:
            errors.append(required(where))
        elif not _ZONE.fullmatch(name):
            errors.append(invalid_value(where, name, "must be a valid label value"))


def _check_address(address: str, kind: str, path: str, errors: Errors) -> None:
    if kind == "FQDN":
        check_fully_qualified_domain(address, path, errors)
    elif kind in ("IPv4", "IPv6"):
        ip = parse_ip(address)
        if ip is None or f"IPv{ip.version}" != kind:
            errors.append(invalid_value(path, address, f"must be a valid {kind} address"))
        check_non_special_ip(address, path, errors)


def _check_ports(ports: list[Object], errors: Errors) -> None:
    if len(ports) > PORTS_MAX:
        errors.append(too_many("ports", len(ports), PORTS_MAX))
        return
    names: set[str] = set()
    for i, port in enumerate(ports):
        path, name, protocol = f"ports[{i}]", port.get("name") or "", port.get("protocol")
        if name:
            check_dns1123_label(name, f"{path}.name", errors)
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
        if protocol is None:
            errors.append(required(f"{path}.protocol"))
        elif protocol not in PROTOCOLS:
            errors.append(not_supported(f"{path}.protocol", protocol, PROTOCOLS))
        if "appProtocol" in port:
            check_qualified_name(port["appProtocol"], f"{path}.appProtocol", errors)

"""Endpoints. Imitates ValidateEndpoints and the canonical packing of subsets (pkg/api/v1/endpoints RepackSubsets)."""

from __future__ import annotations

from typing import Any

import orjson

from kubecosm.api.field import FieldError, required
from kubecosm.api.resources import Object

from ..formats import (
    Errors,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_ip,
    check_non_special_ip,
    check_port,
    check_qualified_name,
)
from ..strategy import Strategy
from .containers import check_protocol


class EndpointsStrategy(Strategy):
    """An Endpoints object."""

    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                if not port.get("protocol"):
                    port["protocol"] = "TCP"

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        for i, subset in enumerate(obj.get("subsets") or ()):
            _check_subset(subset, f"subsets[{i}]", errors)
        return errors

    def canonicalize(self, obj: Object) -> None:
        if obj.get("subsets"):
            obj["subsets"] = repack(obj["subsets"])


def _check_subset(subset: Object, path: str, errors: Errors) -> None:
    ports = subset.get("ports") or ()
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for field in ("addresses", "notReadyAddresses"):
        for i, address in enumerate(subset.get(field) or ()):
            _check_address(address, f"{path}.{field}[{i}]", errors)
    for i, port in enumerate(ports):
        where, name = f"{path}.ports[{i}]", port.get("name")
        if name:
            check_dns1123_label(name, f"{where}.name", errors)
        elif len(ports) > 1:
            errors.append(required(f"{where}.name"))
        check_port(port.get("port", 0), f"{where}.port", errors)
        check_protocol(port.get("protocol", ""), f"{where}.protocol", errors)
        if "appProtocol" in port:
            check_qualified_name(port["appProtocol"], f"{where}.appProtocol", errors)


def _check_address(address: Object, path: str, errors: Errors) -> None:
    check_ip(address.get("ip", ""), f"{path}.ip", errors)
    if address.get("hostname"):
        check_dns1123_label(address["hostname"], f"{path}.hostname", errors)
    if "nodeName" in address:
        check_dns1123_subdomain(address["nodeName"], f"{path}.nodeName", errors)
    check_non_special_ip(address.get("ip", ""), f"{path}.ip", errors)


def repack(subsets: list[Object]) -> list[Object]:
    """Merge subsets with equal ports and equal addresses, in an order that does not depend on the input's."""
    ports_of: dict[bytes, tuple[Object, dict[bytes, Object]]] = {}
    ready: dict[bytes, bool] = {}
    for subset in subsets:
        ports = {_key(port): port for port in subset.get("ports") or ()}
        for field in ("addresses", "notReadyAddresses"):
            for address in subset.get(field) or ():
                key = _key(address)
                ports_of.setdefault(key, (address, {}))[1].update(ports)
                ready[key] = ready.get(key, True) and field == "addresses"
    packed: dict[tuple[bytes, ...], dict[str, Any]] = {}
    for key in sorted(ports_of, key=lambda k: (ports_of[k][0].get("ip", ""), k)):
        address, ports = ports_of[key]
        subset = packed.setdefault(tuple(sorted(ports)), {"addresses": [], "notReadyAddresses": [], "ports": list(ports.values())})
        subset["addresses" if ready[key] else "notReadyAddresses"].append(address)
    return [{field: value for field, value in packed[key].items() if value} for key in sorted(packed)]


def _key(value: Object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

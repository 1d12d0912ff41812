"""The IPAddress that says which Service has an address, and what to do about one that says something else. Pure.

Imitates pkg/registry/core/service/ipallocator (newIPAddress) and the repair controller of ClusterIPs.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal

from kubecosm.api.names import IP_ALLOCATOR, LABEL_IP_FAMILY, LABEL_IP_MANAGED_BY
from kubecosm.api.resources import IPADDRESSES, Object

Owner = tuple[str, str]
"""(namespace, name) of a Service."""
Repair = Literal["", "create", "replace", "delete"]


def addresses_of(service: Object) -> tuple[str, ...]:
    return tuple(address for address in service["spec"].get("clusterIPs") or () if address != "None")


def owner_of(service: Object) -> Owner:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def new_record(address: str, owner: Owner) -> Object:
    """The IPAddress of a Service's address."""
    namespace, name = owner
    labels = {LABEL_IP_FAMILY: f"IPv{ip_address(address).version}", LABEL_IP_MANAGED_BY: IP_ALLOCATOR}
    return {
        "kind": IPADDRESSES.kind, "apiVersion": IPADDRESSES.api_version, "metadata": {"name": address, "labels": labels},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    }  # fmt: skip


def is_ours(record: Object) -> bool:
    """Whether this server made it for a Service; others are their makers' business and only keep the address from being given out."""
    return (record["metadata"].get("labels") or {}).get(LABEL_IP_MANAGED_BY) == IP_ALLOCATOR


def repair(record: Object | None, owner: Owner | None) -> Repair:
    """What brings the record of one address in line with the Service that has it."""
    if record is None:
        return "create" if owner is not None else ""
    if owner is None:
        return "delete" if is_ours(record) else ""
    parent = record["spec"]["parentRef"]
    is_right = parent.get("resource") == "services" and (parent.get("namespace"), parent["name"]) == owner
    return "" if is_right else "replace"

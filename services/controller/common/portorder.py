"""The order in which Kubernetes lists the ports of EndpointSlices and of Endpoints: that of hashes over how Go prints them.

Imitates portsInOrder of k8s.io/endpointslice/util and portsByHash of pkg/api/v1/endpoints, which take FNV-1a over k8s.io/utils/dump.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from kubecosm.api.resources import Object

FNV_OFFSET, FNV_PRIME, FNV_MASK = 0x6C62272E07BB014262B821756295C58D, 0x0000000001000000000000000000013B, (1 << 128) - 1
KNOWN_PORTS_MAX = 4096
"""How many ports' places are remembered; a cluster has far fewer different ones."""


class Port(NamedTuple):
    """A port as both resources have it."""

    name: str
    number: int | None
    protocol: str
    app_protocol: str | None

    @classmethod
    def of(cls, port: Object) -> Port:
        return cls(port.get("name") or "", port.get("port"), port.get("protocol") or "TCP", port.get("appProtocol"))


def fnv128a(data: bytes) -> int:
    """FNV-1a of 128 bits."""
    found = FNV_OFFSET
    for byte in data:
        found = ((found ^ byte) * FNV_PRIME) & FNV_MASK
    return found


@lru_cache(KNOWN_PORTS_MAX)
def place_in_slice(port: Port) -> int:
    """discovery/v1's EndpointPort, all of whose fields are pointers."""
    number = "<nil>" if port.number is None else port.number
    fields = f"Name:(*string){port.name} Protocol:(*v1.Protocol){port.protocol} Port:(*int32){number}"
    return fnv128a(f"(v1.EndpointPort){{{fields} AppProtocol:(*string){_or_nil(port.app_protocol)}}}".encode())


@lru_cache(KNOWN_PORTS_MAX)
def place_in_endpoints(port: Port) -> int:
    """core/v1's EndpointPort."""
    fields = f"Name:(string){port.name} Port:(int32){port.number} Protocol:(v1.Protocol){port.protocol}"
    return fnv128a(f"(v1.EndpointPort){{{fields} AppProtocol:(*string){_or_nil(port.app_protocol)}}}".encode())


def sorted_for_slice(ports: Iterable[Object]) -> list[Object]:
    """The ports of an EndpointSlice, in order."""
    found = list(ports)
    return sorted(found, key=lambda port: place_in_slice(Port.of(port))) if len(found) > 1 else found


def _or_nil(text: str | None) -> str:
    return "<nil>" if text is None else text

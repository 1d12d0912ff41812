"""The routing table: what Services and EndpointSlices mean for traffic. Pure functions from objects to frozen rows.

Imitates pkg/proxy (ServicePortMap, EndpointsMap and topology.go's CategorizeEndpoints): ready endpoints first, and when there is none
the terminating ones that still serve; a Local traffic policy keeps to the node's own endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object

Protocol = Literal["TCP", "UDP"]
Front = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"]

PROTOCOLS: dict[str, Protocol] = {"TCP": "TCP", "UDP": "UDP"}
"""What can be proxied; SCTP cannot."""
HEADLESS = "None"
AFFINITY_TIMEOUT_SECONDS_DEFAULT = 10800


class Backend(NamedTuple):
    """One address that traffic can be sent to, and the node it lives on ("" if unknown)."""

    address: str
    port: int
    node: str


class Endpoint(NamedTuple):
    """A backend with the conditions that decide whether it gets traffic."""

    backend: Backend
    ready: bool
    serving: bool
    terminating: bool


class Address(NamedTuple):
    """Where the proxy listens; an empty ip stands for the addresses of nodes (NodePort)."""

    ip: str
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """All that is needed to serve one listening address."""

    service: Key
    port_name: str
    front: Front
    backends: tuple[Backend, ...]
    local_only: bool
    affinity_seconds: int

    def backends_on(self, node: str) -> tuple[Backend, ...]:
        """The backends that a connection arriving at `node` may use."""
        if not self.local_only or not node:
            return self.backends
        return tuple(backend for backend in self.backends if backend.node == node)


def endpoints_by_port(slices: Iterable[Object]) -> dict[tuple[str, str], list[Endpoint]]:
    """Endpoints of a Service from its EndpointSlices, by (port name, protocol); duplicates keep the ready one."""
    found: dict[tuple[str, str], dict[Backend, Endpoint]] = {}
    for item in slices:
        if item.get("addressType") != "IPv4":
            continue
        for port in item.get("ports") or ():
            if port.get("port") is None:
                continue
            row = found.setdefault((port.get("name") or "", port.get("protocol") or "TCP"), {})
            for endpoint in item.get("endpoints") or ():
                entry = _endpoint(endpoint, port["port"])
                known = row.get(entry.backend)
                if known is None or (entry.ready and not known.ready):
                    row[entry.backend] = entry
    return {key: list(row.values()) for key, row in found.items()}


def _endpoint(raw: Object, port: int) -> Endpoint:
    conditions = raw.get("conditions") or {}
    ready = conditions.get("ready", True) is not False
    serving = conditions.get("serving")
    return Endpoint(
        Backend(raw["addresses"][0], port, raw.get("nodeName") or ""),
        ready=ready,
        serving=ready if serving is None else serving,
        terminating=bool(conditions.get("terminating")),
    )


def usable(endpoints: Sequence[Endpoint]) -> tuple[Backend, ...]:
    """The backends that get traffic: the ready ones, or else those that terminate but still serve."""
    ready = tuple(e.backend for e in endpoints if e.ready)
    return ready or tuple(e.backend for e in endpoints if e.serving and e.terminating)


def routes_of(service: Object, slices: Iterable[Object]) -> dict[Address, Route]:
    """The listening addresses of one Service; none without backends: the kernel then refuses connections, like kube-proxy's REJECT."""
    spec = service["spec"]
    cluster_ip = spec.get("clusterIP") or ""
    if spec.get("type") == "ExternalName" or not cluster_ip or cluster_ip == HEADLESS:
        return {}
    by_port = endpoints_by_port(slices)
    routes: dict[Address, Route] = {}
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        backends = usable(by_port.get((port.get("name") or "", protocol), ()))
        if not backends or protocol not in PROTOCOLS:
            continue
        for front, ip, number in _fronts(service, port):
            routes[Address(ip, number, PROTOCOLS[protocol])] = _route(service, port, front, backends)
    return routes


def _route(service: Object, port: Object, front: Front, backends: tuple[Backend, ...]) -> Route:
    spec, meta = service["spec"], service["metadata"]
    policy = spec.get("internalTrafficPolicy") if front == "ClusterIP" else spec.get("externalTrafficPolicy")
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = config.get("timeoutSeconds") or AFFINITY_TIMEOUT_SECONDS_DEFAULT
    key = Key(meta.get("namespace", ""), meta["name"])
    return Route(key, port.get("name") or "", front, backends, policy == "Local", affinity)


def _fronts(service: Object, port: Object) -> Iterable[tuple[Front, str, int]]:
    spec = service["spec"]
    for ip in spec.get("clusterIPs") or (spec["clusterIP"],):
        if ":" not in ip:
            yield "ClusterIP", ip, port["port"]
    for ip in spec.get("externalIPs") or ():
        yield "ExternalIP", ip, port["port"]
    if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
        yield "NodePort", "", port["nodePort"]
    for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if ingress.get("ip"):
            yield "LoadBalancer", ingress["ip"], port["port"]

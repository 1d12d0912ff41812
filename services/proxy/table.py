"""The routing table: what Services and EndpointSlices mean for traffic. Pure functions from objects to frozen rows.

Imitates pkg/proxy (ServicePortMap, EndpointsMap and topology.go's CategorizeEndpoints): ready endpoints first, and when there is none
the terminating ones that still serve; a Local traffic policy keeps to the node's own endpoints; hints keep traffic in its node or zone
if every ready endpoint has some and one is meant for that node or zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()
    """Whose traffic it is meant for, if that was said."""


class Place(NamedTuple):
    """Where traffic comes from; empty what is unknown."""

    node: str = ""
    zone: str = ""


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
    local: Mapping[str, tuple[Backend, ...]] = field(default_factory=dict)
    by_node: Mapping[str, tuple[Backend, ...]] = field(default_factory=dict)
    by_zone: Mapping[str, tuple[Backend, ...]] = field(default_factory=dict)

    @property
    def asks_place(self) -> bool:
        """Whether it matters where traffic comes from."""
        return self.local_only or bool(self.by_node or self.by_zone)

    def backends_for(self, place: Place) -> tuple[Backend, ...]:
        """The backends that a connection from `place` may use."""
        if self.local_only:
            return self.local.get(place.node, ()) if place.node else self.backends
        return self.by_node.get(place.node) or self.by_zone.get(place.zone) or self.backends


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
    hints = raw.get("hints") or {}
    return Endpoint(
        Backend(raw["addresses"][0], port, raw.get("nodeName") or ""),
        ready=ready,
        serving=ready if serving is None else serving,
        terminating=bool(conditions.get("terminating")),
        for_zones=_names(hints.get("forZones")),
        for_nodes=_names(hints.get("forNodes")),
    )


def _names(hints: Iterable[Object] | None) -> tuple[str, ...]:
    return tuple(hint["name"] for hint in hints or ())


def usable(endpoints: Sequence[Endpoint]) -> tuple[Backend, ...]:
    """The backends that get traffic: the ready ones, or else those that terminate but still serve."""
    ready = tuple(e.backend for e in endpoints if e.ready)
    return ready or tuple(e.backend for e in endpoints if e.serving and e.terminating)


def usable_by_node(endpoints: Iterable[Endpoint]) -> dict[str, tuple[Backend, ...]]:
    """Node → its own backends that get traffic there, by the same rule."""
    nodes: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        nodes.setdefault(endpoint.backend.node, []).append(endpoint)
    return {node: usable(own) for node, own in nodes.items()}


def _meant_for(hinted: Iterable[tuple[Backend, tuple[str, ...]]]) -> dict[str, tuple[Backend, ...]]:
    """Place → the backends meant for it; empty if one backend is meant for nowhere in particular."""
    found: dict[str, list[Backend]] = {}
    for backend, places in hinted:
        if not places:
            return {}
        for place in places:
            found.setdefault(place, []).append(backend)
    return {place: tuple(backends) for place, backends in found.items()}


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
        endpoints = by_port.get((port.get("name") or "", protocol), ())
        backends = usable(endpoints)
        if not backends or protocol not in PROTOCOLS:
            continue
        for front, ip, number in _fronts(service, port):
            routes[Address(ip, number, PROTOCOLS[protocol])] = _route(service, port, front, backends, endpoints)
    return routes


def _route(service: Object, port: Object, front: Front, backends: tuple[Backend, ...], endpoints: Sequence[Endpoint]) -> Route:
    spec, meta = service["spec"], service["metadata"]
    policy = spec.get("internalTrafficPolicy") if front == "ClusterIP" else spec.get("externalTrafficPolicy")
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = config.get("timeoutSeconds") or AFFINITY_TIMEOUT_SECONDS_DEFAULT
    key = Key(meta.get("namespace", ""), meta["name"])
    name = port.get("name") or ""
    if policy == "Local":
        return Route(key, name, front, backends, True, affinity, local=usable_by_node(endpoints))
    ready = [e for e in endpoints if e.ready]
    by_node = _meant_for((e.backend, e.for_nodes) for e in ready)
    by_zone = _meant_for((e.backend, e.for_zones) for e in ready)
    return Route(key, name, front, backends, False, affinity, by_node=by_node, by_zone=by_zone)


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

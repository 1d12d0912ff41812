"""The subsets of an Endpoints object: addresses that serve the same ports together, in one canonical layout.

Imitates RepackSubsets of pkg/api/v1/endpoints, but for the order of several subsets: theirs is that of their hashes, ours that of the
hashes of their ports.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.resources import Object

from .portorder import Port, place_in_endpoints

Identity = tuple[str, str]
"""IP and uid of the target: pods of a node's network may share an address."""


class Subsets:
    """Collects addresses port by port; `packed` says what came of it."""

    def __init__(self) -> None:
        self._addresses: dict[Identity, Object] = {}
        self._ready: dict[Port | None, dict[Identity, bool]] = {}

    def add(self, address: Object, port: Port | None, *, ready: bool) -> None:
        """One address serves a port (None: it has no ports at all). Said twice, not ready counts."""
        identity = address["ip"], (address.get("targetRef") or {}).get("uid") or ""
        self._addresses.setdefault(identity, address)
        states = self._ready.setdefault(port, {})
        states[identity] = ready and states.get(identity, True)

    def packed(self) -> list[Object]:
        """The subsets: ready and not ready addresses apart, each by IP and uid."""
        ports_of: dict[tuple[tuple[Identity, bool], ...], list[Port]] = {}
        for port, states in self._ready.items():
            ports = ports_of.setdefault(tuple(sorted(states.items())), [])
            if port is not None:
                ports.append(port)
        found = []
        for together, ports in ports_of.items():
            subset: Object = {}
            for field, wanted in (("addresses", True), ("notReadyAddresses", False)):
                if chosen := [self._addresses[identity] for identity, ready in together if ready is wanted]:
                    subset[field] = chosen
            if ports:
                subset["ports"] = [_body(port) for port in sorted(ports, key=place_in_endpoints)]
            found.append((min(map(place_in_endpoints, ports), default=0), subset))
        return [subset for _, subset in sorted(found, key=lambda pair: pair[0])]


def repacked(subsets: Iterable[Object]) -> list[Object]:
    """Subsets as somebody wrote them, in the canonical layout."""
    collected = Subsets()
    for subset in subsets:
        ports: list[Port | None] = [Port.of(port) for port in subset.get("ports") or ()]
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                for port in ports or [None]:
                    collected.add(address, port, ready=ready)
    return collected.packed()


def _body(port: Port) -> Object:
    """An unnamed port has no name at all in Endpoints."""
    body: Object = {"name": port.name} if port.name else {}
    body |= {"port": port.number, "protocol": port.protocol}
    return body if port.app_protocol is None else {**body, "appProtocol": port.app_protocol}

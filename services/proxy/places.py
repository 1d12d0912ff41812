"""Where a connection comes from: the node whose socket took it, or else the node whose pod or address opened it.

kube-proxy runs on every node and knows; this one serves all nodes of a host, so it looks at the client's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from .dialer import NodeAddress
from .table import Place

NOWHERE = Place()


class Places:
    """Finds nodes by address. `nodes` is the live table of nodes by name, owned by the caller, who tells when it changed."""

    def __init__(self, nodes: Mapping[str, NodeAddress]) -> None:
        self._nodes = nodes
        self._subnets: dict[int, dict[int, str]] | None = None
        """Prefix length → network → node; None: to be built anew."""

    def forget(self) -> None:
        """The table of nodes has changed."""
        self._subnets = None

    def place_of(self, node: str, client_ip: str) -> Place:
        """Where the client is; `node` is that of the socket it reached ("" if the socket is nobody's in particular)."""
        found = self._nodes.get(node or self._node_at(client_ip))
        return Place(found.name, found.zone) if found is not None else Place(node)

    def _node_at(self, client_ip: str) -> str:
        if self._subnets is None:
            self._subnets = self._build()
        try:
            number = int(IPv4Address(client_ip))
        except AddressValueError:
            return ""
        masked = ((length, number >> (32 - length)) for length in self._subnets)
        return next((node for length, prefix in masked if (node := self._subnets[length].get(prefix))), "")

    def _build(self) -> dict[int, dict[int, str]]:
        subnets: dict[int, dict[int, str]] = {}
        for node in self._nodes.values():
            for cidr in (node.ip, *node.pod_cidrs):
                if ":" not in cidr:
                    network = IPv4Network(cidr, strict=False)
                    length = network.prefixlen
                    subnets.setdefault(length, {})[int(network.network_address) >> (32 - length)] = node.name
        return dict(sorted(subnets.items(), reverse=True))

"""Which sockets a route becomes: Service addresses as they are, NodePorts once for each node address this proxy serves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .dialer import NodeAddress
from .listeners import Bind
from .table import Address, Route

LOCALHOST = "127.0.0.1"


def binds_of(
    routes: Mapping[Address, Route], nodes: Mapping[str, NodeAddress], *, node_addresses_max: int, single_node: str
) -> dict[Bind, Route]:
    """The sockets for the routes of one Service. `single_node` is the node of a proxy that serves one only, or ""."""
    return {
        bind: route
        for address, route in routes.items()
        for bind in ([Bind(address, single_node)] if address.ip else node_port_binds(address, nodes, node_addresses_max, single_node))
    }


def node_port_binds(address: Address, nodes: Mapping[str, NodeAddress], node_addresses_max: int, single_node: str) -> Iterator[Bind]:
    """One socket a node, so that a Local traffic policy knows the node; past the bound one socket for all addresses."""
    local = [node for node in nodes.values() if node.is_local]
    if len(local) > node_addresses_max:
        yield Bind(address, "")
        return
    for node in local:
        yield Bind(address._replace(ip=node.ip), node.name)
    if not single_node:
        yield Bind(address._replace(ip=LOCALHOST), "")

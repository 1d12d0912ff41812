"""Names and addresses of the nodes that a process hosts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from kubecosm.runtime.errors import StartupError

POD_SUBNET_BITS = 24


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node to host. `index` counts over the whole cluster."""

    index: int
    name: str
    ip: str
    pod_cidr: str


@dataclass(frozen=True, slots=True)
class NodeRanges:
    """The flags that decide: see Config."""

    count: int
    prefix: str
    node_cidr: str
    cluster_cidr: str
    first: int = 0
    only_name: str = ""
    only_ip: str = ""


def plan_nodes(ranges: NodeRanges) -> list[NodeSpec]:
    """Name, address and pod subnet of each node; StartupError if the ranges are too small or malformed."""
    if ranges.count < 0:
        raise StartupError("--nodes must not be negative")
    if (ranges.only_name or ranges.only_ip) and ranges.count != 1:
        raise StartupError("--hostname-override and --node-ip need --nodes=1")
    nodes, pods = _network(ranges.node_cidr, "--node-cidr"), _network(ranges.cluster_cidr, "--cluster-cidr")
    last = ranges.first + ranges.count
    if not ranges.only_ip and last + 1 >= nodes.num_addresses:
        raise StartupError(f"--node-cidr {ranges.node_cidr} has no room for {last} nodes; give a wider range")
    subnets = 2 ** max(0, POD_SUBNET_BITS - pods.prefixlen) if pods.prefixlen <= POD_SUBNET_BITS else 0
    if last > subnets:
        raise StartupError(f"--cluster-cidr {ranges.cluster_cidr} has room for {subnets} nodes of a /{POD_SUBNET_BITS} each, not {last}")
    return [_node(ranges, nodes, pods, index) for index in range(ranges.first, last)]


def _node(ranges: NodeRanges, nodes: IPv4Network, pods: IPv4Network, index: int) -> NodeSpec:
    name = ranges.only_name or f"{ranges.prefix}{index}"
    ip = ranges.only_ip or str(nodes.network_address + index + 1)
    subnet = pods.network_address + index * 2 ** (32 - POD_SUBNET_BITS)
    return NodeSpec(index, name, ip, f"{subnet}/{POD_SUBNET_BITS}")


def _network(text: str, flag: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as failure:
        raise StartupError(f"{flag} {text!r}: {failure}") from failure

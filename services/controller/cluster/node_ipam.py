"""Node IPAM controller: gives each node a range of pod addresses of its own.

Watches Nodes. Writes spec.podCIDR and spec.podCIDRs. Imitates the range allocator of pkg/controller/nodeipam. Leaves out dual stack.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key
from kubecosm.api.resources import NODES, Object
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done
from kubecosm.client.http import PatchType
from kubecosm.runtime.errors import StartupError

from ..config import Config

SPEC = ControllerSpec(
    name="node_ipam",
    primary=NODES,
    component="cidrAllocator",
    cares={NODES: lambda old, new: old["spec"].get("podCIDR") != new["spec"].get("podCIDR")},
    workers=32,
)


class Ranges:
    """Which of the cluster's equal ranges is whose; hands them out in order of address, each at most once."""

    def __init__(self, cluster_cidr: str, mask_size: int) -> None:
        """ValueError if the flags make no sense."""
        network = ipaddress.ip_network(cluster_cidr)
        if not network.prefixlen <= mask_size <= network.max_prefixlen:
            raise ValueError(f"ranges of /{mask_size} do not fit into {cluster_cidr}")
        self._network, self._mask_size = network, mask_size
        self._size = 1 << (network.max_prefixlen - mask_size)
        self._count = 1 << (mask_size - network.prefixlen)
        self._owners: dict[str, str] = {}
        self._by_node: dict[str, str] = {}
        self._next = 0

    def occupy(self, cidr: str, node: str) -> None:
        """Note a range that a node has already, whether one of ours or not."""
        self._owners[cidr] = node
        self._by_node[node] = cidr

    def allocate(self, node: str) -> str | None:
        """A free range for the node, the one it holds if it has one; None when all are taken."""
        if node in self._by_node:
            return self._by_node[node]
        for step in range(self._count):
            index = (self._next + step) % self._count
            cidr = f"{self._network.network_address + index * self._size}/{self._mask_size}"
            if cidr not in self._owners:
                self._next = index + 1
                self.occupy(cidr, node)
                return cidr
        return None

    def release(self, node: str) -> None:
        """The node is gone."""
        cidr = self._by_node.pop(node, None)
        if cidr is not None:
            del self._owners[cidr]


class NodeIpam:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    SPEC = SPEC

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._has_occupied = False

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        self._occupy_once(ctx.cache(NODES).list())
        node = ctx.cache(NODES).get(key)
        if node is None:
            self._ranges.release(key.name)
            return done()
        held = node["spec"].get("podCIDR")
        if held:
            self._ranges.occupy(held, key.name)
            return done()
        cidr = self._ranges.allocate(key.name)
        if cidr is None:
            ctx.recorder.event(node, NODES, "Normal", "CIDRNotAvailable", f"Node {key.name} status is now: CIDRNotAvailable")
            raise ReconcileError("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")
        patch = {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            ctx.expect_written(await ctx.client.patch(NODES, key.name, patch, patch_type=PatchType.STRATEGIC))
        except NotFound:
            self._ranges.release(key.name)
        return done()

    def _occupy_once(self, nodes: Iterable[Object]) -> None:
        """Before the first allocation all ranges in use must be known."""
        if not self._has_occupied:
            self._has_occupied = True
            for node in nodes:
                if cidr := node["spec"].get("podCIDR"):
                    self._ranges.occupy(cidr, node["metadata"]["name"])


def build(config: Config) -> NodeIpam:
    """StartupError if --cluster-cidr and --node-cidr-mask-size do not fit together."""
    try:
        return NodeIpam(Ranges(config.cluster_cidr, config.node_cidr_mask_size))
    except ValueError as error:
        raise StartupError(f"--cluster-cidr and --node-cidr-mask-size: {error}") from error

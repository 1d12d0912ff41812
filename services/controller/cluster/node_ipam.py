"""Node IPAM controller: gives each node a range of pod addresses of its own.

Watches Nodes. Writes spec.podCIDR and spec.podCIDRs. Imitates the range allocator of pkg/controller/nodeipam. Leaves out dual stack.
"""

from __future__ import annotations

import ipaddress

from kubecosm.api.errors import ApiError, NotFound, ServerTimeout
from kubecosm.api.meta import Key
from kubecosm.api.resources import NODES, Object
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done
from kubecosm.client.http import TRANSPORT_ERRORS, PatchType
from kubecosm.client.metrics import COUNTER, GAUGE, HISTOGRAM, Family
from kubecosm.runtime.errors import StartupError

from ..config import Config

PREFIX, _RANGE = "node_ipam_controller_", ("clusterCIDR",)
ALLOCATIONS = Family(PREFIX + "cidrset_cidrs_allocations_total", COUNTER, "Counter measuring total number of CIDR allocations.", _RANGE)
RELEASES = Family(PREFIX + "cidrset_cidrs_releases_total", COUNTER, "Counter measuring total number of CIDR releases.", _RANGE)
CAPACITY = Family(PREFIX + "cirdset_max_cidrs", GAUGE, "Maximum number of CIDRs that can be allocated.", _RANGE)
USAGE = Family(PREFIX + "cidrset_usage_cidrs", GAUGE, "Gauge measuring percentage of allocated CIDRs.", _RANGE)
TRIES = Family(
    PREFIX + "cidrset_allocation_tries_per_request", HISTOGRAM, "Number of endpoints added on each Service sync", _RANGE,
    tuple(5.0**exponent for exponent in range(5)),
)  # fmt: skip
"""Ranges that were taken when one was looked for; Kubernetes has copied the help of another metric."""
RUNNING = Family(
    "running_managed_controllers", GAUGE, "Indicates where instances of a controller are currently running", ("name", "manager")
)
"""Kubernetes counts those that a cloud's controller manager may run instead."""
WRITE_ATTEMPTS_MAX = 3
"""cidrUpdateRetries."""

SPEC = ControllerSpec(
    name="node_ipam",
    primary=NODES,
    component="cidrAllocator",
    cares={NODES: lambda old, new: old["spec"].get("podCIDR") != new["spec"].get("podCIDR")},
    metrics=(ALLOCATIONS, RELEASES, CAPACITY, USAGE, TRIES, RUNNING),
    workers=32,
)


class Ranges:
    """Which of the cluster's equal ranges is whose; hands them out in order of address, each at most once."""

    def __init__(self, cluster_cidr: str, mask_size: int, service_cidr: str = "") -> None:
        """Ranges that overlap with `service_cidr` are not handed out. ValueError if the flags make no sense."""
        network = ipaddress.ip_network(cluster_cidr)
        if not network.prefixlen <= mask_size <= network.max_prefixlen:
            raise ValueError(f"ranges of /{mask_size} do not fit into {cluster_cidr}")
        self.cluster_cidr = cluster_cidr
        self.count = 1 << (mask_size - network.prefixlen)
        self._network, self._mask_size = network, mask_size
        self._size = 1 << (network.max_prefixlen - mask_size)
        self._taken: set[int] = set()
        self._by_node: dict[str, range] = {}
        self._next = 0
        self.passed = 0
        """Taken ranges that the last allocation came across."""
        if service_cidr:
            self._taken.update(self._covered(service_cidr))

    def __contains__(self, node: str) -> bool:
        return bool(self._by_node.get(node))

    @property
    def used(self) -> int:
        return len(self._taken)

    def _covered(self, cidr: str) -> range:
        """The ranges that a range of any size overlaps with; none if it is none of ours."""
        other = ipaddress.ip_network(cidr, strict=False)
        if other.version != self._network.version or not self._network.overlaps(other):
            return range(0)
        start, end = (int(address) - int(self._network.network_address) for address in (other[0], other[-1]))
        return range(max(start // self._size, 0), min(end // self._size, self.count - 1) + 1)

    def occupy(self, cidr: str, node: str) -> int:
        """Note a range that a node has already, whether one of ours or not; how many ranges are taken thereby."""
        if node in self._by_node:
            return 0
        before = self.used
        self._by_node[node] = self._covered(cidr)
        self._taken.update(self._by_node[node])
        return self.used - before

    def allocate(self, node: str) -> str | None:
        """A free range for the node, the one it holds if it has one; None when all are taken."""
        held = self._by_node.get(node)
        if held:
            return self._text(held[0])
        for step in range(self.count):
            index = (self._next + step) % self.count
            if index not in self._taken:
                self._next, self.passed = index + 1, step
                self._taken.add(index)
                self._by_node[node] = range(index, index + 1)
                return self._text(index)
        return None

    def _text(self, index: int) -> str:
        return f"{self._network.network_address + index * self._size}/{self._mask_size}"

    def release(self, node: str) -> int:
        """The node is gone, or did not take its range; how many ranges are free thereby."""
        before = self.used
        self._taken.difference_update(self._by_node.pop(node, ()))
        return before - self.used


class NodeIpam:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    SPEC = SPEC

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._has_occupied = False

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        self._occupy_once(ctx)
        node = ctx.cache(NODES).get(key)
        if node is None:
            self._release(ctx, key.name)
            return done()
        held = node["spec"].get("podCIDR")
        if held:
            self._tell_taken(ctx, self._ranges.occupy(held, key.name))
            return done()
        is_new = key.name not in self._ranges
        cidr = self._ranges.allocate(key.name)
        if cidr is None:
            _tell(ctx, node, "CIDRNotAvailable")
            raise ReconcileError("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")
        if is_new:
            ctx.meter.observe(TRIES, self._ranges.passed, self._ranges.cluster_cidr)
            self._tell_taken(ctx, 1)
        await self._assign(ctx, node, cidr)
        return done()

    async def _assign(self, ctx: Context, node: Object, cidr: str) -> None:
        """Write it to the node; after some failures the range is free again. Raises what the last try failed with."""
        name, patch = node["metadata"]["name"], {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        for attempts_left in reversed(range(WRITE_ATTEMPTS_MAX)):
            try:
                ctx.expect_written(await ctx.client.patch(NODES, name, patch, patch_type=PatchType.STRATEGIC))
                return
            except NotFound:
                self._release(ctx, name)
                return
            except (ApiError, *TRANSPORT_ERRORS) as error:
                if attempts_left:
                    continue
                _tell(ctx, node, "CIDRAssignmentFailed")
                if not isinstance(error, ServerTimeout):
                    self._release(ctx, name)
                raise

    def _release(self, ctx: Context, name: str) -> None:
        if freed := self._ranges.release(name):
            ctx.meter.add(RELEASES, self._ranges.cluster_cidr, by=freed)
            self._tell_taken(ctx, 0)

    def _tell_taken(self, ctx: Context, count: int) -> None:
        if count:
            ctx.meter.add(ALLOCATIONS, self._ranges.cluster_cidr, by=count)
        ctx.meter.set(USAGE, self._ranges.used / self._ranges.count, self._ranges.cluster_cidr)

    def _occupy_once(self, ctx: Context) -> None:
        """Before the first allocation all ranges in use must be known."""
        if not self._has_occupied:
            self._has_occupied = True
            ctx.meter.set(RUNNING, 1.0, "nodeipam", "kube-controller-manager")
            ctx.meter.set(CAPACITY, self._ranges.count, self._ranges.cluster_cidr)
            for node in ctx.cache(NODES):
                if cidr := node["spec"].get("podCIDR"):
                    self._ranges.occupy(cidr, node["metadata"]["name"])
            self._tell_taken(ctx, self._ranges.used)


def _tell(ctx: Context, node: Object, status: str) -> None:
    ctx.recorder.event(node, NODES, "Normal", status, f"Node {node['metadata']['name']} status is now: {status}")


def build(config: Config) -> NodeIpam:
    """StartupError if --cluster-cidr and --node-cidr-mask-size do not fit together."""
    try:
        return NodeIpam(Ranges(config.cluster_cidr, config.node_cidr_mask_size, config.service_cluster_ip_range))
    except ValueError as error:
        raise StartupError(f"--cluster-cidr and --node-cidr-mask-size: {error}") from error

"""What the cluster autoscaler counts, under cluster-autoscaler's names (metrics/metrics.go)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kubecosm.api.resources import Object
from kubecosm.client.controller import Context
from kubecosm.client.metrics import COUNTER, GAUGE, Family

from ...common.nodes import ready_status
from .drainability import Unremovable
from .groups import NodeGroup

PREFIX = "cluster_autoscaler_"
SAFE_HELP = "Whether or not cluster is healthy enough for autoscaling. 1 if it is, 0 otherwise."
SAFE = Family(PREFIX + "cluster_safe_to_autoscale", GAUGE, SAFE_HELP)
NODES = Family(PREFIX + "nodes_count", GAUGE, "Number of nodes in cluster.", ("state",))
GROUPS = Family(PREFIX + "node_groups_count", GAUGE, "Number of node groups managed by CA.", ("node_group_type",))
PENDING = Family(PREFIX + "unschedulable_pods_count", GAUGE, "Number of unschedulable pods in the cluster.", ("type",))
MAXIMUM = Family(PREFIX + "max_nodes_count", GAUGE, "Maximum number of nodes in all node groups")
GROWN = Family(PREFIX + "scaled_up_nodes_total", COUNTER, "Number of nodes added by CA.")
FAILED = Family(PREFIX + "failed_scale_ups_total", COUNTER, "Number of times scale-up operation has failed.", ("reason",))
SHRUNK = Family(PREFIX + "scaled_down_nodes_total", COUNTER, "Number of nodes removed by CA.", ("reason",))
EVICTED = Family(PREFIX + "evicted_pods_total", COUNTER, "Number of pods evicted by CA", ("eviction_result",))
UNNEEDED = Family(PREFIX + "unneeded_nodes_count", GAUGE, "Number of nodes currently considered unneeded by CA.")
UNREMOVABLE = Family(PREFIX + "unremovable_nodes_count", GAUGE, "Number of nodes currently considered unremovable by CA.", ("reason",))
FAMILIES = (SAFE, NODES, GROUPS, PENDING, MAXIMUM, GROWN, FAILED, SHRUNK, EVICTED, UNNEEDED, UNREMOVABLE)


def count_cluster(ctx: Context, groups: Sequence[NodeGroup], nodes: Sequence[Object], pending: int) -> None:
    """Sizes, as of one look."""
    ready = sum(ready_status(node) == "True" for node in nodes)
    ctx.meter.set(SAFE, 1)
    ctx.meter.set(NODES, ready, "ready")
    ctx.meter.set(NODES, len(nodes) - ready, "notStarted")
    ctx.meter.set(GROUPS, len(groups), "main")
    ctx.meter.set(MAXIMUM, sum(group.maximum for group in groups))
    ctx.meter.set(PENDING, pending, "unschedulable")


def count_unneeded(ctx: Context, unneeded: int, unremovable: Mapping[str, Unremovable]) -> None:
    ctx.meter.set(UNNEEDED, unneeded)
    reasons = Counter(unremovable.values())
    for reason in Unremovable:
        ctx.meter.set(UNREMOVABLE, reasons[reason], reason)

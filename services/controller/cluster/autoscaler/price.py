"""The price expander: the group whose new nodes cost least for what they take in, and that suit a cluster of this size. Pure.

Imitates cluster-autoscaler's expander/price with the simple preferred node. A group may say what its nodes cost; else their CPU and memory
are priced as general purpose machines are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kubecosm.api.quantity import Quantity

from .simulation import Ask, Room

CPU_PRICE, GIB_PRICE, GPU_PRICE = 0.033174, 0.004446, 0.7
"""An hour of a CPU, a GiB of memory and a graphics card, in dollars."""
GPU_RESOURCE = "nvidia.com/gpu"
STABILIZING = {"cpu": Quantity.of("500m").nanos, "memory": Quantity.of("500Mi").nanos}
"""A pod whose price is added to both sides, so that tiny pods do not decide."""
FREE_PODS_PRICE = 0.1
"""Pods that request nothing count as so much together."""
PREFERRED_CPUS = ((2, 1), (6, 2), (20, 4), (60, 8), (200, 16))
PREFERRED_CPUS_MAX = 32
"""Nodes of the cluster at most → CPUs of the preferred node, twice as many with each threefold size."""
GPU_UNFITNESS = 1000.0
ONE, GIB = Quantity.from_value(1).nanos, Quantity.of("1Gi").nanos


def resources_price(amounts: Mapping[str, int]) -> float:
    """What resources, in nanos, cost an hour."""
    cpu, memory = amounts.get("cpu", 0) / ONE, amounts.get("memory", 0) / GIB
    return cpu * CPU_PRICE + memory * GIB_PRICE + amounts.get(GPU_RESOURCE, 0) / ONE * GPU_PRICE


def preferred_cpus(nodes: int) -> int:
    """How many CPUs a new node best has in a cluster of so many nodes."""
    return next((cpus for most, cpus in PREFERRED_CPUS if nodes <= most), PREFERRED_CPUS_MAX)


def price_score(price: float | None, rooms: list[Room], pods: list[Ask], cluster_nodes: int) -> float:
    """The lower the better: dollars for nodes by dollars for pods, times how far the nodes are from the preferred ones."""
    first = rooms[0].capacity
    nodes_price = (resources_price(first) if price is None else price) * len(rooms)
    pods_price = sum(resources_price(ask.requests) for ask in pods) or FREE_PODS_PRICE
    stabilizing = resources_price(STABILIZING)
    return _unfitness(first, len(rooms), cluster_nodes) * (nodes_price + stabilizing) / (pods_price + stabilizing)


def _unfitness(capacity: Mapping[str, int], nodes: int, cluster_nodes: int) -> float:
    if capacity.get(GPU_RESOURCE):
        return GPU_UNFITNESS
    ratio = preferred_cpus(cluster_nodes) * ONE / (capacity.get("cpu") or 1)
    return (max(ratio, 1 / ratio) - 1.0) * (1.0 - math.tanh((nodes - 1) / 15.0)) + 1.0

"""Spreading new nodes over groups that are alike but for their place (--balance-similar-node-groups). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubecosm.api.meta import labels_of
from kubecosm.api.names import LABEL_HOSTNAME, LABEL_NODE_GROUP, LABEL_REGION, LABEL_ZONE
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object

from .groups import NodeGroup

IGNORED_LABELS = frozenset((LABEL_HOSTNAME, LABEL_NODE_GROUP, LABEL_ZONE, LABEL_REGION))
MEMORY_DIFFERENCE_MAX = 0.015
"""Machines of one kind differ a little in what memory they report (maxCapacityMemoryDifferenceRatio)."""


def are_alike(one: NodeGroup, other: NodeGroup) -> bool:
    """Same resources and same labels, but for those that say where a node is."""
    first, second = one.node("a"), other.node("b")
    return _labels(first) == _labels(second) and _same_capacity(first["status"]["capacity"], second["status"]["capacity"])


def _labels(node: Object) -> dict[str, str]:
    return {key: value for key, value in labels_of(node).items() if key not in IGNORED_LABELS}


def _same_capacity(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    if one.keys() != other.keys():
        return False
    for name, value in one.items():
        here, there = Quantity.of(value).nanos, Quantity.of(other[name]).nanos
        allowed = MEMORY_DIFFERENCE_MAX * max(here, there) if name == "memory" else 0
        if abs(here - there) > allowed:
            return False
    return True


def spread(groups: Sequence[NodeGroup], sizes: Mapping[str, int], nodes: int) -> dict[str, int]:
    """How many of so many new nodes each group gets: always the smallest that may still grow, the first of equals."""
    given = {group.name: 0 for group in groups}
    for _ in range(nodes):
        open_groups = [group for group in groups if sizes.get(group.name, 0) + given[group.name] < group.maximum]
        if not open_groups:
            break
        smallest = min(open_groups, key=lambda group: (sizes.get(group.name, 0) + given[group.name], group.name))
        given[smallest.name] += 1
    return {name: count for name, count in given.items() if count}

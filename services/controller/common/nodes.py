"""What controllers ask of nodes; whether a pod may be on one is told by kubecosm.api.placement."""

from __future__ import annotations

from kubecosm.api.meta import get_condition
from kubecosm.api.placement import NO_EXECUTE, NO_SCHEDULE, matches_node, matches_terms, taints_of, tolerates, untolerated
from kubecosm.api.resources import Object

__all__ = ("NO_EXECUTE", "NO_SCHEDULE", "matches_node", "matches_terms", "ready_status", "taints_of", "tolerates", "untolerated")


def ready_status(node: Object) -> str:
    """`True`, `False` or `Unknown`; empty while the node has told nothing."""
    condition = get_condition(node, "Ready")
    return condition["status"] if condition is not None else ""

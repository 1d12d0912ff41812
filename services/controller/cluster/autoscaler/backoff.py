"""Groups whose nodes do not come are left alone for a while (utils/backoff and clusterstate's scale-up timeouts)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from .groups import NodeGroup

IN_BACKOFF = "in backoff after failed scale-up"
NEVER_UPDATED = "NodeStatusNeverUpdated"
"""What the node lifecycle controller says of such nodes."""
ERROR_CODE, ERROR_MESSAGE = "timeout", "nodes did not become ready in time"


@dataclass(frozen=True)
class BackoffLimits:
    """--initial-node-group-backoff-duration, --max-node-group-backoff-duration, --node-group-backoff-reset-timeout; in seconds."""

    initial: float = 300.0
    highest: float = 1800.0
    reset: float = 10800.0


@dataclass
class _Entry:
    until: float
    seconds: float
    failed_at: float


class GroupBackoff:
    """Times are of the monotonic clock."""

    def __init__(self, limits: BackoffLimits) -> None:
        self._limits = limits
        self._entries: dict[str, _Entry] = {}

    def failed(self, group: str, now: float) -> float:
        """Its new nodes did not come: the seconds for which it is not asked for more. Each time twice as long."""
        entry = self._entries.get(group)
        if entry is None or now - entry.failed_at >= self._limits.reset:
            seconds = self._limits.initial
        elif now < entry.until:
            return entry.until - now  # others of the same attempt
        else:
            seconds = min(entry.seconds * 2, self._limits.highest)
        self._entries[group] = _Entry(now + seconds, seconds, now)
        return seconds

    def names(self, now: float) -> frozenset[str]:
        """The groups that are left alone now."""
        return frozenset(name for name, entry in self._entries.items() if now < entry.until)

    def next_end(self, now: float) -> float | None:
        """Seconds until the next of them may be asked again."""
        return min((entry.until - now for entry in self._entries.values() if now < entry.until), default=None)

    def forget_others(self, groups: Iterable[NodeGroup]) -> None:
        """Groups that are declared no longer."""
        names = {group.name for group in groups}
        self._entries = {name: entry for name, entry in self._entries.items() if name in names}


def late_nodes(
    members: Mapping[str, Sequence[Object]], now: datetime, seconds_max: float
) -> tuple[dict[str, list[Object]], float | None]:
    """Nodes by group that have told nothing of themselves within --max-node-provision-time; the seconds until the next would be late."""
    late: dict[str, list[Object]] = {}
    soonest: float | None = None
    for name, nodes in members.items():
        for node in (one for one in nodes if _is_silent(one)):
            left = seconds_max - (now - parse_time(node["metadata"]["creationTimestamp"])).total_seconds()
            if left <= 0:
                late.setdefault(name, []).append(node)
            else:
                soonest = left if soonest is None else min(soonest, left)
    return late, soonest


def _is_silent(node: Object) -> bool:
    """No kubelet has ever spoken for the node."""
    condition = get_condition(node, "Ready")
    return condition is None or condition.get("reason") == NEVER_UPDATED

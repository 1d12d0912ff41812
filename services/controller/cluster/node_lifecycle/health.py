"""Is a node alive? What its conditions and taints shall be. Pure functions.

Imitates pkg/controller/nodelifecycle/node_lifecycle_controller.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.meta import get_condition, labels_of
from kubecosm.api.names import (
    LABEL_ARCH,
    LABEL_ARCH_BETA,
    LABEL_OS,
    LABEL_OS_BETA,
    TAINT_DISK_PRESSURE,
    TAINT_MEMORY_PRESSURE,
    TAINT_NETWORK_UNAVAILABLE,
    TAINT_NOT_READY,
    TAINT_PID_PRESSURE,
    TAINT_UNREACHABLE,
    TAINT_UNSCHEDULABLE,
)
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time

from ...common.nodes import NO_EXECUTE, NO_SCHEDULE, ready_status, taints_of

CONDITION_TYPES = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
"""Conditions that become Unknown when the kubelet falls silent."""
CONDITION_TAINTS = {
    ("Ready", "False"): TAINT_NOT_READY,
    ("Ready", "Unknown"): TAINT_UNREACHABLE,
    ("MemoryPressure", "True"): TAINT_MEMORY_PRESSURE,
    ("DiskPressure", "True"): TAINT_DISK_PRESSURE,
    ("NetworkUnavailable", "True"): TAINT_NETWORK_UNAVAILABLE,
    ("PIDPressure", "True"): TAINT_PID_PRESSURE,
}
"""(condition type, status) → key of the NoSchedule taint."""
MANAGED_NO_SCHEDULE = frozenset({*CONDITION_TAINTS.values(), TAINT_UNSCHEDULABLE})
EVICTING = {"False": TAINT_NOT_READY, "Unknown": TAINT_UNREACHABLE}
"""Status of Ready → key of the NoExecute taint."""
MANAGED_NO_EXECUTE = frozenset(EVICTING.values())
LABEL_PAIRS = ((LABEL_OS, LABEL_OS_BETA), (LABEL_ARCH, LABEL_ARCH_BETA))
"""(label, the name it had in beta): the second follows the first."""


@dataclass(frozen=True)
class Heartbeat:
    """The last signs of life."""

    lease: str
    """When the Lease was renewed."""
    posted: str
    """When the kubelet last wrote the Ready condition."""
    ready: str
    """What it wrote there; empty while the condition is Unknown, which is our word and not the kubelet's."""

    def is_news_after(self, earlier: Heartbeat) -> bool:
        """The kubelet has done something since."""
        told = self.ready and (self.ready, self.posted) != (earlier.ready, earlier.posted)
        return bool(told) or self.lease != earlier.lease


def heartbeat_of(node: Object, lease: Object | None) -> Heartbeat:
    ready = get_condition(node, "Ready") or {}
    told = "" if ready.get("status") == "Unknown" else f"{ready.get('status')} since {ready.get('lastTransitionTime')}"
    return Heartbeat(((lease or {}).get("spec") or {}).get("renewTime") or "", ready.get("lastHeartbeatTime") or "", told)


def existed_seconds(node: Object, now: datetime) -> float:
    """How long the node has been registered."""
    created = node["metadata"].get("creationTimestamp")
    return max((now - parse_time(created)).total_seconds(), 0.0) if created else 0.0


def age_seconds(heartbeat: Heartbeat, now: datetime) -> float:
    """How long ago the newest sign of life was, by the kubelet's own account; 0 if it does not say."""
    moments = [parse_time(text) for text in (heartbeat.lease, heartbeat.posted) if text]
    return max((now - max(moments)).total_seconds(), 0.0) if moments else 0.0


def plan_silent(node: Object, now: datetime) -> list[Object] | None:
    """The conditions of a node that has fallen silent; None if they tell so already."""
    conditions: list[Object] = list((node.get("status") or {}).get("conditions") or ())
    stamp, changed = format_time(now), False
    for condition_type in CONDITION_TYPES:
        current = get_condition(node, condition_type)
        if current is None:
            changed = True
            conditions.append({
                "type": condition_type, "status": "Unknown", "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                "lastTransitionTime": stamp, "reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status.",
            })  # fmt: skip
        elif current["status"] != "Unknown":
            changed = True
            told = {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
            new = {**current, "status": "Unknown", "lastTransitionTime": stamp, **told}
            conditions[conditions.index(current)] = new
    return conditions if changed else None


def plan_no_schedule(node: Object) -> list[str]:
    """Keys of the NoSchedule taints that conditions and spec.unschedulable call for."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    keys = [key for c in conditions if (key := CONDITION_TAINTS.get((c["type"], c["status"])))]
    return keys + ([TAINT_UNSCHEDULABLE] if node["spec"].get("unschedulable") else [])


def wanted_no_execute(node: Object) -> str:
    """Key of the NoExecute taint that the state of Ready calls for; empty if none."""
    return EVICTING.get(ready_status(node), "")


def plan_taints(node: Object, no_execute: str, now: datetime) -> list[Object] | None:
    """The node's taints with ours as wanted and all others as they are; None if nothing changes."""
    current = taints_of(node)
    wanted = [(key, NO_SCHEDULE) for key in plan_no_schedule(node)] + ([(no_execute, NO_EXECUTE)] if no_execute else [])
    kept = [taint for taint in current if not _is_managed(taint) or (taint["key"], taint["effect"]) in wanted]
    present = {(taint["key"], taint["effect"]) for taint in kept}
    added = [{"key": key, "effect": effect, "timeAdded": format_time(now)} for key, effect in wanted if (key, effect) not in present]
    return [*kept, *added] if added or len(kept) != len(current) else None


def _is_managed(taint: Object) -> bool:
    managed = MANAGED_NO_SCHEDULE if taint["effect"] == NO_SCHEDULE else MANAGED_NO_EXECUTE if taint["effect"] == NO_EXECUTE else ()
    return taint["key"] in managed


def has_no_execute(node: Object, key: str) -> bool:
    return any(taint["key"] == key and taint["effect"] == NO_EXECUTE for taint in taints_of(node))


def plan_labels(node: Object) -> dict[str, str]:
    """The beta labels of system and architecture that are missing, or differ from the stable ones."""
    labels = labels_of(node)
    return {beta: labels[stable] for stable, beta in LABEL_PAIRS if stable in labels and labels.get(beta) != labels[stable]}

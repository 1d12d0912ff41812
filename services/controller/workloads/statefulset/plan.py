"""Which pods of a StatefulSet to create and to delete next, and the status its pods give. Pure functions.

Imitates pkg/controller/statefulset/stateful_set_control.go. OrderedReady (here: ordered) takes one step at a time, in order of ordinals,
and waits for each pod to be available; Parallel takes all steps at once. Updates go from the highest ordinal down to the partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.intstr import scaled_value
from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import Object

from ...common.pods import is_available, is_ready, is_terminal, phase_of
from .identity import is_in_range, ordinal_of, replica_count, revision_name_of, start_ordinal


@dataclass(frozen=True)
class Revisions:
    """Names of the revision the pods come from and of the one they go to; equal when no update is under way."""

    current: str
    update: str


@dataclass
class StatefulPlan:
    """Create pods of these (ordinal, revision name), in order; delete these pods, in order."""

    create: list[tuple[int, str]] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def is_ordered(statefulset: Object) -> bool:
    policy: str = statefulset["spec"].get("podManagementPolicy", "OrderedReady")
    return policy != "Parallel"


def _rolling(statefulset: Object) -> Object | None:
    return (statefulset["spec"].get("updateStrategy") or {}).get("rollingUpdate")


def _strategy(statefulset: Object) -> str:
    kind: str = (statefulset["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
    return kind


def is_running_and_ready(pod: Object) -> bool:
    return phase_of(pod) == "Running" and is_ready(pod)


def is_running_and_available(statefulset: Object, pod: Object, now: datetime) -> bool:
    return phase_of(pod) == "Running" and is_available(pod, statefulset["spec"].get("minReadySeconds", 0), now)


def revision_for(statefulset: Object, ordinal: int, revisions: Revisions) -> str:
    """The revision a pod created now gets: the old one below the partition, or below the old pods not yet replaced."""
    if _strategy(statefulset) != "RollingUpdate":
        return revisions.update
    rolling = _rolling(statefulset)
    if rolling is None:
        bound = (statefulset.get("status") or {}).get("currentReplicas", 0)
    else:
        bound = rolling.get("partition", 0)
    return revisions.current if ordinal < start_ordinal(statefulset) + bound else revisions.update


def plan_pods(statefulset: Object, pods: Sequence[Object], revisions: Revisions, now: datetime) -> StatefulPlan:
    """The next steps: first living replicas, then the condemned (those beyond the range), then the update."""
    plan = StatefulPlan()
    if is_deleting(statefulset):
        return plan
    replicas = {ordinal_of(pod): pod for pod in pods if is_in_range(statefulset, ordinal_of(pod))}
    condemned = sorted((pod for pod in pods if not is_in_range(statefulset, ordinal_of(pod))), key=ordinal_of, reverse=True)
    if _plan_living(plan, statefulset, replicas, revisions, now) or _plan_condemned(plan, statefulset, replicas, condemned, now):
        return plan
    if _strategy(statefulset) != "OnDelete":
        _plan_update(plan, statefulset, replicas, revisions, now)
    return plan


def _plan_living(plan: StatefulPlan, statefulset: Object, replicas: dict[int, Object], revisions: Revisions, now: datetime) -> bool:
    """Fill gaps and replace ended pods; True if nothing else may happen before the next sync."""
    ordered, blocked = is_ordered(statefulset), False
    start = start_ordinal(statefulset)
    for ordinal in range(start, start + replica_count(statefulset)):
        pod = replicas.get(ordinal)
        if pod is None:
            plan.create.append((ordinal, revision_for(statefulset, ordinal, revisions)))
            if ordered:
                return True
        elif is_terminal(pod):
            if not is_deleting(pod):
                plan.delete.append(pod)
            if ordered:
                return True
            blocked = True
        elif ordered and (is_deleting(pod) or not is_running_and_available(statefulset, pod, now)):
            return True
    return blocked


def _plan_condemned(
    plan: StatefulPlan, statefulset: Object, replicas: dict[int, Object], condemned: Sequence[Object], now: datetime
) -> bool:
    if not is_ordered(statefulset):
        plan.delete += [pod for pod in condemned if not is_deleting(pod)]
        return False
    if not condemned:
        return False
    target = condemned[0]
    unhealthy = [pod for pod in (*replicas.values(), *reversed(condemned)) if not is_running_and_ready(pod) or is_deleting(pod)]
    healthy = is_running_and_available(statefulset, target, now)
    if not is_deleting(target) and (healthy or unhealthy[0] is target):
        plan.delete.append(target)
    return True


def _plan_update(plan: StatefulPlan, statefulset: Object, replicas: dict[int, Object], revisions: Revisions, now: datetime) -> None:
    """Delete old pods from the highest ordinal down, while no more than maxUnavailable replacements are under way."""
    rolling = _rolling(statefulset) or {}
    start, count = start_ordinal(statefulset), replica_count(statefulset)
    slots = max(scaled_value(rolling.get("maxUnavailable") or 1, count, round_up=False), 1) - len(plan.create)
    for pod in replicas.values():
        replaced = revision_name_of(pod) == revisions.update or is_deleting(pod)
        slots -= replaced and (is_deleting(pod) or not is_running_and_available(statefulset, pod, now))
    for ordinal in range(start + count - 1, start + rolling.get("partition", 0) - 1, -1):
        old = replicas.get(ordinal)
        if old is None or is_deleting(old) or revision_name_of(old) == revisions.update:
            continue
        if slots <= 0:
            return
        plan.delete.append(old)
        slots -= 1


def plan_status(statefulset: Object, pods: Sequence[Object], revisions: Revisions, collision_count: int, now: datetime) -> Object:
    """The status that these pods give; fields in the order of the Go type, zeros left out where Go leaves them out."""
    standing = [pod for pod in pods if not is_deleting(pod)]
    ready = [pod for pod in pods if is_running_and_ready(pod)]
    current = sum(revision_name_of(pod) == revisions.current for pod in standing)
    updated = sum(revision_name_of(pod) == revisions.update for pod in standing)
    current_name = revisions.current
    wanted = replica_count(statefulset)
    if _strategy(statefulset) == "RollingUpdate" and updated == len(ready) == len(pods) == wanted:
        current, current_name = updated, revisions.update  # the update is complete
    status: Object = {
        "observedGeneration": statefulset["metadata"].get("generation", 0),
        "replicas": len(pods),
        "readyReplicas": len(ready),
        "currentReplicas": current,
        "updatedReplicas": updated,
    }
    status = {name: count for name, count in status.items() if count or name == "replicas"}
    status |= {"currentRevision": current_name, "updateRevision": revisions.update, "collisionCount": collision_count}
    if conditions := (statefulset.get("status") or {}).get("conditions"):
        status["conditions"] = conditions
    status["availableReplicas"] = sum(is_running_and_available(statefulset, pod, now) for pod in ready)
    return status

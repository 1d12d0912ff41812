"""Which pods of a StatefulSet to create and to delete next, and the status its pods give. Pure functions.

Imitates pkg/controller/statefulset/stateful_set_control.go. OrderedReady (here: ordered) takes one step at a time, in order of ordinals,
and waits for each pod to be available; Parallel takes all steps at once. Updates go from the highest ordinal down to the partition, one
pod at a time: the API server drops maxUnavailable, whose feature gate is off in 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import Object

from ...common.pods import is_available, is_ready, is_terminal, phase_of
from .identity import is_in_range, ordinal_of, replica_count, revision_name_of, start_ordinal

IsStale = Callable[[int], bool]
"""Whether the claims of this ordinal still go with the pod before."""


@dataclass(frozen=True)
class Revisions:
    """Names of the revision the pods come from and of the one they go to; equal when no update is under way."""

    current: str
    update: str


@dataclass
class StatefulPlan:
    """What to do, in order; lists of pods are in order too."""

    pending: list[Object] = field(default_factory=list)
    """Pods that may wait for claims which somebody deleted."""
    settle: list[Object] = field(default_factory=list)
    """Pods in range whose labels, volumes and claims must be right."""
    create: list[tuple[int, str]] = field(default_factory=list)
    """(ordinal, revision name) of new pods."""
    stale: list[int] = field(default_factory=list)
    """Ordinals without a pod whose claims still go with the pod before: nothing is created there until they are gone."""
    condemned: list[Object] = field(default_factory=list)
    """Pods beyond the range, if this round got to them: their claims must be right before they go."""
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


def is_unavailable(statefulset: Object, pod: Object, now: datetime) -> bool:
    return is_deleting(pod) or not is_running_and_available(statefulset, pod, now)


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


def plan_pods(
    statefulset: Object, pods: Sequence[Object], revisions: Revisions, now: datetime, is_stale: IsStale = lambda _: False
) -> StatefulPlan:
    """The next steps: first living replicas, then the condemned (those beyond the range), then the update."""
    plan = StatefulPlan()
    if is_deleting(statefulset):
        return plan
    replicas = {ordinal_of(pod): pod for pod in pods if is_in_range(statefulset, ordinal_of(pod))}
    condemned = sorted((pod for pod in pods if not is_in_range(statefulset, ordinal_of(pod))), key=ordinal_of, reverse=True)
    if _plan_living(plan, statefulset, replicas, revisions, now, is_stale):
        return plan
    plan.condemned = condemned
    if _plan_condemned(plan, statefulset, condemned, now):
        return plan
    if _strategy(statefulset) != "OnDelete":
        _plan_update(plan, statefulset, replicas, revisions, now)
    return plan


def _plan_living(
    plan: StatefulPlan, statefulset: Object, replicas: dict[int, Object], revisions: Revisions, now: datetime, is_stale: IsStale
) -> bool:
    """Fill gaps and replace ended pods; True if nothing else may happen before the next sync, which only order demands."""
    ordered, start = is_ordered(statefulset), start_ordinal(statefulset)
    for ordinal in range(start, start + replica_count(statefulset)):
        pod = replicas.get(ordinal)
        if pod is None:
            if is_stale(ordinal):
                plan.stale.append(ordinal)
            else:
                plan.create.append((ordinal, revision_for(statefulset, ordinal, revisions)))
        elif is_terminal(pod):
            plan.delete += [] if is_deleting(pod) else [pod]
        else:
            plan.pending += [pod] if phase_of(pod) == "Pending" else []
            if not ordered or not is_unavailable(statefulset, pod, now):
                plan.settle.append(pod)
                continue
        if ordered:
            return True
    return False


def _plan_condemned(plan: StatefulPlan, statefulset: Object, condemned: Sequence[Object], now: datetime) -> bool:
    """In order only the highest one goes: when it is healthy, or when no other pod is unhealthy (those in range are healthy by now)."""
    if not is_ordered(statefulset):
        plan.delete += [pod for pod in condemned if not is_deleting(pod)]
        return False
    if not condemned:
        return False
    target = condemned[0]
    others_unhealthy = any(is_unavailable(statefulset, pod, now) for pod in condemned[1:])
    if not is_deleting(target) and not (others_unhealthy and is_unavailable(statefulset, target, now)):
        plan.delete.append(target)
    return True


def _plan_update(plan: StatefulPlan, statefulset: Object, replicas: dict[int, Object], revisions: Revisions, now: datetime) -> None:
    """Delete one old pod, the highest, when all above it are new and available."""
    start, count = start_ordinal(statefulset), replica_count(statefulset)
    partition = (_rolling(statefulset) or {}).get("partition", 0)
    for ordinal in range(start + count - 1, start + partition - 1, -1):
        pod = replicas.get(ordinal)
        if pod is None or is_terminal(pod):
            return
        if revision_name_of(pod) != revisions.update and not is_deleting(pod):
            plan.delete.append(pod)
            return
        if is_unavailable(statefulset, pod, now):
            return


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

"""The status of a Deployment: counts, availability, progress and its deadline.

Pure functions. Imitates pkg/controller/deployment/{sync,progress}.go. Conditions carry lastUpdateTime beside lastTransitionTime.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time, parse_time

from ...common.conditions import find, moved_to_end, without
from .replicasets import max_unavailable, spec_replicas, status_count, total_spec_replicas, total_status

PROGRESSING, AVAILABLE, REPLICA_FAILURE = "Progressing", "Available", "ReplicaFailure"
REASON_NEW_AVAILABLE = "NewReplicaSetAvailable"
REASON_TIMED_OUT = "ProgressDeadlineExceeded"
REASON_PAUSED = "DeploymentPaused"
NO_DEADLINE = 2**31 - 1
REQUEUE_SLACK_SECONDS = 1.0
"""Times are whole seconds: look again a second after the deadline."""


def condition(condition_type: str, status: str, reason: str, message: str, now: datetime) -> Object:
    stamp = format_time(now)
    times = {"lastUpdateTime": stamp, "lastTransitionTime": stamp}
    return {"type": condition_type, "status": status, **times, "reason": reason, "message": message}


def with_condition(deployment: Object, new: Object) -> Object:
    """The Deployment with the condition set; the same object when nothing changes."""
    status = deployment.get("status") or {}
    conditions = moved_to_end(status.get("conditions"), new)
    if conditions == (status.get("conditions") or []):
        return deployment
    return {**deployment, "status": {**status, "conditions": conditions}}


def has_deadline(deployment: Object) -> bool:
    return deployment["spec"].get("progressDeadlineSeconds") not in (None, NO_DEADLINE)


def plan_paused(deployment: Object, now: datetime) -> Object:
    """The Deployment with its Progressing condition telling of pause or resume, so that no deadline runs while paused."""
    current = get_condition(deployment, PROGRESSING)
    if not has_deadline(deployment) or (current is not None and current.get("reason") == REASON_TIMED_OUT):
        return deployment
    paused = bool(deployment["spec"].get("paused"))
    told = current is not None and current.get("reason") == REASON_PAUSED
    if paused == told:
        return deployment
    reason, message = (REASON_PAUSED, "Deployment is paused") if paused else ("DeploymentResumed", "Deployment is resumed")
    return with_condition(deployment, condition(PROGRESSING, "Unknown", reason, message, now))


def is_complete(deployment: Object, status: Object) -> bool:
    """Everything asked for is there, new and available, and nothing else is."""
    desired = spec_replicas(deployment)
    counts = [status.get(field, 0) for field in ("updatedReplicas", "replicas", "availableReplicas")]
    return counts == [desired] * 3 and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)


def plan_counts(deployment: Object, new: Object | None, replicasets: Sequence[Object], now: datetime) -> Object:
    """The status without judgement on progress; fields in the order of the Go type, zeros left out."""
    old_status = deployment.get("status") or {}
    available = total_status(replicasets, "availableReplicas")
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": total_status(replicasets, "replicas"),
        "updatedReplicas": total_status([new], "replicas") if new is not None else 0,
        "readyReplicas": total_status(replicasets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(total_spec_replicas(replicasets) - available, 0),
    }
    status: Object = {name: count for name, count in counts.items() if count}
    if all("terminatingReplicas" in (rs.get("status") or {}) for rs in replicasets):
        status["terminatingReplicas"] = total_status(replicasets, "terminatingReplicas")
    if available >= spec_replicas(deployment) - max_unavailable(deployment):
        verdict = condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        verdict = condition(AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now)
    status["conditions"] = moved_to_end(old_status.get("conditions"), verdict)
    if "collisionCount" in old_status:
        status["collisionCount"] = old_status["collisionCount"]
    return status


def plan_rollout_status(deployment: Object, new: Object | None, replicasets: Sequence[Object], now: datetime) -> Object:
    """The status with its verdict on progress: complete, progressing, timed out; and the failure of a ReplicaSet, if one has any."""
    status = plan_counts(deployment, new, replicasets, now)
    conditions = status["conditions"]
    if not has_deadline(deployment):
        conditions = without(conditions, PROGRESSING)
    else:
        current = get_condition(deployment, PROGRESSING)
        settled = current is not None and current.get("reason") == REASON_NEW_AVAILABLE
        if not (settled and status.get("replicas", 0) == status.get("updatedReplicas", 0)):
            conditions = _judged(deployment, status, new, now)
    failure = _replica_failure(new, replicasets)
    conditions = moved_to_end(conditions, failure) if failure is not None else without(conditions, REPLICA_FAILURE)
    return {**status, "conditions": conditions}


def _judged(deployment: Object, status: Object, new: Object | None, now: datetime) -> list[Object]:
    """The conditions with Progressing brought up to date."""
    conditions: list[Object] = status["conditions"]
    current = get_condition(deployment, PROGRESSING)
    subject = f'ReplicaSet "{new["metadata"]["name"]}"' if new is not None else f'Deployment "{deployment["metadata"]["name"]}"'
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        return moved_to_end(conditions, condition(PROGRESSING, "True", REASON_NEW_AVAILABLE, message, now))
    if _is_progressing(deployment, status):
        verdict = condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if current is not None and current["status"] == "True":  # lastUpdateTime moves on: the deadline counts from here
            verdict["lastTransitionTime"] = current["lastTransitionTime"]
        return [*without(conditions, PROGRESSING), verdict]
    if _is_timed_out(deployment, conditions, now):
        message = f"{subject} has timed out progressing."
        return moved_to_end(conditions, condition(PROGRESSING, "False", REASON_TIMED_OUT, message, now))
    return conditions


def _is_progressing(deployment: Object, status: Object) -> bool:
    """More updated, ready or available pods than before, or fewer old ones."""
    before = {field: status_count(deployment, field) for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")}
    after = {field: status.get(field, 0) for field in before}
    fewer_old = after["replicas"] - after["updatedReplicas"] < before["replicas"] - before["updatedReplicas"]
    return fewer_old or any(after[field] > before[field] for field in ("updatedReplicas", "readyReplicas", "availableReplicas"))


def _is_timed_out(deployment: Object, conditions: Sequence[Object], now: datetime) -> bool:
    current = find(conditions, PROGRESSING)
    if current is None or current.get("reason") == REASON_NEW_AVAILABLE:
        return False
    if current.get("reason") == REASON_TIMED_OUT:
        return True
    return _deadline(deployment, current) < now


def _deadline(deployment: Object, current: Object) -> datetime:
    return parse_time(current["lastUpdateTime"]) + timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])


def _replica_failure(new: Object | None, replicasets: Sequence[Object]) -> Object | None:
    for rs in [*([new] if new is not None else ()), *replicasets]:
        found = get_condition(rs, REPLICA_FAILURE)
        if found is not None:
            stamp = found.get("lastTransitionTime")
            return {
                "type": REPLICA_FAILURE, "status": found["status"], "lastUpdateTime": stamp, "lastTransitionTime": stamp,
                "reason": found.get("reason", ""), "message": found.get("message", ""),
            }  # fmt: skip
    return None


def seconds_to_deadline(deployment: Object, status: Object, now: datetime) -> float | None:
    """When to look whether the rollout is stuck; None if it is complete, already timed out, or has no deadline."""
    current = find(status.get("conditions"), PROGRESSING)
    if not has_deadline(deployment) or current is None or is_complete(deployment, status) or current.get("reason") == REASON_TIMED_OUT:
        return None
    return max((_deadline(deployment, current) - now).total_seconds(), 0.0) + REQUEUE_SLACK_SECONDS

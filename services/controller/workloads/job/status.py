"""The status of a Job, step by step: pods noted, pods counted, the Job ended. Pure functions.

Imitates trackJobStatusAndRemoveFinalizers, enactJobFinished and ensureJobConditionStatus of pkg/controller/job/job_controller.go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from kubecosm.api.meta import get_condition, uid_of
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ...common.pods import is_ready
from . import indexes
from .counting import CountPlan
from .target import COMPLETE, Target
from .view import View, has_tracking_finalizer, noted

FIELDS = (
    "conditions", "startTime", "completionTime", "active", "succeeded", "failed", "terminating", "completedIndexes", "failedIndexes",
    "uncountedTerminatedPods", "ready",
)  # fmt: skip
"""The order of the Go type."""
OMITTED_WHEN_ZERO = ("active", "succeeded", "failed", "completedIndexes", "failedIndexes", "conditions")


def ordered(status: Object) -> Object:
    """The status as Go writes it: its order, and nothing for zeros where Go leaves them out."""
    known = {name: status[name] for name in FIELDS if name in status and (status[name] or name not in OMITTED_WHEN_ZERO)}
    return {**known, **{name: value for name, value in status.items() if name not in FIELDS}}


def condition(condition_type: str, status: str, reason: str, message: str, now: datetime) -> Object:
    stamp = format_time(now)
    times = {"lastProbeTime": stamp, "lastTransitionTime": stamp}
    return {"type": condition_type, "status": status, **times, "reason": reason, "message": message}


def ensured(job: Object, condition_type: str, status: str, reason: str, message: str, now: datetime) -> list[Object] | None:
    """The conditions with this one so; None if it is so already. A False that was never True is not written."""
    conditions: list[Object] = (job.get("status") or {}).get("conditions") or []
    current = get_condition(job, condition_type)
    if current is None and status == "False":
        return None
    if current is not None and (current["status"], current.get("reason"), current.get("message")) == (status, reason, message):
        return None
    new = condition(condition_type, status, reason, message, now)
    return [*conditions, new] if current is None else [new if one["type"] == condition_type else one for one in conditions]


def plan_noted(view: View, active: int, ready: int, terminating: int, counting: CountPlan, target: Target | None) -> Object:
    """The first step: what ended is noted by uid (or by index), and the target is told."""
    job, now = view.job, view.now
    old = plan_counted(job, (), view.pods)  # what an earlier sync released and could not count any more
    still = {**job, "status": old}
    new = {**old, "active": active, "ready": ready, "terminating": terminating}
    lists = {"succeeded": [*noted(still, "succeeded"), *counting.succeeded], "failed": [*noted(still, "failed"), *counting.failed]}
    new["uncountedTerminatedPods"] = {name: uids for name, uids in lists.items() if uids}
    if "startTime" not in old and not (view.is_suspended and (target is None or view.completions == 0)):
        new["startTime"] = format_time(now)
    if indexes.is_indexed(job):
        new["succeeded"] = len(view.succeeded_indexes)
        new["completedIndexes"] = indexes.render(view.succeeded_indexes)
        if view.backoff_limit_per_index is not None:
            new["failedIndexes"] = indexes.render(view.failed_indexes)
    if target is not None and get_condition(job, target.type) is None:
        new["conditions"] = [*(old.get("conditions") or ()), condition(target.type, "True", target.reason, target.message, now)]
    return ordered(new)


def plan_counted(job: Object, released: Collection[str], pods: Iterable[Object]) -> Object:
    """The second step: noted pods that have no finalizer any more become numbers. `released` are uids that just lost theirs."""
    status = job.get("status") or {}
    held = {uid_of(pod) for pod in pods if has_tracking_finalizer(pod)} - set(released)
    uncounted = status.get("uncountedTerminatedPods") or {}
    new, left = dict(status), {}
    for name in ("succeeded", "failed"):
        uids = uncounted.get(name) or []
        left[name] = [uid for uid in uids if uid in held]
        new[name] = status.get(name, 0) + len(uids) - len(left[name])
    new["uncountedTerminatedPods"] = {name: uids for name, uids in left.items() if uids}
    return ordered(new)


def plan_ended(job: Object, target: Target, now: datetime) -> Object | None:
    """The last step: Complete or Failed, once nothing is uncounted, ready or terminating; None while that is not so."""
    status = job.get("status") or {}
    if status.get("uncountedTerminatedPods") or status.get("terminating") or status.get("ready") or status.get("active"):
        return None
    final = condition(target.final_type, "True", target.reason, target.message, now)
    new = {**status, "conditions": [*(status.get("conditions") or ()), final]}
    if target.final_type == COMPLETE:
        new["completionTime"] = format_time(now)
    return ordered(new)


def count_ready(active: Iterable[Object]) -> int:
    return sum(is_ready(pod) for pod in active)

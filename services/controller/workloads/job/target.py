"""Whether a Job is to end, well or badly, and why. Pure functions.

Imitates the part of syncJob of pkg/controller/job/job_controller.go that finds the finished condition, and success_policy.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from . import failures, indexes
from .failures import Action
from .indexes import is_indexed
from .view import View

FAILURE_TARGET, SUCCESS_CRITERIA_MET, FAILED, COMPLETE = "FailureTarget", "SuccessCriteriaMet", "Failed", "Complete"


@dataclass(frozen=True)
class Target:
    """The Job is to end: FailureTarget or SuccessCriteriaMet, why, and in words."""

    type: str
    reason: str
    message: str

    @property
    def final_type(self) -> str:
        return FAILED if self.type == FAILURE_TARGET else COMPLETE


def is_finished(job: Object) -> bool:
    return any(c["type"] in (COMPLETE, FAILED) and c["status"] == "True" for c in (job.get("status") or {}).get("conditions") or ())


def _told_target(job: Object) -> Target | None:
    """The target that an earlier sync has written down."""
    for condition_type in (SUCCESS_CRITERIA_MET, FAILURE_TARGET):
        condition = get_condition(job, condition_type)
        if condition is not None and condition["status"] == "True":
            return Target(condition_type, condition.get("reason", ""), condition.get("message", ""))
    return None


def seconds_to_deadline(job: Object, now: datetime) -> float | None:
    """What is left of activeDeadlineSeconds; None if there is none or it does not run."""
    limit, started = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if limit is None or started is None or job["spec"].get("suspend"):
        return None
    return (parse_time(started) + timedelta(seconds=limit) - now).total_seconds()


def plan_target(view: View) -> Target | None:
    """Whether the Job is to end, and how; completion by numbers is decided later, by what is active then."""
    job = view.job
    told = _told_target(job)
    if told is not None:
        return told
    for pod in view.pods if job["spec"].get("podFailurePolicy") is not None else ():
        verdict = failures.judge(job, pod) if failures.is_failed(job, pod) else None
        if verdict is not None and verdict.action is Action.FAIL_JOB:
            return Target(FAILURE_TARGET, "PodFailurePolicy", verdict.message)
    if view.failed > job["spec"].get("backoffLimit", 6) or failures.exceeds_restarts(job, view.pods):
        return Target(FAILURE_TARGET, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = seconds_to_deadline(job, view.now)
    if left is not None and left <= 0:
        return Target(FAILURE_TARGET, "DeadlineExceeded", "Job was active longer than specified deadline")
    if is_indexed(job):
        return _index_target(view)
    return None


def _index_target(view: View) -> Target | None:
    spec, completions = view.job["spec"], view.completions or 0
    failed = len(view.failed_indexes)
    if view.backoff_limit_per_index is not None and failed:
        if spec.get("maxFailedIndexes") is not None and failed > spec["maxFailedIndexes"]:
            return Target(FAILURE_TARGET, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
        if failed + len(view.succeeded_indexes) >= completions:
            return Target(FAILURE_TARGET, "FailedIndexes", "Job has failed indexes")
    if not view.succeeded_indexes:
        return None
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        wanted = indexes.parse(rule["succeededIndexes"], completions) if rule.get("succeededIndexes") else set(range(completions))
        met = wanted & view.succeeded_indexes
        if len(met) >= (rule.get("succeededCount") or len(wanted)):
            return Target(SUCCESS_CRITERIA_MET, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def plan_completion(view: View, active: int) -> Target | None:
    """Complete by numbers: as many successes as wanted (or, with no number given, one), and nothing active any more."""
    wanted = 1 if view.completions is None else view.completions
    if view.succeeded < wanted or active > 0:
        return None
    return Target(SUCCESS_CRITERIA_MET, "CompletionsReached", "Reached expected number of succeeded pods")

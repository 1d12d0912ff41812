"""What a Job's status may say. Imitates ValidateJobStatusUpdate and getStatusValidationOptions.

As Jobs may have controllers of others' making (spec.managedBy), the server holds every writer to what clients of Jobs rely on. A rule
counts only when a field or condition that it is about changes, so that a status that is wrong already can still be written to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubecosm.api.field import OMIT, FieldError, duplicate, invalid_value, required
from kubecosm.api.meta import is_condition_true
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from ..formats import NEGATIVE, Errors
from .intervals import IntervalError, count_indexes, overlap

COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET = "Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"
CONDITIONS = "status.conditions"
EXCLUDING = ((COMPLETE, FAILED), (COMPLETE, FAILURE_TARGET))
REQUIRING = ((FAILED, FAILURE_TARGET), (COMPLETE, SUCCESS_CRITERIA_MET))
"""Of the first condition, the second must be there."""


class Change:
    """A Job and what it was."""

    def __init__(self, job: Object, old: Object) -> None:
        self.job, self.old = job, old
        self.spec: Object = job["spec"]
        self.status: Object = job.get("status") or {}
        self.before: Object = old.get("status") or {}

    def has(self, condition: str) -> bool:
        return is_condition_true(self.job, condition)

    def had(self, condition: str) -> bool:
        return is_condition_true(self.old, condition)

    @property
    def is_finished(self) -> bool:
        return self.has(COMPLETE) or self.has(FAILED)

    def moved(self, *names: str) -> bool:
        """Whether one of these fields (or, in capitals, conditions) has changed."""
        return any(self.has(name) != self.had(name) if name[0].isupper() else self._differs(name) for name in names)

    def _differs(self, field: str) -> bool:
        return (self.status.get(field) or None) != (self.before.get(field) or None)

    @property
    def ends(self) -> bool:
        """Finished, and it was not; or the other way round."""
        return self.is_finished != (self.had(COMPLETE) or self.had(FAILED))

    @property
    def completions(self) -> int | None:
        value: int | None = self.spec.get("completions")
        return value

    @property
    def is_indexed(self) -> bool:
        return bool(self.spec.get("completionMode") == "Indexed")


def check_job_status(job: Object, old: Object) -> Errors:
    """All complaints about a new status."""
    change = Change(job, old)
    return [error for rule in RULES for error in rule(change)]


def _numbers(change: Change) -> Iterator[FieldError]:
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        if change.status.get(name, 0) < 0:
            yield invalid_value(f"status.{name}", change.status[name], NEGATIVE)
    seen: set[str] = set()
    for name in ("succeeded", "failed"):
        for i, uid in enumerate((change.status.get("uncountedTerminatedPods") or {}).get(name) or ()):
            path = f"status.uncountedTerminatedPods.{name}[{i}]"
            if not uid:
                yield invalid_value(path, uid, "must not be empty")
            elif uid in seen:
                yield duplicate(path, uid)
            seen.add(uid)


def _excluding_conditions(change: Change) -> Iterator[FieldError]:
    for one, other in EXCLUDING:
        if change.moved(one, other) and change.has(one) and change.has(other):
            yield invalid_value(CONDITIONS, OMIT, f"cannot set {one}=True and {other}=true conditions")


def _completion_time(change: Change) -> Iterator[FieldError]:
    path, ended, started = "status.completionTime", change.status.get("completionTime"), change.status.get("startTime")
    if change.moved(COMPLETE, "completionTime"):
        if ended and not change.has(COMPLETE):
            yield invalid_value(path, ended, "cannot set completionTime when there is no Complete=True condition")
        if not ended and change.has(COMPLETE):
            yield required(path, "completionTime is required for Complete jobs")
    if change.moved("startTime", "completionTime") and started and ended and parse_time(ended) < parse_time(started):
        yield invalid_value(path, ended, "completionTime cannot be set before startTime")


def _required_conditions(change: Change) -> Iterator[FieldError]:
    for one, other in REQUIRING:
        if change.moved(one, other) and change.has(one) and not change.has(other):
            yield invalid_value(CONDITIONS, OMIT, f"cannot set {one}=True condition without the {other}=true condition")


def _finished(change: Change) -> Iterator[FieldError]:
    if not change.is_finished:
        return
    status, spec = change.status, change.spec
    if (change.ends or change.moved("active")) and status.get("active", 0) > 0:
        yield invalid_value("status.active", status["active"], "active>0 is invalid for finished job")
    never_ran = spec.get("suspend") and change.completions == 0
    if (change.ends or change.moved("startTime")) and not status.get("startTime") and not never_ran:
        yield required("status.startTime", "startTime is required for finished job")
    uncounted = status.get("uncountedTerminatedPods") or {}
    if (change.ends or change.moved("uncountedTerminatedPods")) and (uncounted.get("failed") or uncounted.get("succeeded")):
        shown = {"Succeeded": uncounted.get("succeeded"), "Failed": uncounted.get("failed")}
        yield invalid_value("status.uncountedTerminatedPods", shown, "uncountedTerminatedPods needs to be empty for finished job")


def _indexes(change: Change) -> Iterator[FieldError]:
    completed, failed = change.status.get("completedIndexes") or "", change.status.get("failedIndexes")
    per_index = change.spec.get("backoffLimitPerIndex") is not None
    if change.moved("completedIndexes"):
        yield from _malformed("completedIndexes", completed, change.completions)
    if change.moved("failedIndexes") and per_index and failed is not None:
        yield from _malformed("failedIndexes", failed, change.completions)
    if change.moved("completedIndexes") and completed and not change.is_indexed:
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        yield invalid_value("status.completedIndexes", completed, detail)
    if change.moved("failedIndexes") and failed is not None and not per_index:
        yield invalid_value("status.failedIndexes", failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
    if change.moved("failedIndexes", "completedIndexes") and failed is not None and change.completions is not None:
        common = overlap(completed, failed, change.completions)
        if common is not None:
            yield invalid_value("status.failedIndexes", failed, f"failedIndexes and completedIndexes overlap at index: {common}")


def _malformed(name: str, text: str, completions: int | None) -> Iterator[FieldError]:
    if completions is None:
        return
    try:
        count_indexes(text, completions)
    except IntervalError as error:
        yield invalid_value(f"status.{name}", text, f"error parsing {name}: {error}")


def _pods(change: Change) -> Iterator[FieldError]:
    status = change.status
    if (change.ends or change.moved("terminating")) and change.is_finished and status.get("terminating", 0) > 0:
        yield invalid_value("status.terminating", status["terminating"], "terminating>0 is invalid for finished job")
    if change.moved("ready", "active") and status.get("ready", 0) > status.get("active", 0):
        yield invalid_value("status.ready", status["ready"], "cannot set more ready pods than active")


def _success(change: Change) -> Iterator[FieldError]:
    if change.has(SUCCESS_CRITERIA_MET):
        for other in (FAILED, FAILURE_TARGET):
            if change.has(other):
                yield invalid_value(CONDITIONS, OMIT, f"cannot set SuccessCriteriaMet=True and {other}=true conditions")
    elif change.has(COMPLETE) and change.spec.get("successPolicy") is not None:
        yield invalid_value(CONDITIONS, OMIT, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")


def _one_way(change: Change) -> Iterator[FieldError]:
    for condition in (FAILED, COMPLETE, FAILURE_TARGET):
        if change.had(condition) and not change.has(condition):
            yield invalid_value(CONDITIONS, OMIT, f"cannot disable the terminal {condition}=True condition")
    elastic = change.is_indexed and change.completions == change.spec.get("parallelism")
    for name, may_decrease in (("failed", False), ("succeeded", elastic)):
        now = change.status.get(name, 0)
        if not may_decrease and now < change.before.get(name, 0):
            yield invalid_value(f"status.{name}", now, f"cannot decrease the {name} counter")
    ended = change.status.get("completionTime")
    if ended and change.before.get("completionTime") and change.moved("completionTime"):
        yield invalid_value("status.completionTime", ended, "completionTime cannot be mutated")
    resumes = change.had("Suspended") and not change.has("Suspended")
    if change.before.get("startTime") and change.moved("startTime") and not change.spec.get("suspend") and not resumes:
        yield required("status.startTime", "startTime cannot be removed for unsuspended job")
    if change.had(SUCCESS_CRITERIA_MET) and not change.has(SUCCESS_CRITERIA_MET):
        yield invalid_value(CONDITIONS, OMIT, "cannot disable the SuccessCriteriaMet=True condition")
    if change.had(COMPLETE) and not change.had(SUCCESS_CRITERIA_MET) and change.has(SUCCESS_CRITERIA_MET):
        yield invalid_value(CONDITIONS, OMIT, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")


RULES: tuple[Callable[[Change], Iterator[FieldError]], ...] = (
    _numbers, _excluding_conditions, _completion_time, _required_conditions, _finished, _indexes, _pods, _success, _one_way,
)  # fmt: skip

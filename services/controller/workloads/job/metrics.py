"""What the Job controller counts, under kube-controller-manager's names (pkg/controller/job/metrics)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kubecosm.api.resources import Object
from kubecosm.client.controller import Context
from kubecosm.client.metrics import COUNTER, HISTOGRAM, Family

from . import indexes
from .failures import replaces_only_failed
from .target import FAILED, Target
from .view import View

PREFIX = "job_controller_"
_SYNC_LABELS = ("completion_mode", "result", "action")
SYNCS = Family(PREFIX + "job_syncs_total", COUNTER, "The number of job syncs", _SYNC_LABELS)
SYNC_SECONDS = Family(
    PREFIX + "job_sync_duration_seconds", HISTOGRAM, "The time it took to sync a job", _SYNC_LABELS,
    tuple(0.004 * 2**exponent for exponent in range(15)),
)  # fmt: skip
JOBS_FINISHED = Family(PREFIX + "jobs_finished_total", COUNTER, "The number of finished jobs", ("completion_mode", "result", "reason"))
PODS_FINISHED = Family(
    PREFIX + "job_pods_finished_total", COUNTER, "The number of finished Pods that are fully tracked", ("completion_mode", "result")
)
INDEXES_FINISHED = Family(PREFIX + "job_finished_indexes_total", COUNTER, "Indexes that are through.", ("status", "backoffLimit"))
FINALIZERS = Family(
    PREFIX + "terminated_pods_tracking_finalizer_total", COUNTER, "Ended pods that had a tracking finalizer, and lost it.", ("event",)
)
JUDGED = Family(PREFIX + "pod_failures_handled_by_failure_policy_total", COUNTER, "Failed pods that a rule matched.", ("action",))
PODS_CREATED = Family(PREFIX + "job_pods_creation_total", COUNTER, "Pods made for Jobs, and why.", ("reason", "status"))
EXTERNAL = Family(
    PREFIX + "jobs_by_external_controller_total", COUNTER, "The number of Jobs managed by an external controller", ("controller_name",)
)
FAMILIES = (SYNCS, SYNC_SECONDS, JOBS_FINISHED, PODS_FINISHED, INDEXES_FINISHED, FINALIZERS, JUDGED, PODS_CREATED, EXTERNAL)


def mode_of(job: Object) -> str:
    mode: str = job["spec"].get("completionMode") or "NonIndexed"
    return mode


def count_sync(ctx: Context, job: Object, started: float, action: str, *, failed: bool) -> None:
    """One sync ended: what it did to pods, or merely looked at them."""
    labels = mode_of(job), "error" if failed else "success", action
    ctx.meter.add(SYNCS, *labels)
    ctx.meter.observe(SYNC_SECONDS, ctx.clock.monotonic() - started, *labels)


def count_pods(ctx: Context, job: Object, before: Object, after: Object) -> None:
    """Pods that have just become numbers of the status, and indexes that are through."""
    for result in ("succeeded", "failed"):
        more = after.get(result, 0) - before.get(result, 0)
        if indexes.is_indexed(job):
            found = _more_indexes(job, before, after, "completedIndexes" if result == "succeeded" else "failedIndexes")
            more = found if result == "succeeded" else more
            _add(ctx, INDEXES_FINISHED, found, result, "perIndex" if job["spec"].get("backoffLimitPerIndex") is not None else "global")
        _add(ctx, PODS_FINISHED, more, mode_of(job), result)


def _more_indexes(job: Object, before: Object, after: Object, name: str) -> int:
    """Counted below the completions of today, so that a Job that shrank does not seem to have lost pods."""
    completions = job["spec"].get("completions") or 0
    return len(indexes.parse(after.get(name), completions)) - len(indexes.parse(before.get(name), completions))


def count_released(ctx: Context, pods: Collection[Object]) -> None:
    """Ended pods lost their finalizer."""
    for event in ("add", "delete"):
        _add(ctx, FINALIZERS, len(pods), event)


def count_judged(ctx: Context, judged: Mapping[str, int]) -> None:
    """Failed pods by the action that the failure policy took."""
    for action, count in judged.items():
        _add(ctx, JUDGED, count, action)


def count_created(ctx: Context, view: View, created: int, failed: int) -> None:
    """Pods made, or not, for the first time or in place of others."""
    reason = "new"
    if view.failed and replaces_only_failed(view.job):
        reason = "recreate_failed"
    elif view.failed or view.terminating:
        reason = "recreate_terminating_or_failed"
    _add(ctx, PODS_CREATED, created, reason, "succeeded")
    _add(ctx, PODS_CREATED, failed, reason, "failed")


def count_external(ctx: Context, job: Object) -> None:
    """A Job of another controller was seen for the first time."""
    ctx.meter.add(EXTERNAL, job["spec"]["managedBy"])


def count_ended(ctx: Context, job: Object, target: Target) -> None:
    failed = target.final_type == FAILED
    ctx.meter.add(JOBS_FINISHED, mode_of(job), "failed" if failed else "succeeded", target.reason if failed else "")


def _add(ctx: Context, family: Family, count: int, *labels: str) -> None:
    if count > 0:
        ctx.meter.add(family, *labels, by=count)

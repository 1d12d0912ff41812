"""What the Job controller counts, under kube-controller-manager's names (pkg/controller/job/metrics)."""

from __future__ import annotations

from kubecosm.api.resources import Object
from kubecosm.client.controller import Context
from kubecosm.client.metrics import COUNTER, HISTOGRAM, Family

from .plan import FAILED, Target

PREFIX = "job_controller_"
_SYNC_LABELS = ("completion_mode", "result", "action")
SYNCS = Family(PREFIX + "job_syncs_total", COUNTER, "Syncs of Jobs, by what they did.", _SYNC_LABELS)
SYNC_SECONDS = Family(
    PREFIX + "job_sync_duration_seconds", HISTOGRAM, "How long syncs of Jobs took.", _SYNC_LABELS,
    tuple(0.001 * 2**exponent for exponent in range(15)),
)  # fmt: skip
JOBS_FINISHED = Family(PREFIX + "jobs_finished_total", COUNTER, "Jobs that ended.", ("completion_mode", "result", "reason"))
PODS_FINISHED = Family(PREFIX + "job_pods_finished_total", COUNTER, "Pods of Jobs that were counted.", ("completion_mode", "result"))
FINALIZERS = Family(
    PREFIX + "terminated_pods_tracking_finalizer_total", COUNTER, "Ended pods whose tracking finalizer was taken away.", ("event",)
)
FAMILIES = (SYNCS, SYNC_SECONDS, JOBS_FINISHED, PODS_FINISHED, FINALIZERS)


def mode_of(job: Object) -> str:
    mode: str = job["spec"].get("completionMode") or "NonIndexed"
    return mode


def count_sync(ctx: Context, job: Object, started: float, *, created: int, deleted: int, failed: bool) -> None:
    """One sync ended: what it did to pods, or merely looked at them."""
    action = "pods_created" if created else "pods_deleted" if deleted else "reconciling"
    labels = mode_of(job), "error" if failed else "success", action
    ctx.meter.add(SYNCS, *labels)
    ctx.meter.observe(SYNC_SECONDS, ctx.clock.monotonic() - started, *labels)


def count_pods(ctx: Context, job: Object, before: Object, after: Object, released: int) -> None:
    """Pods that have just become numbers of the status, and finalizers that went."""
    for field in ("succeeded", "failed"):
        more = after.get(field, 0) - before.get(field, 0)
        if more > 0:
            ctx.meter.add(PODS_FINISHED, mode_of(job), field, by=more)
    if released:
        ctx.meter.add(FINALIZERS, "delete", by=released)


def count_ended(ctx: Context, job: Object, target: Target) -> None:
    failed = target.final_type == FAILED
    ctx.meter.add(JOBS_FINISHED, mode_of(job), "failed" if failed else "succeeded", target.reason if failed else "")

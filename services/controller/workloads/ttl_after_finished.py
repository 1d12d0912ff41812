"""TTL-after-finished controller: deletes a finished Job when its spec.ttlSecondsAfterFinished is over.

Watches Jobs. Deletes Jobs (in the foreground). Imitates pkg/controller/ttlafterfinished.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, get_condition, is_deleting, uid_of
from kubecosm.api.resources import JOBS, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.metrics import HISTOGRAM, Family

DELETION_SECONDS = Family(
    "ttl_after_finished_controller_job_deletion_duration_seconds", HISTOGRAM, "How long after the end of its TTL a Job was deleted.",
    buckets=tuple(0.1 * 2**exponent for exponent in range(14)),
)  # fmt: skip


def finished_at(job: Object) -> datetime | None:
    """When the Job became Complete or Failed."""
    for condition_type in ("Complete", "Failed"):
        condition = get_condition(job, condition_type)
        if condition is not None and condition["status"] == "True" and condition.get("lastTransitionTime"):
            return parse_time(condition["lastTransitionTime"])
    return None


def plan_expiry(job: Object, now: datetime) -> float | None:
    """Seconds until the Job is to go (0 or less: now); None if time alone does not make it go."""
    ttl, finished = job["spec"].get("ttlSecondsAfterFinished"), finished_at(job)
    if ttl is None or finished is None or is_deleting(job):
        return None
    return (finished + timedelta(seconds=ttl) - now).total_seconds()


async def reconcile(ctx: Context, key: Key) -> Result:
    cached = ctx.cache(JOBS).get(key)
    left = plan_expiry(cached, ctx.clock.now()) if cached is not None else None
    if cached is None or left is None:
        return done()
    if left > 0:
        return requeue(after_seconds=left)
    try:
        fresh = await ctx.client.get(JOBS, key.name, key.namespace)  # the TTL may have been prolonged at the last moment
        left = plan_expiry(fresh, ctx.clock.now())
        if left is None or left > 0:
            return done() if left is None else requeue(after_seconds=left)
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid_of(fresh)}}
        await ctx.client.delete(JOBS, key.name, key.namespace, options=options)
        ctx.meter.observe(DELETION_SECONDS, -left)
    except (NotFound, Conflict):
        return done()
    return done()


SPEC = ControllerSpec(
    name="ttl_jobs_to_delete", component="ttl-after-finished-controller", primary=JOBS, metrics=(DELETION_SECONDS,), workers=5
)

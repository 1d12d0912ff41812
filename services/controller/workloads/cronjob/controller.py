"""CronJob controller: creates a Job at each moment of a schedule, and tidies up old ones.

Owns Jobs. Watches CronJobs and Jobs. Writes Jobs and the CronJob's status. Imitates pkg/controller/cronjob/{cronjob_controllerv2,utils}.go;
schedules are in schedule.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import Key, controller_ref, get_condition, is_controlled_by, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_CRONJOB_SCHEDULED_TIMESTAMP
from kubecosm.api.resources import CRONJOBS, JOBS, Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.metrics import HISTOGRAM, Family

from ...common.pods import created_at
from ...common.status import update_status
from ...common.templates import is_namespace_terminating
from .schedule import Every, Schedule, ScheduleError, parse

MISSED_TIMES_MAX = 100
NEXT_SLACK_SECONDS = 0.1
"""The sync comes a little after the scheduled moment, never before."""
_FINISHED = ("Complete", "Failed")
CREATION_SKEW = Family(
    "cronjob_controller_job_creation_skew_duration_seconds", HISTOGRAM, "Time between when a Job was due and when it was created.",
    buckets=tuple(float(2**exponent) for exponent in range(10)),
)  # fmt: skip


@dataclass(frozen=True)
class Due:
    """The newest moment that has passed without a Job (None: none), how many were missed, and the next one to come."""

    moment: datetime | None
    missed: int
    following: datetime | None


def plan_due(cronjob: Object, schedule: Schedule | Every, zone: tzinfo, now: datetime) -> Due:
    """Which moment since the last one is due; moments before the starting deadline do not count."""
    status = cronjob.get("status") or {}
    last = parse_time(status["lastScheduleTime"]) if status.get("lastScheduleTime") else None
    earliest = last or created_at(cronjob) or now
    deadline = cronjob["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, now - timedelta(seconds=deadline))
    moment, missed = None, 0
    following = schedule.next(earliest, zone)
    while following is not None and following <= now:
        moment, missed = following, missed + 1
        if missed > MISSED_TIMES_MAX:
            moment = _latest(schedule, zone, following, now)
            following = schedule.next(now, zone)
            break
        following = schedule.next(following, zone)
    return Due(moment, missed, following)


def _latest(schedule: Schedule | Every, zone: tzinfo, after: datetime, now: datetime) -> datetime:
    """The newest moment up to now, found without walking through all of a long absence."""
    if isinstance(schedule, Every):
        return after + timedelta(seconds=(now - after).total_seconds() // schedule.seconds * schedule.seconds)
    step = timedelta(minutes=1)
    while True:
        candidate = schedule.next(now - step, zone)
        if candidate is not None and candidate <= now:
            found = candidate
            while (later := schedule.next(found, zone)) is not None and later <= now:
                found = later
            return max(found, after)
        step *= 2


def job_name(cronjob: Object, moment: datetime) -> str:
    """The same moment always gives the same name, so a Job is created once."""
    return f"{cronjob['metadata']['name']}-{int(moment.timestamp()) // 60}"


def new_job(cronjob: Object, moment: datetime, zone: tzinfo) -> Object:
    """The Job of one moment, from the template."""
    template, meta = cronjob["spec"]["jobTemplate"], cronjob["spec"]["jobTemplate"].get("metadata") or {}
    stamp = moment.astimezone(zone).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(cronjob, moment),
            "namespace": cronjob["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), ANNOTATION_CRONJOB_SCHEDULED_TIMESTAMP: stamp},
            "ownerReferences": [controller_ref(cronjob, CRONJOBS)],
        },
        "spec": template["spec"],
    }


def finished_type(job: Object) -> str:
    """Complete, Failed, or empty."""
    for condition_type in _FINISHED:
        condition = get_condition(job, condition_type)
        if condition is not None and condition["status"] == "True":
            return condition_type
    return ""


def reference(job: Object) -> Object:
    meta = job["metadata"]
    return {
        "kind": "Job", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"], "apiVersion": "batch/v1",
        "resourceVersion": meta["resourceVersion"],
    }  # fmt: skip


def plan_cleanup(cronjob: Object, jobs: Sequence[Object]) -> list[Object]:
    """Finished Jobs beyond the history limits, oldest first."""
    remove: list[Object] = []
    for condition_type, field, default in (("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)):
        limit = cronjob["spec"].get(field)
        finished = [job for job in jobs if finished_type(job) == condition_type and not is_deleting(job)]
        finished.sort(key=lambda job: ((job.get("status") or {}).get("startTime") or "", job["metadata"]["name"]))
        remove += finished[: max(len(finished) - (default if limit is None else limit), 0)]
    return remove


def _zone(cronjob: Object) -> tzinfo:
    """ZoneInfoNotFoundError or ValueError for a name that is no time zone."""
    name = cronjob["spec"].get("timeZone")
    return ZoneInfo(name) if name else UTC


async def _delete(ctx: Context, cronjob: Object, name: str, namespace: str) -> None:
    try:
        await ctx.client.delete(JOBS, name, namespace, options={"propagationPolicy": "Background"})
    except NotFound:
        return
    except ApiError as error:
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "FailedDelete", f"Deleted job: {error}")
        raise
    ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SuccessfulDelete", f"Deleted job {name}")


async def _follow_jobs(ctx: Context, cronjob: Object, jobs: Sequence[Object]) -> Object:
    """The CronJob with its list of active Jobs and last success brought up to date."""
    status = cronjob.get("status") or {}
    active = list(status.get("active") or ())
    listed, known = {ref["uid"] for ref in active}, {uid_of(job): job for job in jobs}
    last_success = status.get("lastSuccessfulTime")
    for uid, job in known.items():
        finished, name = finished_type(job), job["metadata"]["name"]
        if uid not in listed and not finished:
            ctx.recorder.event(
                cronjob, CRONJOBS, "Warning", "UnexpectedJob", f"Saw a job that the controller did not create or forgot: {name}"
            )
        elif uid in listed and finished:
            active = [ref for ref in active if ref["uid"] != uid]
            ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {finished}")
        if finished == "Complete":
            last_success = max(last_success or "", (job.get("status") or {}).get("completionTime") or "") or None
    for ref in list(active):
        if ref["uid"] not in known and not await _exists(ctx, ref):
            active.remove(ref)
            ctx.recorder.event(cronjob, CRONJOBS, "Normal", "MissingJob", f"Active job went missing: {ref['name']}")
    return _with_status(cronjob, active, status.get("lastScheduleTime"), last_success)


async def _exists(ctx: Context, ref: Object) -> bool:
    try:
        return bool(uid_of(await ctx.client.get(JOBS, ref["name"], ref["namespace"])) == ref["uid"])
    except NotFound:
        return False


def _with_status(cronjob: Object, active: Sequence[Object], last_schedule: str | None, last_success: str | None) -> Object:
    fields = {"active": list(active), "lastScheduleTime": last_schedule, "lastSuccessfulTime": last_success}
    return {**cronjob, "status": {name: value for name, value in fields.items() if value}}


async def _start(ctx: Context, cronjob: Object, moment: datetime, zone: tzinfo) -> Object:
    """Create the Job of this moment; returns the CronJob with its new status."""
    body = new_job(cronjob, moment, zone)
    meta = body["metadata"]
    try:
        job = await ctx.client.create(JOBS, body, meta["namespace"])
    except AlreadyExists:
        job = await ctx.client.get(JOBS, meta["name"], meta["namespace"])
        if not is_controlled_by(job, cronjob):
            raise
    except ApiError as error:
        if not is_namespace_terminating(error):
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "FailedCreate", f"Error creating job: {error}")
        raise
    else:
        ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SuccessfulCreate", f"Created job {job['metadata']['name']}")
        ctx.meter.observe(CREATION_SKEW, max((parse_time(job["metadata"]["creationTimestamp"]) - moment).total_seconds(), 0.0))
    ctx.expect_written(job)
    status = cronjob.get("status") or {}
    listed = [ref for ref in status.get("active") or () if ref["uid"] != uid_of(job)]
    return _with_status(cronjob, [*listed, reference(job)], format_time(moment), status.get("lastSuccessfulTime"))


async def _run_due(ctx: Context, cronjob: Object, due: Due, zone: tzinfo, now: datetime) -> Object:
    """Start the Job that is due, unless deadline or concurrency policy forbid it; returns the CronJob with its new status."""
    spec, status, moment = cronjob["spec"], cronjob.get("status") or {}, due.moment
    if due.missed > MISSED_TIMES_MAX:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "TooManyMissedTimes", message)
    if moment is None:
        return cronjob
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and moment + timedelta(seconds=deadline) < now:
        stamp = moment.strftime("%a, %d %b %Y %H:%M:%S %z")
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}")
        return cronjob
    active = status.get("active") or []
    if any(ref["name"] == job_name(cronjob, moment) for ref in active) or status.get("lastScheduleTime") == format_time(moment):
        return cronjob
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        ctx.recorder.event(cronjob, CRONJOBS, "Normal", "JobAlreadyActive", message)
        return cronjob
    if policy == "Replace":
        for ref in active:
            await _delete(ctx, cronjob, ref["name"], ref["namespace"])
        cronjob = _with_status(cronjob, [], status.get("lastScheduleTime"), status.get("lastSuccessfulTime"))
    return await _start(ctx, cronjob, moment, zone)


async def reconcile(ctx: Context, key: Key) -> Result:
    cached = ctx.cache(CRONJOBS).get(key)
    if cached is None:
        return done()  # gone: the garbage collector removes the Jobs
    jobs, now = ctx.owned(JOBS, cached), ctx.clock.now()
    cronjob = await _follow_jobs(ctx, cached, jobs)
    following: datetime | None = None
    try:
        if not is_deleting(cronjob) and not cronjob["spec"].get("suspend"):
            zone = _zone(cronjob)
            due = plan_due(cronjob, parse(cronjob["spec"]["schedule"]), zone, now)
            following = due.following
            cronjob = await _run_due(ctx, cronjob, due, zone, now)
    except (ZoneInfoNotFoundError, IsADirectoryError):
        name = cronjob["spec"]["timeZone"]
        message = f'invalid timeZone: "{name}": unknown time zone {name}'
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "UnknownTimeZone", message)
    except ScheduleError as error:
        message = f'unparseable schedule: "{cronjob["spec"]["schedule"]}" : {error}'
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "UnparseableSchedule", message)
    await update_status(ctx, CRONJOBS, cronjob, cronjob["status"])
    for job in plan_cleanup(cronjob, jobs):
        await _delete(ctx, cronjob, job["metadata"]["name"], key.namespace)
    return done() if following is None else requeue(after_seconds=(following - now).total_seconds() + NEXT_SLACK_SECONDS)


SPEC = ControllerSpec(name="cronjob", primary=CRONJOBS, owns=(JOBS,), metrics=(CREATION_SKEW,), workers=5)

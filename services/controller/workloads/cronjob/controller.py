"""CronJob controller: creates a Job at each moment of a schedule, and tidies up old ones.

Owns Jobs. Watches CronJobs and Jobs. Writes Jobs and the CronJob's status. Imitates pkg/controller/cronjob/cronjob_controllerv2.go;
decisions are in plan.py, schedules in schedule.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kubecosm.api.errors import AlreadyExists, ApiError, NotFound
from kubecosm.api.meta import Key, is_controlled_by, is_deleting, uid_of
from kubecosm.api.resources import CRONJOBS, JOBS, Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.client.controller import Context, ControllerSpec, ReconcileError, Result, done, requeue
from kubecosm.client.metrics import HISTOGRAM, Family

from ...common.batches import CALL_ERRORS
from ...common.status import update_status
from ...common.templates import is_namespace_terminating
from .plan import MISSED_TIMES_MAX, Due, finished_type, job_name, new_job, plan_cleanup, plan_due, reference
from .schedule import ScheduleError, parse

NEXT_SLACK_SECONDS = 0.1
"""The sync comes a little after the scheduled moment, never before."""
CREATION_SKEW = Family(
    "cronjob_controller_job_creation_skew_duration_seconds", HISTOGRAM,
    "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    buckets=tuple(float(2**exponent) for exponent in range(10)),
)  # fmt: skip


def _zone(cronjob: Object) -> tzinfo:
    """ZoneInfoNotFoundError or ValueError for a name that is no time zone."""
    name = cronjob["spec"].get("timeZone")
    return ZoneInfo(name) if name else UTC


def _with_own_status(cronjob: Object) -> Object:
    """A copy whose status the functions below may change."""
    status = cronjob.get("status") or {}
    return {**cronjob, "status": {**status, "active": list(status.get("active") or ())}}


def _written_status(cronjob: Object) -> Object:
    """As Go writes it: its order, and nothing for what is empty."""
    return {name: cronjob["status"][name] for name in ("active", "lastScheduleTime", "lastSuccessfulTime") if cronjob["status"].get(name)}


def _drop_active(cronjob: Object, uid: str) -> None:
    cronjob["status"]["active"] = [ref for ref in cronjob["status"]["active"] if ref["uid"] != uid]


async def _delete(ctx: Context, cronjob: Object, name: str, namespace: str, uid: str) -> bool:
    """Whether the Job is gone now; events tell."""
    try:
        await ctx.client.delete(JOBS, name, namespace, options={"propagationPolicy": "Background"})
    except NotFound:
        _drop_active(cronjob, uid)
        return True
    except ApiError as error:
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "FailedDelete", f"Deleted job: {error}")
        return False
    _drop_active(cronjob, uid)
    ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SuccessfulDelete", f"Deleted job {name}")
    return True


async def _follow_jobs(ctx: Context, cronjob: Object, jobs: Sequence[Object]) -> None:
    """Bring the list of active Jobs and the last success up to date."""
    status = cronjob["status"]
    listed, known = {ref["uid"] for ref in status["active"]}, {uid_of(job): job for job in jobs}
    for uid, job in known.items():
        finished, name = finished_type(job), job["metadata"]["name"]
        if uid not in listed and not finished:
            message = f"Saw a job that the controller did not create or forgot: {name}"
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "UnexpectedJob", message)
        elif uid in listed and finished:
            _drop_active(cronjob, uid)
            ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {finished}")
        if finished == "Complete":
            ended = (job.get("status") or {}).get("completionTime") or ""
            status["lastSuccessfulTime"] = max(status.get("lastSuccessfulTime") or "", ended)
    for ref in list(status["active"]):
        if ref["uid"] not in known and not await _exists(ctx, ref):
            _drop_active(cronjob, ref["uid"])
            ctx.recorder.event(cronjob, CRONJOBS, "Normal", "MissingJob", f"Active job went missing: {ref['name']}")


async def _exists(ctx: Context, ref: Object) -> bool:
    try:
        return bool(uid_of(await ctx.client.get(JOBS, ref["name"], ref["namespace"])) == ref["uid"])
    except NotFound:
        return False


async def _start(ctx: Context, cronjob: Object, moment: datetime, zone: tzinfo) -> None:
    """Create the Job of this moment and note it in the CronJob's status."""
    body = new_job(cronjob, moment, zone)
    meta = body["metadata"]
    try:
        job = await ctx.client.create(JOBS, body, meta["namespace"])
    except AlreadyExists:
        job = await ctx.client.get(JOBS, meta["name"], meta["namespace"])
        if not is_controlled_by(job, cronjob):
            return  # somebody else's: this moment is taken
    except ApiError as error:
        if not is_namespace_terminating(error):
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "FailedCreate", f"Error creating job: {error}")
        raise
    else:
        ctx.recorder.event(cronjob, CRONJOBS, "Normal", "SuccessfulCreate", f"Created job {job['metadata']['name']}")
        ctx.meter.observe(CREATION_SKEW, max((parse_time(job["metadata"]["creationTimestamp"]) - moment).total_seconds(), 0.0))
    ctx.expect_written(job)
    _drop_active(cronjob, uid_of(job))
    cronjob["status"]["active"].append(reference(job))
    cronjob["status"]["lastScheduleTime"] = format_time(moment)


async def _run_due(ctx: Context, cronjob: Object, due: Due, zone: tzinfo, now: datetime) -> None:
    """Start the Job that is due, unless deadline or concurrency policy forbid it."""
    spec, status, moment = cronjob["spec"], cronjob["status"], due.moment
    if due.missed > MISSED_TIMES_MAX:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "TooManyMissedTimes", message)
    if moment is None:
        return
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and moment + timedelta(seconds=deadline) < now:
        stamp = moment.strftime("%a, %d %b %Y %H:%M:%S %z")
        ctx.recorder.event(cronjob, CRONJOBS, "Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}")
        return
    if any(ref["name"] == job_name(cronjob, moment) for ref in status["active"]) or status.get("lastScheduleTime") == format_time(moment):
        return
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and status["active"]:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        ctx.recorder.event(cronjob, CRONJOBS, "Normal", "JobAlreadyActive", message)
        return
    if policy == "Replace":
        for ref in list(status["active"]):
            if not await _delete(ctx, cronjob, ref["name"], ref["namespace"], ref["uid"]):
                raise ReconcileError(f"could not replace job {ref['namespace']}/{ref['name']}")
    await _start(ctx, cronjob, moment, zone)


class CronJobs:
    """The controller; `SPEC` and `reconcile` are what the runner asks for. Remembers schedules, to tell when they change."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._schedules: dict[Key, tuple[str, ...]] = {}  # uid, schedule, time zone

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        cached = ctx.cache(CRONJOBS).get(key)
        if cached is None:
            self._schedules.pop(key, None)
            return done()  # gone: the garbage collector removes the Jobs
        jobs, now = ctx.owned(JOBS, cached), ctx.clock.now()
        cronjob = _with_own_status(cached)
        for job in plan_cleanup(cronjob, jobs):
            await _delete(ctx, cronjob, job["metadata"]["name"], key.namespace, uid_of(job))
        following: datetime | None = None
        try:
            await _follow_jobs(ctx, cronjob, jobs)
            if not is_deleting(cronjob):
                following = await self._follow_schedule(ctx, key, cronjob, now)
        except (*CALL_ERRORS, ReconcileError):
            await update_status(ctx, CRONJOBS, cronjob, _written_status(cronjob))  # what was seen is told once
            raise
        await update_status(ctx, CRONJOBS, cronjob, _written_status(cronjob))
        return done() if following is None else requeue(after_seconds=(following - now).total_seconds() + NEXT_SLACK_SECONDS)

    async def _follow_schedule(self, ctx: Context, key: Key, cronjob: Object, now: datetime) -> datetime | None:
        """Start what is due; returns the next moment, if there is one."""
        spec, text = cronjob["spec"], cronjob["spec"]["schedule"]
        try:
            zone = _zone(cronjob)
            if spec.get("suspend"):
                return None
            schedule = parse(text)
        except (ZoneInfoNotFoundError, IsADirectoryError):
            message = f'invalid timeZone: "{spec["timeZone"]}": unknown time zone {spec["timeZone"]}'
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "UnknownTimeZone", message)
            return None
        except ScheduleError as error:
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "UnparseableSchedule", f'unparseable schedule: "{text}" : {error}')
            return None
        due = plan_due(cronjob, schedule, zone, now)
        if due.moment is None and due.following is None:
            message = f"invalid schedule: {text} : time difference between two schedules is less than 1 second"
            ctx.recorder.event(cronjob, CRONJOBS, "Warning", "InvalidSchedule", message)
        elif not self._has_changed(key, cronjob):
            await _run_due(ctx, cronjob, due, zone, now)
        return due.following

    def _has_changed(self, key: Key, cronjob: Object) -> bool:
        """A new schedule begins with its next moment: what it would have missed is not made up for."""
        spec = cronjob["spec"]
        new = uid_of(cronjob), spec["schedule"], spec.get("timeZone") or ""
        old, self._schedules[key] = self._schedules.get(key), new
        return old is not None and old[0] == new[0] and old != new


SPEC = ControllerSpec(name="cronjob", primary=CRONJOBS, owns=(JOBS,), metrics=(CREATION_SKEW,), workers=5)


def build(_config: object) -> CronJobs:
    return CronJobs()

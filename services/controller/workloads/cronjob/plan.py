"""What a CronJob does next: which moment is due, the Job of a moment, and which Jobs to forget. Pure functions.

Imitates pkg/controller/cronjob/utils.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from kubecosm.api.meta import controller_ref, get_condition, is_deleting
from kubecosm.api.names import ANNOTATION_CRONJOB_SCHEDULED_TIMESTAMP
from kubecosm.api.resources import CRONJOBS, Object
from kubecosm.api.times import parse_time

from ...common.pods import created_at
from .schedule import Every, Schedule

MISSED_TIMES_MAX = 100
_FINISHED = ("Complete", "Failed")


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
    for condition_type, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = cronjob["spec"].get(field)
        if limit is None:
            continue
        finished = [job for job in jobs if finished_type(job) == condition_type and not is_deleting(job)]
        finished.sort(key=lambda job: ((job.get("status") or {}).get("startTime") or "", job["metadata"]["name"]))
        remove += finished[: max(len(finished) - limit, 0)]
    return remove

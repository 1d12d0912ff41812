"""Schedules, CronJobs and the TTL of finished Jobs; a year passes in milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import CRONJOBS, EVENTS, JOBS, Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.workloads import cronjob, ttl_after_finished
from kubecosm.services.controller.workloads.cronjob.plan import plan_due
from kubecosm.services.controller.workloads.cronjob.schedule import ScheduleError, parse
from tests.promises import promise

from .fake_api import FakeApi
from .harness import controllers, run, settle, wait_for


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/5 * * * *", "2026-01-02T03:04:05", "2026-01-02T03:05:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("30 9 * * mon-fri", "2026-01-02T10:00:00", "2026-01-05T09:30:00"),
        ("0 12 13 * fri", "2026-01-02T13:00:00", "2026-01-09T12:00:00"),
        ("0 12 */2 * fri", "2026-01-02T13:00:00", "2026-01-03T12:00:00"),
        ("59 23 31 dec *", "2026-12-31T23:59:00", "2027-12-31T23:59:00"),
        ("@hourly", "2026-01-02T03:00:00", "2026-01-02T04:00:00"),
        ("@every 1h30m", "2026-01-02T03:04:05", "2026-01-02T04:34:05"),
        ("@every 90000ms", "2026-01-02T03:04:05", "2026-01-02T03:05:35"),
        ("5,,7 * * * *", "2026-01-02T03:05:00", "2026-01-02T03:07:00"),
        ("10-20/5 1,2 ? * *", "2026-01-02T02:15:00", "2026-01-02T02:20:00"),
    ],
)
def test_the_next_moment_of_a_schedule(schedule: str, after: str, expected: str) -> None:
    assert parse(schedule).next(at(after), UTC) == at(expected)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* * * * 7", "5-1 * * * *", "*/0 * * * *", "@often", "x * * * *", "@every x"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text)


def test_a_schedule_follows_the_clocks_of_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    schedule = parse("30 2 * * *")
    assert schedule.next(at("2026-03-28T12:00:00"), berlin) == at("2026-03-30T00:30:00")  # 29 March has no 02:30
    assert schedule.next(at("2026-10-24T12:00:00"), berlin) == at("2026-10-25T00:30:00")
    assert schedule.next(at("2026-10-25T00:30:00"), berlin) == at("2026-10-25T01:30:00")  # and 25 October has two
    assert schedule.next(at("2026-10-25T01:30:00"), berlin) == at("2026-10-26T01:30:00")
    half_past = parse("0,30 2-3 * * *")
    found, moment = [], at("2026-10-24T12:00:00")
    for _ in range(6):
        moment = half_past.next(moment, berlin) or moment
        found.append(f"{moment:%H:%M}")
    assert found == ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"]


def test_a_schedule_that_never_comes_has_no_next_moment() -> None:
    assert parse("0 0 30 2 *").next(at("2026-01-01T00:00:00"), UTC) is None


def cron_job(schedule: str = "*/10 * * * *", **spec: Any) -> Object:
    body = {
        "schedule": schedule,
        "concurrencyPolicy": "Allow",
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}},
        **spec,
    }
    return {"metadata": {"name": "c", "namespace": "default"}, "spec": body}


def status(api: FakeApi) -> Object:
    found: Object = api.all(CRONJOBS)[0].get("status") or {}
    return found


def finish(api: FakeApi, job: Object, condition_type: str = "Complete") -> None:
    stamp = format_time(api.clock.now())
    condition = {"type": condition_type, "status": "True", "lastTransitionTime": stamp}
    api.set_status(JOBS, job, conditions=[condition], startTime=stamp, completionTime=stamp)


def test_a_job_is_created_at_each_moment_and_old_ones_are_deleted() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job())
            for count in range(1, 7):
                await wait_for(lambda count=count: api.count("create", "jobs") == count)  # type: ignore[misc]
                await wait_for(lambda: status(api).get("active"))
                job = next(job for job in api.all(JOBS) if "status" not in job)
                finish(api, job)
                await wait_for(lambda: not status(api).get("active"))
        assert len(api.all(JOBS)) == 3
        assert status(api)["lastScheduleTime"] == "2026-01-02T04:00:00Z"
        assert "lastSuccessfulTime" in status(api)
        newest = max(api.all(JOBS), key=lambda job: str(job["metadata"]["name"]))
        assert newest["metadata"]["name"] == f"c-{int(at('2026-01-02T04:00:00').timestamp()) // 60}"
        assert newest["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2026-01-02T04:00:00Z"
        assert newest["metadata"]["labels"] == {"a": "b"}
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= {event["reason"] for event in api.all(EVENTS)}

    run(test)


@promise("CronJob should not schedule new jobs when ForbidConcurrent", "CronJob should replace jobs when ReplaceConcurrent")
def test_forbid_skips_and_replace_deletes_what_still_runs() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job(concurrencyPolicy="Forbid"))
            await wait_for(lambda: len(api.all(JOBS)) == 1)
            await settle(1300)
            assert len(api.all(JOBS)) == 1
            assert any(event["reason"] == "JobAlreadyActive" for event in api.all(EVENTS))
            found = api.all(CRONJOBS)[0]
            api.put(CRONJOBS, {**found, "spec": {**found["spec"], "concurrencyPolicy": "Replace"}})
            first = api.all(JOBS)[0]["metadata"]["name"]
            await wait_for(lambda: api.all(JOBS)[0]["metadata"]["name"] != first)
            assert len(api.all(JOBS)) == 1

    run(test)


@promise("CronJob should schedule multiple jobs concurrently")
def test_allow_runs_jobs_side_by_side() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job("* * * * *"))
            await wait_for(lambda: len(status(api).get("active") or ()) == 2)
            assert len(api.all(JOBS)) == 2

    run(test)


@promise("CronJob should not schedule jobs when suspended")
def test_a_suspended_cron_job_rests() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job(suspend=True))
            await settle(7200)
            assert not api.all(JOBS)

    run(test)


def test_a_broken_schedule_or_zone_is_told() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job("nonsense"))
            await wait_for(lambda: any(event["reason"] == "UnparseableSchedule" for event in api.all(EVENTS)))
            found = api.all(CRONJOBS)[0]
            api.put(CRONJOBS, {**found, "spec": {**found["spec"], "schedule": "@daily", "timeZone": "Mars/Olympus"}})
            await wait_for(lambda: any(event["reason"] == "UnknownTimeZone" for event in api.all(EVENTS)))

    run(test)


def test_a_daily_job_over_a_year_runs_365_times() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job("0 6 * * *", successfulJobsHistoryLimit=1, timeZone="Europe/Berlin"))
            for _ in range(365):
                await api.clock.sleep(86400)
                for job in api.all(JOBS):
                    if "status" not in job:
                        finish(api, job)
            await settle()
            assert api.count("create", "jobs") == 365
            assert len(api.all(JOBS)) == 1

    run(test)


def test_a_changed_schedule_begins_with_its_next_moment() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job("0 0 1 1 *"))
            await settle(3000)
            found = api.all(CRONJOBS)[0]
            before = api.clock.now()
            api.put(CRONJOBS, {**found, "spec": {**found["spec"], "schedule": "*/10 * * * *"}})
            await wait_for(lambda: status(api).get("lastScheduleTime"))
            assert status(api)["lastScheduleTime"] > format_time(before)

    run(test)


def test_a_schedule_that_never_comes_is_told() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job("0 0 30 2 *"))
            await wait_for(lambda: any(event["reason"] == "InvalidSchedule" for event in api.all(EVENTS)))
        message = "invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second"
        assert api.all(EVENTS)[0]["message"] == message

    run(test)


def test_a_refused_job_hides_nothing_that_was_seen_of_others() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job())
            await wait_for(lambda: status(api).get("active"))
            api.answer_with(Forbidden("exceeded quota: few"), "create", "jobs", times=5)
            await settle(590)
            finish(api, api.all(JOBS)[0])
            await wait_for(lambda: len(api.all(JOBS)) == 2)
            await settle()
        reasons = [event["reason"] for event in api.all(EVENTS) for _ in range(event.get("count", 1))]
        assert (reasons.count("FailedCreate"), reasons.count("SawCompletedJob")) == (5, 1)
        assert "lastSuccessfulTime" in status(api)

    run(test)


def test_a_job_of_somebody_else_takes_the_moment() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, cronjob.CronJobs()):
            await api.create(CRONJOBS, cron_job())
            name = f"c-{int(at('2026-01-02T03:10:00').timestamp()) // 60}"
            await api.create(JOBS, {"metadata": {"name": name, "namespace": "default"}, "spec": {}})
            await settle(600)
            await wait_for(lambda: status(api).get("active"))
            assert (status(api)["lastScheduleTime"], api.count("create", "jobs")) == ("2026-01-02T03:20:00Z", 3)

    run(test)


def test_after_a_long_absence_only_the_newest_moment_is_made_up_for() -> None:
    body = cron_job("* * * * *")
    body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    due = plan_due(body, parse("* * * * *"), UTC, at("2026-01-11T00:00:30"))
    assert due.missed > 100
    assert due.moment == at("2026-01-11T00:00:00")
    assert due.following == at("2026-01-11T00:01:00")
    late = plan_due({**body, "spec": {**body["spec"], "startingDeadlineSeconds": 90}}, parse("* * * * *"), UTC, at("2026-01-11T00:00:30"))
    assert (late.missed, late.moment) == (1, at("2026-01-11T00:00:00"))


def test_a_finished_job_goes_when_its_time_is_over() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ttl_after_finished):
            await api.create(JOBS, {"metadata": {"name": "j", "namespace": "default"}, "spec": {"ttlSecondsAfterFinished": 100}})
            await settle(300)
            assert api.all(JOBS)
            finish(api, api.all(JOBS)[0])
            before = api.clock.monotonic()
            await wait_for(lambda: not api.all(JOBS) or api.all(JOBS)[0]["metadata"].get("deletionTimestamp"))
            assert 99 <= api.clock.monotonic() - before <= 102

    run(test)

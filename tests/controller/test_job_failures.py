"""How Jobs meet failures: back-off, indexes that fail, pods that cannot be deleted, counts that policies leave out."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

from kubecosm.api.errors import Forbidden, InternalError
from kubecosm.api.meta import get_condition
from kubecosm.api.names import ANNOTATION_POD_DELETION_COST, FINALIZER_JOB_TRACKING
from kubecosm.api.resources import EVENTS, JOBS, PODS, Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.cluster import pod_gc
from kubecosm.services.controller.workloads import job
from kubecosm.services.controller.workloads.job import backoff, counting, indexes, plan, pods, target, view
from kubecosm.testing.virtualtime import EPOCH

from .fake_api import FakeApi
from .harness import controllers, run, running, settle, wait_for
from .test_job import a_job, exits, index, indexed, is_over, status, with_kubelet

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"


def ago(seconds: float) -> str:
    return format_time(EPOCH - timedelta(seconds=seconds))


def pod(name: str, phase: str = "Running", *, tracked: bool = True, age: int = 100, **fields: Any) -> Object:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "creationTimestamp": ago(age)}
    meta["annotations"] = fields.get("annotations", {})
    if tracked:
        meta["finalizers"] = [FINALIZER_JOB_TRACKING]
    if "deleted" in fields:
        meta |= {"deletionTimestamp": ago(fields["deleted"]), "deletionGracePeriodSeconds": fields.get("grace", 30)}
    return {"metadata": meta, "spec": {}, "status": {"phase": phase, **fields.get("status", {})}}


def at_index(number: int, failures: int = 0, **fields: Any) -> Object:
    annotations = {INDEX: str(number), FAILURES: str(failures)}
    return pod(fields.pop("name", f"p{number}-{failures}"), annotations=annotations, **fields)


def test_a_deleted_pod_is_replaced_only_after_the_back_off_even_when_it_is_gone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job())
            await wait_for(lambda: status(api).get("ready") == 1)
            began, first = api.clock.monotonic(), api.all(PODS)[0]["metadata"]["name"]
            await api.delete(PODS, first, "default")
            await wait_for(lambda: api.all(PODS) and api.all(PODS)[0]["metadata"]["name"] != first)
            assert 9 <= api.clock.monotonic() - began <= 12

    run(test)


def test_a_quota_that_is_exceeded_is_asked_again_every_minute_at_the_latest() -> None:
    async def test(api: FakeApi) -> None:
        api.answer_with(Forbidden('pods "j-x" is forbidden: exceeded quota: few'), "create", "pods", times=1000)
        tried: list[float] = []
        async with controllers(api, job.Jobs()):
            await api.create(JOBS, a_job())
            for number in range(1, 11):
                await wait_for(lambda number=number: api.count("create", "pods") >= number)
                tried.append(api.clock.monotonic())
        waits = [round(later - earlier) for earlier, later in pairwise(tried)]
        assert waits[1:] == [2, 4, 8, 16, 32, 60, 60, 60]
        told = [event for event in api.all(EVENTS) if event["reason"] == "FailedCreate"]
        assert told[0]["message"] == 'Error creating: pods "j-x" is forbidden: exceeded quota: few'

    run(test)


def test_what_is_refused_is_not_asked_for_at_every_change() -> None:
    async def test(api: FakeApi) -> None:
        api.answer_with(Forbidden("exceeded quota: few"), "create", "pods", times=1000)
        async with controllers(api, job.Jobs()):
            await api.create(JOBS, a_job())
            for number in range(50):
                found = api.all(JOBS)[0]
                api.put(JOBS, {**found, "metadata": {**found["metadata"], "annotations": {"touched": str(number)}}})
                await api.clock.sleep(0.1)
            assert 4 <= api.count("create", "pods") <= 6

    run(test)


def test_a_job_does_not_fail_before_its_pods_could_be_deleted() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job(activeDeadlineSeconds=5))
            await wait_for(lambda: status(api).get("ready") == 1)
            api.answer_with(InternalError("no leader"), "delete", "pods", times=4)
            await wait_for(lambda: api.count("delete", "pods") == 4)
            assert get_condition(api.all(JOBS)[0], "FailureTarget") is None
            assert (status(api)["active"], status(api).get("failed")) == (1, None)
            await wait_for(lambda: is_over(api, "Failed"))
            assert status(api)["failed"] == 1

    run(test)


def test_a_pod_is_replaced_only_when_it_has_ended_if_the_job_wants_it_so() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = with_kubelet(api, lambda pod: running(api))
        kubelet.stop_seconds = 25
        async with controllers(api, job.Jobs()), kubelet.at_work():
            await api.create(JOBS, a_job(podReplacementPolicy="Failed"))
            await wait_for(lambda: status(api).get("ready") == 1)
            first = api.all(PODS)[0]["metadata"]["name"]
            kubelet.ended = "Failed"
            await api.delete(PODS, first, "default")
            await wait_for(lambda: status(api).get("terminating") == 1)
            assert (status(api).get("active"), status(api).get("failed")) == (None, None)
            await settle(20)
            assert [pod["metadata"]["name"] for pod in api.all(PODS)] == [first]
            await wait_for(lambda: status(api).get("failed") == 1 and status(api).get("active") == 1)
            assert status(api)["terminating"] == 0

    run(test)


def test_a_pod_that_never_came_to_a_node_counts_when_it_is_deleted() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs(), pod_gc.PodGc(0)):
            await api.create(JOBS, a_job(podReplacementPolicy="Failed"))
            await wait_for(lambda: len(api.all(PODS)) == 1)
            first = api.all(PODS)[0]["metadata"]["name"]
            await api.delete(PODS, first, "default")
            await wait_for(lambda: status(api).get("failed") == 1 and len(api.all(PODS)) == 1)
            assert api.all(PODS)[0]["metadata"]["name"] != first

    run(test)


def test_jobs_of_other_controllers_are_left_alone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()):
            theirs = await api.create(JOBS, a_job(managedBy="example.com/queue"))
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": theirs["metadata"]["uid"], "controller": True}
            ended = pod("theirs", "Failed")
            api.put(PODS, {**ended, "metadata": {**ended["metadata"], "ownerReferences": [owner]}})
            await settle(60)
            assert [found["metadata"].get("finalizers") for found in api.all(PODS)] == [[FINALIZER_JOB_TRACKING]]
            assert not status(api)
            await api.delete(JOBS, "j", "default")
            await wait_for(lambda: not api.all(PODS)[0]["metadata"].get("finalizers"))

    run(test)


def test_an_index_that_waits_is_not_overtaken_by_later_ones() -> None:
    async def test(api: FakeApi) -> None:
        order: list[int] = []

        def starts(made: Object) -> Object:
            order.append(index(made))
            return exits(made, 1 if order == [0] else 0)

        async with controllers(api, job.Jobs()), with_kubelet(api, starts).at_work():
            await api.create(JOBS, indexed(3, 1, backoffLimitPerIndex=2, backoffLimit=2**31 - 1))
            await wait_for(lambda: is_over(api))
        assert order == [0, 0, 1, 2]

    run(test)


def test_the_record_of_failures_survives_pods_and_restarts() -> None:
    ended = {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1, "finishedAt": ago(5)}}}]}
    failed, counted = pod("a", "Failed", status=ended), pod("b", "Failed", tracked=False, status=ended)
    assert view.View(a_job(), [failed], EPOCH, backoff.Record(2, EPOCH)).record == backoff.Record(3, EPOCH - timedelta(seconds=5))
    assert view.View(a_job(), [counted], EPOCH).record == backoff.Record(1, EPOCH - timedelta(seconds=5))
    assert view.View(a_job(), [pod("c", "Succeeded", status=ended)], EPOCH, backoff.Record(2, EPOCH)).record == backoff.Record()
    superfluous = pod("d", tracked=False, deleted=5)
    assert view.View(a_job(), [superfluous], EPOCH).record == backoff.Record(), "it was deleted by its Job, not failed"


def test_a_pod_ended_with_its_containers_or_when_it_was_told_to_go() -> None:
    ended = {"name": "c", "state": {"terminated": {"exitCode": 1, "finishedAt": ago(7)}}}
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": ago(3)}
    assert backoff.finished_at(pod("a", status={"containerStatuses": [ended], "conditions": [unready]})) == EPOCH - timedelta(seconds=7)
    half = {"containerStatuses": [ended, {"name": "d", "state": {"running": {}}}], "conditions": [unready]}
    assert backoff.finished_at(pod("a", status=half)) == EPOCH - timedelta(seconds=3)
    assert backoff.finished_at(pod("a", deleted=-20, grace=30)) == EPOCH - timedelta(seconds=10)
    assert backoff.finished_at(pod("a", age=60)) == EPOCH - timedelta(seconds=60)


def test_of_pods_with_one_index_the_one_that_came_furthest_stays() -> None:
    def ready(since: int) -> Object:
        return {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(since)}]}

    def scheduled(found: Object) -> Object:
        return {**found, "spec": {"nodeName": "node-0"}}

    costly = at_index(0, name="costly", phase="Pending")
    costly["metadata"]["annotations"][ANNOTATION_POD_DELETION_COST] = "100"
    found = [scheduled(at_index(0, name="old", status=ready(50))), scheduled(at_index(0, name="new", status=ready(10))), costly]
    planned = plan.plan_pods(view.View(indexed(2, 2), [*found, at_index(1), pod("none")], EPOCH))
    assert sorted(one["metadata"]["name"] for one in planned.delete) == ["costly", "new", "none"]


def test_the_failed_pod_of_an_index_is_released_when_its_successor_runs() -> None:
    wanted = indexed(1, 1, backoffLimitPerIndex=3)
    alone = view.View(wanted, [at_index(0, 0, phase="Failed")], EPOCH)
    assert counting.plan_counting(alone, None).release == []
    followed = view.View(wanted, [at_index(0, 0, phase="Failed"), at_index(0, 1, name="next")], EPOCH)
    assert [one["metadata"]["name"] for one in counting.plan_counting(followed, None).release] == ["p0-0"]


def test_a_policy_decides_over_pods_that_a_failing_job_cuts_short_too() -> None:
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    disrupted = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}
    seen = view.View(a_job(2, 2, podFailurePolicy={"rules": rules}), [pod("a", status=disrupted), pod("b")], EPOCH)
    planned = counting.plan_counting(seen, target.Target(target.FAILURE_TARGET, "DeadlineExceeded", ""))
    assert (planned.failed, planned.judged) == (["uid-b"], {"Ignore": 1})
    assert len(planned.release) == 2


def test_pods_without_a_valid_index_never_count() -> None:
    seen = view.View(indexed(1, 1), [at_index(5), pod("none", "Failed")], EPOCH)
    planned = counting.plan_counting(seen, target.Target(target.FAILURE_TARGET, "DeadlineExceeded", ""))
    assert (planned.failed, len(planned.release)) == ([], 2)


def test_a_status_never_holds_more_than_five_hundred_uncounted_pods() -> None:
    noted = {"uncountedTerminatedPods": {"failed": [f"uid-old-{number}" for number in range(400)]}}
    found = [pod(f"old-{number}", "Failed") for number in range(400)] + [pod(f"new-{number}", "Failed") for number in range(200)]
    planned = counting.plan_counting(view.View({**a_job(1000, 1000), "status": noted}, found, EPOCH), None)
    assert (len(planned.failed), planned.is_partial) == (100, True)


def test_no_success_is_met_before_an_index_succeeded() -> None:
    shrunk = indexed(2, 2, successPolicy={"rules": [{"succeededIndexes": "5-7"}]})
    assert target.plan_target(view.View(shrunk, [at_index(0)], EPOCH)) is None


def test_unreadable_parts_of_index_lists_are_passed_over() -> None:
    assert indexes.parse("0,x,2-y,4-5", 10) == {0, 4, 5}


def test_the_longest_name_leaves_room_for_the_index() -> None:
    long = indexed(200, 1)
    long["metadata"]["name"] = "n" * 59
    made = pods.new_pod({**long, "metadata": {**long["metadata"], "uid": "u"}}, plan.NewPod(117))
    assert made["metadata"]["generateName"] == "n" * 53 + "-117-"

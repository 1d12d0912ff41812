"""Jobs in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubecosm.api.meta import get_condition, is_deleting, labels_of
from kubecosm.api.names import FINALIZER_JOB_TRACKING
from kubecosm.api.resources import EVENTS, JOBS, PODS, Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.workloads import job
from kubecosm.services.controller.workloads.job import indexes
from kubecosm.services.controller.workloads.job import status as statuses
from kubecosm.testing.virtualtime import EPOCH

from .fake_api import FakeApi
from .harness import Kubelet, controllers, ended, pod_template, run, running, settle, wait_for


def a_job(completions: int | None = 1, parallelism: int = 1, **spec: Any) -> Object:
    template = pod_template("task", app="job")
    template["spec"]["restartPolicy"] = "Never"
    body = {"parallelism": parallelism, "backoffLimit": 6, "selector": {"matchLabels": {"app": "job"}}, "template": template, **spec}
    if completions is not None:
        body["completions"] = completions
    return {"metadata": {"name": "j", "namespace": "default"}, "spec": body}


def indexed(completions: int, parallelism: int, **spec: Any) -> Object:
    return a_job(completions, parallelism, completionMode="Indexed", **spec)


def status(api: FakeApi) -> Object:
    found: Object = api.all(JOBS)[0].get("status") or {}
    return found


def is_over(api: FakeApi, condition_type: str = "Complete") -> bool:
    condition = get_condition(api.all(JOBS)[0], condition_type)
    return condition is not None and condition["status"] == "True"


def index(pod: Object) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def exits(pod: Object, code: int) -> Object:
    state = {"terminated": {"exitCode": code, "finishedAt": pod["metadata"]["creationTimestamp"]}}
    return {**ended("Failed" if code else "Succeeded"), "containerStatuses": [{"name": "c", "restartCount": 0, "state": state}]}


def ends(phase: str) -> Callable[[Object], Object]:
    return lambda pod: exits(pod, 0 if phase == "Succeeded" else 1)


def with_kubelet(api: FakeApi, starts: Callable[[Object], Object | None]) -> Kubelet:
    kubelet = Kubelet(api)
    kubelet.starts = starts
    return kubelet


def test_a_job_runs_its_pods_counts_them_and_completes() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, ends("Succeeded")).at_work():
            await api.create(JOBS, a_job(5, 2))
            most = 0

            def sample() -> bool:
                nonlocal most
                most = max(most, sum(pod["status"]["phase"] == "Pending" for pod in api.all(PODS)))
                return is_over(api)

            await wait_for(sample)
            await settle()
        assert most == 2
        found = status(api)
        assert (found["succeeded"], found["uncountedTerminatedPods"], found["ready"]) == (5, {}, 0)
        assert "active" not in found
        assert "completionTime" in found
        assert [c["type"] for c in found["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        assert found["conditions"][1]["reason"] == "CompletionsReached"
        assert len(api.all(PODS)) == 5
        assert not any(FINALIZER_JOB_TRACKING in (pod["metadata"].get("finalizers") or ()) for pod in api.all(PODS))
        assert "Completed" in [event["reason"] for event in api.all(EVENTS)]

    run(test)


def test_failures_are_retried_with_growing_back_off_until_the_limit() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, ends("Failed")).at_work():
            await api.create(JOBS, a_job(backoffLimit=3))
            await wait_for(lambda: is_over(api, "Failed"))
            assert 10 + 20 + 40 <= api.clock.monotonic() <= 75
            await settle()
        assert status(api)["failed"] == 4
        condition = get_condition(api.all(JOBS)[0], "Failed")
        assert condition is not None
        assert (condition["reason"], condition["message"]) == ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        assert get_condition(api.all(JOBS)[0], "FailureTarget") is not None

    run(test)


def test_an_indexed_job_runs_each_index_once() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, ends("Succeeded")).at_work():
            await api.create(JOBS, indexed(6, 3))
            await wait_for(lambda: is_over(api))
        assert sorted(index(pod) for pod in api.all(PODS)) == [0, 1, 2, 3, 4, 5]
        assert status(api)["completedIndexes"] == "0-5"
        pod = api.all(PODS)[0]
        assert pod["metadata"]["name"].startswith("j-0-")
        assert pod["spec"]["hostname"] == "j-0"
        assert labels_of(pod)["batch.kubernetes.io/job-completion-index"] == "0"
        assert pod["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"

    run(test)


def test_a_deadline_ends_the_job() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job(activeDeadlineSeconds=30))
            await wait_for(lambda: is_over(api, "Failed"))
            assert 29 <= api.clock.monotonic() <= 33
            await settle()
        condition = get_condition(api.all(JOBS)[0], "Failed")
        assert condition is not None
        assert condition["reason"] == "DeadlineExceeded"
        assert status(api)["failed"] == 1
        assert not api.all(PODS)

    run(test)


def test_a_suspended_job_has_no_pods_and_starts_anew_when_resumed() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job(2, 2))
            await wait_for(lambda: status(api).get("active") == 2)
            found = api.all(JOBS)[0]
            api.put(JOBS, {**found, "spec": {**found["spec"], "suspend": True}})
            await wait_for(lambda: not api.all(PODS))
            await settle()
            condition = get_condition(api.all(JOBS)[0], "Suspended")
            assert condition is not None
            assert (condition["status"], condition["reason"]) == ("True", "JobSuspended")
            assert "failed" not in status(api)
            assert "startTime" not in status(api)
            resumed_at = format_time(api.clock.now())
            found = api.all(JOBS)[0]
            api.put(JOBS, {**found, "spec": {**found["spec"], "suspend": False}})
            await wait_for(lambda: status(api).get("active") == 2)
            assert status(api)["startTime"] >= resumed_at
        assert [e["reason"] for e in api.all(EVENTS) if e["reason"] in ("Suspended", "Resumed")] == ["Suspended", "Resumed"]

    run(test)


def test_the_failure_policy_ends_the_job_at_once_or_forgives() -> None:
    async def test(api: FakeApi) -> None:
        rules = [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
        fates = iter(["disrupted", "disrupted", "fatal"])

        def starts(pod: Object) -> Object:
            if next(fates) == "fatal":
                return exits(pod, 42)
            return {**exits(pod, 1), "conditions": [{"type": "DisruptionTarget", "status": "True"}]}

        async with controllers(api, job.Jobs()), with_kubelet(api, starts).at_work():
            await api.create(JOBS, a_job(backoffLimit=0, podFailurePolicy={"rules": rules}))
            await wait_for(lambda: is_over(api, "Failed"))
            await settle()
        condition = get_condition(api.all(JOBS)[0], "Failed")
        assert condition is not None
        assert condition["reason"] == "PodFailurePolicy"
        assert condition["message"].endswith("failed with exit code 42 matching FailJob rule at index 0")
        assert status(api)["failed"] == 1

    run(test)


def test_each_index_has_its_own_backoff_limit() -> None:
    async def test(api: FakeApi) -> None:
        def starts(pod: Object) -> Object:
            return exits(pod, 1 if index(pod) % 2 else 0)

        async with controllers(api, job.Jobs()), with_kubelet(api, starts).at_work():
            await api.create(JOBS, indexed(4, 4, backoffLimitPerIndex=1, backoffLimit=2**31 - 1))
            await wait_for(lambda: is_over(api, "Failed"))
            await settle()
        assert (status(api)["completedIndexes"], status(api)["failedIndexes"]) == ("0,2", "1,3")
        condition = get_condition(api.all(JOBS)[0], "Failed")
        assert condition is not None
        assert condition["reason"] == "FailedIndexes"
        assert sorted(index(pod) for pod in api.all(PODS)) == [0, 1, 1, 2, 3, 3]
        assert status(api)["failed"] == 4
        assert not any(pod["metadata"].get("finalizers") for pod in api.all(PODS))

    run(test)


def test_a_success_policy_ends_the_job_before_all_indexes_are_done() -> None:
    async def test(api: FakeApi) -> None:
        def starts(pod: Object) -> Object:
            return exits(pod, 0) if index(pod) == 0 else running(api)

        async with controllers(api, job.Jobs()), with_kubelet(api, starts).at_work():
            await api.create(JOBS, indexed(3, 3, successPolicy={"rules": [{"succeededIndexes": "0"}]}))
            await wait_for(lambda: is_over(api))
            await settle()
        condition = get_condition(api.all(JOBS)[0], "Complete")
        assert condition is not None
        assert (condition["reason"], condition["message"]) == ("SuccessPolicy", "Matched rules at index 0")
        assert len(api.all(PODS)) == 1

    run(test)


def test_a_deleted_pod_counts_as_failed_and_is_replaced() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job())
            await wait_for(lambda: status(api).get("active") == 1 and status(api).get("ready") == 1)
            await api.delete(PODS, api.all(PODS)[0]["metadata"]["name"], "default")
            await wait_for(lambda: status(api).get("failed") == 1 and len(api.all(PODS)) == 1 and not is_deleting(api.all(PODS)[0]))

    run(test)


def test_pods_of_a_job_that_is_gone_lose_their_finalizer() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, lambda pod: running(api)).at_work():
            await api.create(JOBS, a_job(2, 2))
            await wait_for(lambda: status(api).get("ready") == 2)
            await api.delete(JOBS, "j", "default")
            await wait_for(lambda: not any(pod["metadata"].get("finalizers") for pod in api.all(PODS)))
        assert len(api.all(PODS)) == 2

    run(test)


def test_no_count_is_lost_or_doubled_when_the_status_write_conflicts() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), with_kubelet(api, ends("Succeeded")).at_work():
            await api.create(JOBS, a_job(10, 5))
            for _ in range(5):
                await settle(0.03)
                found = api.all(JOBS)[0]
                api.put(JOBS, {**found, "metadata": {**found["metadata"], "annotations": {"touched": str(api.clock.now())}}})
            await wait_for(lambda: is_over(api))
            await settle()
        assert status(api)["succeeded"] == 10

    run(test)


@pytest.mark.parametrize(
    ("found", "text"), [(set(), ""), ({3}, "3"), ({1, 2}, "1,2"), ({0, 1, 2, 5, 7, 8}, "0-2,5,7,8")], ids=["none", "one", "two", "mixed"]
)
def test_indexes_are_written_as_ranges_and_read_back(found: set[int], text: str) -> None:
    assert indexes.render(found) == text
    assert indexes.parse(text, 100) == found


def test_suspending_tells_at_once_how_many_pods_are_on_their_way_out() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()), Kubelet(api, stop_seconds=30).at_work():
            await api.create(JOBS, a_job(3, 3))
            await wait_for(lambda: status(api).get("ready") == 3)
            found = api.all(JOBS)[0]
            api.put(JOBS, {**found, "spec": {**found["spec"], "suspend": True}})
            await wait_for(lambda: not status(api).get("active"))
            assert (status(api)["ready"], status(api)["terminating"]) == (0, 3)

    run(test)


def test_a_condition_that_changes_keeps_its_place() -> None:
    conditions = [{"type": name, "status": "True", "reason": "JobSuspended", "message": "Job suspended"} for name in ("Suspended", "Other")]
    changed = statuses.ensured({"status": {"conditions": conditions}}, "Suspended", "False", "JobResumed", "Job resumed", EPOCH)
    assert changed is not None
    assert [(one["type"], one["status"]) for one in changed] == [("Suspended", "False"), ("Other", "True")]


def test_pods_of_other_controllers_keep_a_finalizer_of_this_name() -> None:
    async def test(api: FakeApi) -> None:
        def pod(name: str, *owners: Object) -> Object:
            meta = {"name": name, "namespace": "default", "labels": {}, "finalizers": [FINALIZER_JOB_TRACKING]}
            meta["ownerReferences"] = [*owners]
            return {"metadata": meta, "spec": {}, "status": {"phase": "Succeeded"}}

        other = {"apiVersion": "example.com/v1", "kind": "Job", "name": "theirs", "uid": "u", "controller": True}
        async with controllers(api, job.Jobs()):
            api.put(PODS, pod("theirs", other))
            api.put(PODS, pod("nobodys"))
            await wait_for(lambda: [p["metadata"]["name"] for p in api.all(PODS) if p["metadata"].get("finalizers")] == ["theirs"])
            await settle()
            assert [p["metadata"]["name"] for p in api.all(PODS) if p["metadata"].get("finalizers")] == ["theirs"]

    run(test)


@pytest.mark.parametrize("suspend", [False, True], ids=["runs", "suspended"])
def test_a_job_that_wants_nothing_is_complete_at_once(suspend: bool) -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, job.Jobs()):
            await api.create(JOBS, a_job(0, suspend=suspend))
            await wait_for(lambda: is_over(api))
            assert ("startTime" in status(api), "completionTime" in status(api)) == (not suspend, True)

    run(test)

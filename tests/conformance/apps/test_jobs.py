"""Jobs run to completion by their policies; CronJobs and their status over the wire. What CronJobs do in time is tested in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.apps.workloads import Object, Workloads, condition, owner_uid, pod_template, shell
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

WHAT = "jobs/work"
SELECTOR = "batch.kubernetes.io/job-name=work"
INDEX = "batch.kubernetes.io/job-completion-index"
FAIL_ODD = "exit $((JOB_COMPLETION_INDEX % 2))"


def job(script: str = "true", *, runs: bool = False, restart: str = "Never", **spec: Any) -> Object:
    """A Job whose pods run a script, or until they are stopped."""
    command = shell("sleep 600" if runs else script)
    return {"template": pod_template({"job": "work"}, image="busybox", restartPolicy=restart, command=command), **spec}


def indexed(script: str, completions: int, **spec: Any) -> Object:
    return job(script, completions=completions, parallelism=completions, completionMode="Indexed", **spec)


def all_pods(work: Workloads) -> list[Object]:
    return work.list("pods", SELECTOR)


@promise("Job should create pods for an Indexed job with completion indexes and specified hostname")
def test_each_pod_of_an_indexed_job_knows_its_index(work: Workloads) -> None:
    work.create(WHAT, indexed("exit 0", 4))
    work.wait_condition(WHAT, "Complete")
    pods = {pod["metadata"]["annotations"][INDEX]: pod for pod in all_pods(work)}
    assert sorted(pods) == ["0", "1", "2", "3"]
    for index, pod in pods.items():
        assert pod["spec"]["hostname"] == f"work-{index}"
        assert any(env["name"] == "JOB_COMPLETION_INDEX" for env in pod["spec"]["containers"][0]["env"])
    assert work.get(WHAT)["status"]["completedIndexes"] == "0-3"


@promise("Job should run a job to completion when tasks sometimes fail and are locally restarted")
def test_a_task_that_fails_once_is_restarted_in_place(work: Workloads) -> None:
    script = "if [ -f /data/seen ]; then exit 0; fi; touch /data/seen; exit 1"
    spec = job(script, restart="OnFailure", completions=2, parallelism=2)
    pod = spec["template"]["spec"]
    pod["volumes"] = [{"name": "data", "emptyDir": {}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    work.create(WHAT, spec)
    work.wait_condition(WHAT, "Complete")
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in all_pods(work)]
    assert restarts == [1, 1]


@promise("Job should delete a job")
def test_a_deleted_job_takes_its_pods_along(work: Workloads) -> None:
    work.create(WHAT, job(runs=True, parallelism=2, completions=2))
    work.wait_status(WHAT, active=2)
    work.delete(WHAT, propagationPolicy="Foreground")
    wait_for(lambda: not work.exists(WHAT) and not all_pods(work), "nothing is left")


@promise("Job should adopt matching orphans and release non-matching pods")
def test_pods_are_adopted_and_released(work: Workloads) -> None:
    made = work.create(WHAT, job(runs=True, parallelism=2, completions=2))
    work.wait_status(WHAT, active=2)
    name = f"pods/{all_pods(work)[0]['metadata']['name']}"
    work.patch(name, {"metadata": {"ownerReferences": None}})
    wait_for(lambda: owner_uid(work.get(name)) == made["metadata"]["uid"], "the orphan is adopted again")
    labels = {"batch.kubernetes.io/controller-uid": None, "controller-uid": None, "batch.kubernetes.io/job-name": None, "job-name": None}
    work.patch(name, {"metadata": {"labels": labels}})
    wait_for(lambda: not owner_uid(work.get(name)), "the pod is released")


@promise("Job should manage the lifecycle of a job")
def test_the_life_of_a_job(work: Workloads) -> None:
    mark = f"run={work.namespace}"
    work.create(WHAT, job(suspend=True), labels={"run": work.namespace})
    work.wait_condition(WHAT, "Suspended")
    assert work.patch(WHAT, {"metadata": {"labels": {"patched": "yes"}}})["metadata"]["labels"]["patched"] == "yes"
    work.put(WHAT, lambda found: found["metadata"].setdefault("annotations", {}).update(updated="yes"))
    assert work.get(WHAT)["metadata"]["annotations"]["updated"] == "yes"
    assert len(work.wire.get("/apis/batch/v1/jobs", labelSelector=mark)["items"]) == 1
    work.patch(WHAT, {"spec": {"suspend": False}})
    work.wait_condition(WHAT, "Complete")
    work.delete_all("jobs", mark)
    wait_for(lambda: not work.list("jobs"), "no job is left")


@promise("Job should apply changes to a job status")
def test_the_status_of_a_job_can_be_read_replaced_and_patched(work: Workloads) -> None:
    work.create(WHAT, job(runs=True))
    work.wait_status(WHAT, active=1)
    own = {"type": "CustomCondition", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patched = work.patch(WHAT, {"metadata": {"annotations": {"patched": "yes"}}, "status": {"conditions": [own]}}, "status")
    assert (patched["metadata"]["annotations"]["patched"], condition(patched, "CustomCondition")) == ("yes", "True")
    mark = {"type": "StatusUpdate", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    work.put(WHAT, lambda found: found["status"].update(conditions=[mark]), "status")
    assert condition(work.get(WHAT, "status"), "StatusUpdate") == "True"


@promise("Job should allow to use the pod failure policy on exit code to fail the job early")
def test_an_exit_code_may_end_the_job(work: Workloads) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}}
    work.create(WHAT, job("exit 42", backoffLimit=6, podFailurePolicy={"rules": [rule]}))
    failed = work.wait_condition(WHAT, "Failed", "PodFailurePolicy")
    assert failed["status"]["failed"] == 1


@promise("Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition")
def test_evictions_need_not_count_as_failures(work: Workloads) -> None:
    forgive = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    fail = {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}}
    policy = {"rules": [forgive, fail]}
    work.create(WHAT, job(runs=True, completions=1, completionMode="Indexed", backoffLimit=0, podFailurePolicy=policy))
    (before,) = work.wait_ready(SELECTOR, 1)
    name = before["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": work.namespace}}
    work.wire.create(work.path(f"pods/{name}", "eviction"), eviction)
    wait_for(lambda: [p for p in work.ready_pods(SELECTOR) if p["metadata"]["name"] != name], "it was made anew after its back-off of 10 s")
    assert not work.get(WHAT)["status"].get("failed")
    assert not condition(work.get(WHAT), "Failed")


@promise("Job should execute all indexes despite some failing when using backoffLimitPerIndex")
def test_each_index_fails_for_itself(work: Workloads) -> None:
    work.create(WHAT, indexed(FAIL_ODD, 4, backoffLimitPerIndex=1))
    done = work.wait_condition(WHAT, "Failed", "FailedIndexes")["status"]
    assert (done["completedIndexes"], done["failedIndexes"]) == ("0,2", "1,3")
    assert (done["succeeded"], done["failed"]) == (2, 4), "each failing index was tried twice"


@promise("Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy")
def test_a_failure_policy_may_end_an_index_without_another_try(work: Workloads) -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}
    work.create(WHAT, indexed(FAIL_ODD, 2, backoffLimitPerIndex=5, podFailurePolicy={"rules": [rule]}))
    done = work.wait_condition(WHAT, "Failed", "FailedIndexes")["status"]
    assert (done["completedIndexes"], done["failedIndexes"], done["failed"]) == ("0", "1", 1)


@promise("Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes")
def test_too_many_failed_indexes_end_the_job(work: Workloads) -> None:
    work.create(WHAT, indexed("exit 1", 10, backoffLimitPerIndex=0, maxFailedIndexes=2) | {"parallelism": 3})
    done = work.wait_condition(WHAT, "Failed", "MaxFailedIndexesExceeded")["status"]
    assert not done.get("completedIndexes")
    assert done["failed"] < 10


SUCCESS = [
    ("exit 0", {"succeededIndexes": "0-1"}, "SuccessPolicy", "0,1"),
    ("if [ $JOB_COMPLETION_INDEX = 0 ]; then exit 0; fi; sleep 600", {"succeededIndexes": "0"}, "SuccessPolicy", "0"),
    ("if [ $JOB_COMPLETION_INDEX = 0 ]; then exit 0; fi; sleep 600", {"succeededCount": 1}, "SuccessPolicy", "0"),
]


@promise(
    "Job with successPolicy should succeeded when all indexes succeeded",
    "Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending",
    "Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending",
)
@pytest.mark.parametrize(("script", "rule", "reason", "completed"), SUCCESS, ids=["all", "by index", "by count"])
def test_a_success_policy_ends_the_job(work: Workloads, script: str, rule: Object, reason: str, completed: str) -> None:
    work.create(WHAT, indexed(script, 2, successPolicy={"rules": [rule]}))
    work.wait_condition(WHAT, "SuccessCriteriaMet", reason)
    done = work.wait_condition(WHAT, "Complete", reason)["status"]
    assert done["completedIndexes"] == completed
    assert not done.get("active")


@promise("CronJob should support CronJob API operations")
def test_cron_jobs_take_every_verb(work: Workloads) -> None:
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job()}}
    path = work.path("cronjobs")
    version = work.wire.get(path)["metadata"]["resourceVersion"]
    with work.wire.watch(path, resourceVersion=version) as events:
        for name in ("one", "two"):
            work.create(f"cronjobs/{name}", spec, labels={"run": work.namespace})
        assert events.take(2) == [("ADDED", "one"), ("ADDED", "two")]
        assert len(work.wire.get("/apis/batch/v1/cronjobs", labelSelector=f"run={work.namespace}")["items"]) == 2
        work.patch("cronjobs/one", {"metadata": {"annotations": {"patched": "yes"}}})
        work.put("cronjobs/one", lambda found: found["metadata"]["annotations"].update(updated="yes"))
        assert [event["object"]["metadata"]["annotations"] for event in (events.next(), events.next())] == [
            {"patched": "yes"}, {"patched": "yes", "updated": "yes"},
        ]  # fmt: skip
        stamp = "2026-01-01T00:00:00Z"
        assert work.patch("cronjobs/one", {"status": {"lastScheduleTime": stamp}}, "status")["status"]["lastScheduleTime"] == stamp
        work.put("cronjobs/one", lambda found: found["status"].update(lastSuccessfulTime=stamp), "status")
        assert work.get("cronjobs/one", "status")["status"] == {"lastScheduleTime": stamp, "lastSuccessfulTime": stamp}
        work.delete("cronjobs/one")
        assert not work.exists("cronjobs/one")
        work.delete_all("cronjobs", f"run={work.namespace}")
        assert not work.list("cronjobs")

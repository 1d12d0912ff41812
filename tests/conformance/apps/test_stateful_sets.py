"""StatefulSets: pods with names and an order, revisions, partitions, renewal of failed pods."""

from __future__ import annotations

import pytest

from tests.conformance.apps.workloads import Object, Workloads, condition, pod_template
from tests.conformance.wire import STRATEGIC
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

LABELS = {"app": "db"}
SELECTOR = "app=db"
WHAT = "statefulsets/db"
PROBE = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1, "failureThreshold": 1}
BROKEN, MENDED = {"kubecosm.dev/http-status": "500"}, {"kubecosm.dev/http-status": None}


def stateful_set(replicas: int, *, image: str = "db:1", **spec: object) -> Object:
    template = pod_template(LABELS, image=image, ports=[{"containerPort": 80}], readinessProbe=PROBE)
    return {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": LABELS}, "template": template, **spec}


def names(pods: list[Object]) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in pods)


def images(work: Workloads) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in work.ready_pods(SELECTOR)}


def set_image(work: Workloads, image: str) -> None:
    work.patch(WHAT, {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}, kind=STRATEGIC)


def annotate(work: Workloads, pod: str, annotations: Object) -> None:
    work.patch(f"pods/{pod}", {"metadata": {"annotations": annotations}})


@promise("StatefulSet Basic StatefulSet functionality Scaling should happen in predictable order and halt if any stateful pod is unhealthy")
def test_pods_come_and_go_in_order_and_none_while_one_is_unhealthy(work: Workloads) -> None:
    version = work.wire.get(work.path("pods"))["metadata"]["resourceVersion"]
    with work.wire.watch(work.path("pods"), labelSelector=SELECTOR, resourceVersion=version) as events:
        work.create(WHAT, stateful_set(1))
        work.wait_ready(SELECTOR, 1)
        annotate(work, "db-0", BROKEN)
        wait_for(lambda: not work.ready_pods(SELECTOR), "db-0 is unhealthy")
        work.patch(WHAT, {"spec": {"replicas": 3}})
        work.wait_status(WHAT, observedGeneration=2, replicas=1)
        annotate(work, "db-0", MENDED)
        assert names(work.wait_ready(SELECTOR, 3)) == ["db-0", "db-1", "db-2"]
        for name in ("db-0", "db-1", "db-2"):
            annotate(work, name, BROKEN)
        wait_for(lambda: not work.ready_pods(SELECTOR), "all are unhealthy")
        work.patch(WHAT, {"spec": {"replicas": 0}})
        work.wait_status(WHAT, observedGeneration=3)
        assert names(work.pods(SELECTOR)) == ["db-0", "db-1", "db-2"]
        for name in ("db-0", "db-1", "db-2"):
            annotate(work, name, MENDED)
        wait_for(lambda: not work.list("pods", SELECTOR), "all are gone")
        seen: list[tuple[str, str]] = []
        while len([kind for kind, _ in seen if kind == "DELETED"]) < 3:
            seen += [(kind, name) for kind, name in events.take(1) if kind != "MODIFIED"]
    assert seen == [*(("ADDED", f"db-{i}") for i in range(3)), *(("DELETED", f"db-{i}") for i in (2, 1, 0))]


@promise("StatefulSet Basic StatefulSet functionality Burst scaling should run to completion even with unhealthy pods")
def test_parallel_sets_do_not_wait_for_unhealthy_pods(work: Workloads) -> None:
    work.create(WHAT, stateful_set(1, podManagementPolicy="Parallel"))
    work.wait_ready(SELECTOR, 1)
    annotate(work, "db-0", BROKEN)
    wait_for(lambda: not work.ready_pods(SELECTOR), "db-0 is unhealthy")
    work.patch(WHAT, {"spec": {"replicas": 3}})
    wait_for(lambda: names(work.ready_pods(SELECTOR)) == ["db-1", "db-2"], "the others come all the same")
    work.patch(WHAT, {"spec": {"replicas": 0}})
    wait_for(lambda: not work.list("pods", SELECTOR), "all are gone")


@promise("StatefulSet Basic StatefulSet functionality should perform rolling updates and roll backs of template modifications")
def test_a_rollback_finds_the_revision_that_was_there(work: Workloads) -> None:
    work.create(WHAT, stateful_set(3))
    work.wait_ready(SELECTOR, 3)
    first = work.get(WHAT)["status"]["currentRevision"]
    set_image(work, "db:2")
    wait_for(lambda: set(images(work).values()) == {"db:2"} and len(images(work)) == 3, "all pods are new")
    second = work.wait_status(WHAT, updatedReplicas=3, readyReplicas=3, currentReplicas=3)["status"]["currentRevision"]
    assert second != first
    set_image(work, "db:1")
    wait_for(lambda: set(images(work).values()) == {"db:1"} and len(images(work)) == 3, "all pods are back")
    status = work.wait_status(WHAT, updatedReplicas=3, readyReplicas=3, currentReplicas=3)["status"]
    assert (status["currentRevision"], status["updateRevision"]) == (first, first)
    assert len(work.list("controllerrevisions", SELECTOR)) == 2


@promise("StatefulSet Basic StatefulSet functionality should perform canary updates and phased rolling updates of template modifications")
def test_a_partition_keeps_the_first_pods_on_the_old_revision(work: Workloads) -> None:
    def partition(at: int) -> Object:
        return {"type": "RollingUpdate", "rollingUpdate": {"partition": at}}

    work.create(WHAT, stateful_set(3, updateStrategy=partition(3)))
    work.wait_ready(SELECTOR, 3)
    set_image(work, "db:2")
    work.wait_status(WHAT, observedGeneration=2)
    assert set(images(work).values()) == {"db:1"}, "nothing moves above the partition"
    work.patch(WHAT, {"spec": {"updateStrategy": partition(2)}})
    canary = {"db-0": "db:1", "db-1": "db:1", "db-2": "db:2"}
    wait_for(lambda: images(work) == canary, "the canary is new")
    for name in ("db-0", "db-2"):
        work.delete(f"pods/{name}")
    wait_for(lambda: images(work) == canary, "deleted pods come back in the revision of their place")
    for at, expected in ((1, ["db:1", "db:2", "db:2"]), (0, ["db:2"] * 3)):
        work.patch(WHAT, {"spec": {"updateStrategy": partition(at)}})
        wait_for(lambda expected=expected: [images(work).get(f"db-{i}") for i in range(3)] == expected, f"the partition is at {at}")


@promise("StatefulSet Basic StatefulSet functionality Should recreate evicted statefulset")
def test_a_pod_that_its_node_refuses_is_made_again(work: Workloads) -> None:
    container = {"name": "main", "image": "db:1", "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "1000"}}}
    node = work.wire.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    spec = stateful_set(1)
    spec["template"]["spec"] |= {"nodeName": node, "containers": [container]}
    version = work.wire.get(work.path("pods"))["metadata"]["resourceVersion"]
    with work.wire.watch(work.path("pods"), labelSelector=SELECTOR, resourceVersion=version) as events:
        work.create(WHAT, spec)
        uids: set[str] = set()
        while len(uids) < 2:
            pod = events.next()["object"]
            if pod["status"].get("phase") == "Failed":
                assert pod["status"]["reason"] == "OutOfcpu"
            uids.add(pod["metadata"]["uid"])
    work.patch(
        WHAT, {"spec": {"template": {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}}}}, kind=STRATEGIC
    )
    work.wait_ready(SELECTOR, 1)


@promise("StatefulSet Basic StatefulSet functionality should have a working scale subresource")
def test_a_stateful_set_is_scaled_through_its_subresource(work: Workloads) -> None:
    work.create(WHAT, stateful_set(1))
    work.wait_ready(SELECTOR, 1)
    assert work.get(WHAT, "scale")["spec"]["replicas"] == 1
    work.put(WHAT, lambda scale: scale["spec"].update(replicas=2), "scale")
    assert work.get(WHAT)["spec"]["replicas"] == 2
    assert work.patch(WHAT, {"spec": {"replicas": 4}}, "scale")["spec"]["replicas"] == 4


@promise("StatefulSet Basic StatefulSet functionality should list, patch and delete a collection of StatefulSets")
def test_stateful_sets_are_listed_patched_and_deleted_by_label(work: Workloads) -> None:
    work.create(WHAT, stateful_set(1), labels={"run": work.namespace})
    work.wait_ready(SELECTOR, 1)
    assert len(work.wire.get("/apis/apps/v1/statefulsets", labelSelector=f"run={work.namespace}")["items"]) == 1
    patch = {"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 2}}
    assert work.patch(WHAT, patch)["metadata"]["labels"]["patched"] == "yes"
    work.wait_ready(SELECTOR, 2)
    work.delete_all("statefulsets", "patched=yes")
    wait_for(lambda: not work.list("statefulsets"), "no set is left")


@promise("StatefulSet Basic StatefulSet functionality should validate Statefulset Status endpoints")
def test_the_status_of_a_stateful_set_can_be_read_replaced_and_patched(work: Workloads) -> None:
    work.create(WHAT, stateful_set(1))
    work.wait_status(WHAT, readyReplicas=1)
    mark = {"type": "StatusUpdate", "status": "True", "reason": "E2E"}
    work.put(WHAT, lambda found: found["status"].update(conditions=[mark]), "status")
    assert condition(work.get(WHAT, "status"), "StatusUpdate", "reason") == "E2E"
    patched = work.patch(WHAT, {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}, "status")
    assert condition(patched, "StatusPatched") == "True"

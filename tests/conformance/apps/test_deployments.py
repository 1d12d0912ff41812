"""Deployments: rolling out, rolling over, recreating, scaling, keeping few old ReplicaSets, status and scale subresources."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.apps.workloads import Object, Workloads, condition, owner_uid, pod_template
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

LABELS = {"app": "web"}
SELECTOR = "app=web"


def deployment(replicas: int = 1, **spec: Any) -> Object:
    template = spec.pop("template", None) or pod_template(LABELS)
    return {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template, **spec}


def new_image(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}


def sets(work: Workloads) -> dict[str, Object]:
    """ReplicaSets by the image of their template."""
    return {found["spec"]["template"]["spec"]["containers"][0]["image"]: found for found in work.list("replicasets", SELECTOR)}


@promise("Deployment RollingUpdateDeployment should delete old pods and create new ones")
def test_a_rolling_update_adopts_the_old_set_and_replaces_its_pods(work: Workloads) -> None:
    old = work.create(
        "replicasets/old",
        {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": pod_template(LABELS, image="a:1")},
        labels=LABELS,
    )
    (before,) = work.wait_ready(SELECTOR, 1)
    made = work.create("deployments/web", deployment(template=pod_template(LABELS, image="a:2")))
    work.wait_status("deployments/web", updatedReplicas=1, availableReplicas=1, replicas=1)
    (after,) = work.wait_ready(SELECTOR, 1)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    found = sets(work)
    assert owner_uid(found["a:1"]) == made["metadata"]["uid"], "the set that was there has been adopted"
    assert found["a:1"]["metadata"]["uid"] == old["metadata"]["uid"]
    assert (found["a:1"]["spec"]["replicas"], found["a:2"]["spec"]["replicas"]) == (0, 1)


@promise("Deployment RecreateDeployment should delete old pods and create new ones")
def test_recreate_never_has_old_and_new_pods_at_once(work: Workloads) -> None:
    slow = {"kubecosm.dev/drain-seconds": "0.3"}
    work.create(
        "deployments/web", deployment(2, strategy={"type": "Recreate"}, template=pod_template(LABELS, image="a:1", annotations=slow))
    )
    old = {pod["metadata"]["uid"] for pod in work.wait_ready(SELECTOR, 2)}
    version = work.wire.get(work.path("pods"))["metadata"]["resourceVersion"]
    with work.wire.watch(work.path("pods"), labelSelector=SELECTOR, resourceVersion=version) as events:
        work.patch("deployments/web", new_image("a:2"))
        running = set(old)
        new: set[str] = set()
        while len(new) < 2:
            event = events.next()
            uid, phase = event["object"]["metadata"]["uid"], event["object"]["status"].get("phase")
            if event["type"] == "DELETED" or phase in ("Succeeded", "Failed"):
                running.discard(uid)
            elif uid not in old and phase == "Running":
                assert not running & old, "a new pod runs while old ones do"
                new.add(uid)


@promise("Deployment deployment should delete old replica sets")
def test_old_replica_sets_are_removed_beyond_the_history_limit(work: Workloads) -> None:
    work.create("deployments/web", deployment(revisionHistoryLimit=0, template=pod_template(LABELS, image="a:1")))
    work.wait_ready(SELECTOR, 1)
    work.patch("deployments/web", new_image("a:2"))
    wait_for(lambda: set(sets(work)) == {"a:2"}, "the old set is gone")


@promise("Deployment deployment should support rollover")
def test_a_rollout_may_be_overtaken_by_the_next(work: Workloads) -> None:
    work.create("deployments/web", deployment(2, template=pod_template(LABELS, image="a:1")))
    work.wait_ready(SELECTOR, 2)
    stuck = {"template": {"metadata": {"annotations": {"kubecosm.dev/image-pull": "fail"}}, **new_image("never:2")["spec"]["template"]}}
    work.patch("deployments/web", {"spec": stuck})
    wait_for(lambda: "never:2" in sets(work), "the second rollout has begun")
    healthy = {"template": {"metadata": {"annotations": {"kubecosm.dev/image-pull": None}}, **new_image("a:3")["spec"]["template"]}}
    work.patch("deployments/web", {"spec": healthy})
    work.wait_status("deployments/web", updatedReplicas=2, availableReplicas=2, replicas=2)
    sizes = {"a:1": 0, "never:2": 0, "a:3": 2}
    wait_for(lambda: {image: found["spec"]["replicas"] for image, found in sets(work).items()} == sizes, "only the newest set has pods")


@promise("Deployment deployment should support proportional scaling")
def test_scaling_in_the_middle_of_a_rollout_is_spread_over_both_sets(work: Workloads) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    work.create("deployments/web", deployment(10, strategy=rolling, template=pod_template(LABELS, image="a:1")))
    work.wait_ready(SELECTOR, 10)
    stuck = {"template": {"metadata": {"annotations": {"kubecosm.dev/image-pull": "fail"}}, **new_image("never:1")["spec"]["template"]}}
    work.patch("deployments/web", {"spec": stuck})

    def sizes() -> dict[str, int]:
        return {image: found["spec"]["replicas"] for image, found in sets(work).items()}

    wait_for(lambda: sizes() == {"a:1": 8, "never:1": 5}, "the rollout is stuck at 8 of 10 old and 5 new pods")
    wait_for(lambda: work.get("deployments/web")["status"].get("availableReplicas") == 8, "8 pods are available")
    work.patch("deployments/web", {"spec": {"replicas": 30}})
    wait_for(lambda: sizes() == {"a:1": 20, "never:1": 13}, "both sets grow in proportion: 33 are allowed")


@promise("Deployment should run the lifecycle of a Deployment")
def test_the_life_of_a_deployment(work: Workloads) -> None:
    work.create("deployments/web", deployment(2), labels={"stage": "test"})
    work.wait_ready(SELECTOR, 2)
    assert [d["metadata"]["name"] for d in work.wire.get("/apis/apps/v1/deployments", labelSelector="stage=test")["items"]] == ["web"]
    work.patch("deployments/web", {"metadata": {"labels": {"stage": "patched"}}, **new_image("a:2")})
    work.wait_status("deployments/web", updatedReplicas=2, readyReplicas=2, replicas=2)
    work.patch("deployments/web", {"spec": {"replicas": 3}}, "scale")
    work.wait_ready(SELECTOR, 3)
    assert work.get("deployments/web", "status")["spec"]["replicas"] == 3
    patched = work.patch(
        "deployments/web",
        {"metadata": {"annotations": {"seen": "yes"}}, "status": {"conditions": [{"type": "Seen", "status": "True"}]}},
        "status",
    )
    assert patched["metadata"]["annotations"]["seen"] == "yes"
    work.delete_all("deployments", "stage=patched")
    wait_for(lambda: not work.exists("deployments/web") and not work.list("pods", SELECTOR), "nothing is left")


@promise("Deployment should validate Deployment Status endpoints")
def test_the_status_of_a_deployment_can_be_read_replaced_and_patched(work: Workloads) -> None:
    work.create("deployments/web", deployment())
    work.wait_condition("deployments/web", "Available")
    mark = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from the test"}
    work.put("deployments/web", lambda d: d["status"]["conditions"].append(mark), "status")
    assert condition(work.get("deployments/web", "status"), "StatusUpdate", "reason") == "E2E"
    patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
    assert condition(work.patch("deployments/web", patch, "status"), "StatusPatched") == "True"


@promise("Deployment Deployment should have a working scale subresource")
def test_a_deployment_is_scaled_through_its_subresource(work: Workloads) -> None:
    work.create("deployments/web", deployment())
    work.wait_status("deployments/web", readyReplicas=1)
    scale = work.get("deployments/web", "scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"], scale["status"]["selector"]) == (1, 1, SELECTOR)
    work.put("deployments/web", lambda s: s["spec"].update(replicas=2), "scale")
    assert work.get("deployments/web")["spec"]["replicas"] == 2
    assert work.patch("deployments/web", {"spec": {"replicas": 4}}, "scale")["spec"]["replicas"] == 4
    work.wait_ready(SELECTOR, 4)

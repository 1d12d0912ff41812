"""ReplicaSets and ReplicationControllers: as many pods as asked for, adopted and released by label, scaled, listed, deleted."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.conformance.apps.workloads import Object, Workloads, condition, owner_uid, pod_template
from tests.conformance.wire import MERGE
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

LABELS = {"app": "web"}
SELECTOR = "app=web"
PORT = 9376
BOTH = pytest.mark.parametrize("what", ["replicasets/web", "replicationcontrollers/web"])


def spec_of(what: str, replicas: int, **template: Any) -> Object:
    selector: Object = LABELS if what.startswith("replicationcontrollers") else {"matchLabels": LABELS}
    return {"replicas": replicas, "selector": selector, "template": pod_template(LABELS, **template)}


def fetch(address: str) -> Any:
    with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
        return json.loads(answer.read())


@promise(
    "ReplicaSet should serve a basic image on each replica with a public image",
    "ReplicationController should serve a basic image on each replica with a public image",
)
@BOTH
def test_every_replica_answers(work: Workloads, what: str) -> None:
    work.create(what, spec_of(what, 2, image="registry.k8s.io/serve-hostname", ports=[{"containerPort": PORT}]))
    for pod in work.wait_ready(SELECTOR, 2):
        assert fetch(f"{pod['status']['podIP']}:{PORT}")["pod"] == pod["metadata"]["name"]


@promise(
    "ReplicaSet should adopt matching pods on creation and release no longer matching pods",
    "ReplicationController should adopt matching pods on creation",
    "ReplicationController should release no longer matching pods",
)
@BOTH
def test_pods_are_adopted_and_released_by_their_labels(work: Workloads, what: str) -> None:
    template = pod_template(LABELS)
    orphan = work.wire.create(work.path("pods"), {"metadata": {"name": "orphan", "labels": LABELS}, "spec": template["spec"]})
    work.wait_ready(SELECTOR, 1)
    owner = work.create(what, spec_of(what, 1))
    wait_for(lambda: owner_uid(work.get("pods/orphan")) == owner["metadata"]["uid"], "the pod is adopted")
    work.patch("pods/orphan", {"metadata": {"labels": {"app": "other"}}})
    wait_for(lambda: not owner_uid(work.get("pods/orphan")), "the pod is released")
    (replacement,) = work.wait_ready(SELECTOR, 1)
    assert replacement["metadata"]["uid"] != orphan["metadata"]["uid"]


@promise(
    "ReplicaSet Replicaset should have a working scale subresource",
    "ReplicationController should get and update a ReplicationController scale",
)
@BOTH
def test_the_scale_subresource_sizes_them(work: Workloads, what: str) -> None:
    work.create(what, spec_of(what, 1))
    work.wait_ready(SELECTOR, 1)
    assert work.get(what, "scale")["spec"]["replicas"] == 1
    work.put(what, lambda scale: scale["spec"].update(replicas=2), "scale")
    assert work.get(what)["spec"]["replicas"] == 2
    work.wait_ready(SELECTOR, 2)
    assert work.patch(what, {"spec": {"replicas": 4}}, "scale")["spec"]["replicas"] == 4
    work.wait_ready(SELECTOR, 4)


@promise("ReplicaSet Replace and Patch tests")
def test_a_replica_set_can_be_replaced_and_patched(work: Workloads) -> None:
    work.create("replicasets/web", spec_of("replicasets", 1))
    work.wait_ready(SELECTOR, 1)
    work.put("replicasets/web", lambda found: found["spec"].update(replicas=2))
    work.wait_ready(SELECTOR, 2)
    patch = {
        "metadata": {"labels": {"patched": "yes"}},
        "spec": {"replicas": 3, "template": {"spec": {"terminationGracePeriodSeconds": 0}}},
    }
    patched = work.patch("replicasets/web", patch)
    assert patched["metadata"]["labels"]["patched"] == "yes"
    assert work.get("replicasets/web")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 0
    work.wait_ready(SELECTOR, 3)


@promise("ReplicaSet should list and delete a collection of ReplicaSets")
def test_replica_sets_are_listed_and_deleted_by_label(work: Workloads) -> None:
    work.create("replicasets/web", spec_of("replicasets", 3), labels={"run": work.namespace})
    work.wait_ready(SELECTOR, 3)
    everywhere = work.wire.get("/apis/apps/v1/replicasets", labelSelector=f"run={work.namespace}")["items"]
    assert [found["metadata"]["name"] for found in everywhere] == ["web"]
    work.delete_all("replicasets", f"run={work.namespace}")
    wait_for(lambda: not work.list("replicasets"), "no set is left")


@promise("ReplicaSet should validate Replicaset Status endpoints")
def test_the_status_of_a_replica_set_can_be_read_replaced_and_patched(work: Workloads) -> None:
    work.create("replicasets/web", spec_of("replicasets", 1))
    work.wait_status("replicasets/web", readyReplicas=1)
    mark = {"type": "StatusUpdate", "status": "True", "reason": "E2E"}
    work.put("replicasets/web", lambda found: found["status"].update(conditions=[mark]), "status")
    assert condition(work.get("replicasets/web", "status"), "StatusUpdate", "reason") == "E2E"
    patched = work.patch("replicasets/web", {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}, "status")
    assert condition(patched, "StatusPatched") == "True"


@promise("ReplicationController should surface a failure condition on a common issue like exceeded quota")
def test_a_quota_that_is_used_up_is_a_condition_until_it_is_not(work: Workloads) -> None:
    work.create("resourcequotas/few", {"hard": {"pods": "2"}})
    wait_for(lambda: (work.get("resourcequotas/few").get("status") or {}).get("hard") == {"pods": "2"}, "the quota is in force")
    what = "replicationcontrollers/web"
    work.create(what, spec_of(what, 3))
    failed = work.wait_condition(what, "ReplicaFailure", "FailedCreate")
    assert "exceeded quota: few" in condition(failed, "ReplicaFailure", "message")
    work.patch(what, {"spec": {"replicas": 2}})
    wait_for(lambda: not condition(work.get(what), "ReplicaFailure"), "the condition goes")


@promise("ReplicationController should test the lifecycle of a ReplicationController")
def test_the_life_of_a_replication_controller(work: Workloads) -> None:
    what = "replicationcontrollers/web"
    version = work.wire.get(work.path("replicationcontrollers"))["metadata"]["resourceVersion"]
    with work.wire.watch(work.path("replicationcontrollers"), resourceVersion=version) as events:
        work.create(what, spec_of(what, 1), labels={"stage": "static"})
        assert events.next()["type"] == "ADDED"
        work.wait_status(what, readyReplicas=1)
        work.patch(what, {"metadata": {"labels": {"patched": "yes"}}})
        work.patch(what, {"status": {"availableReplicas": 0, "readyReplicas": 0}}, "status")
        assert work.get(what, "status")["metadata"]["labels"] == {"stage": "static", "patched": "yes"}
        work.wire.patch(work.path(what, "scale"), {"spec": {"replicas": 2}}, MERGE)
        work.wait_status(what, readyReplicas=2)
        listed = work.wire.get("/api/v1/replicationcontrollers", labelSelector="stage=static")["items"]
        assert what.split("/")[1] in [found["metadata"]["name"] for found in listed]
        work.put(what, lambda found: found["metadata"]["labels"].update(stage="updated"))
        work.delete_all("replicationcontrollers", "stage=updated")
        while events.next()["type"] != "DELETED":
            pass

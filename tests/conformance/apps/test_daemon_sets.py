"""DaemonSets: one pod on every node that is meant, renewed when lost or failed, updated and rolled back node by node."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.apps.workloads import Object, Workloads, condition, owner_uid, pod_template
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

LABELS = {"app": "agent"}
SELECTOR = "app=agent"
NODES = 3


def daemon_set(image: str = "agent:1", **spec: Any) -> Object:
    strategy = spec.pop("updateStrategy", {"type": "RollingUpdate"})
    return {"selector": {"matchLabels": LABELS}, "updateStrategy": strategy, "template": pod_template(LABELS, image=image, **spec)}


def set_image(work: Workloads, image: str) -> None:
    work.patch("daemonsets/agent", {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})


def images(work: Workloads) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in work.ready_pods(SELECTOR)]


def nodes_of(pods: list[Object]) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods}


@promise("Daemon set [Serial] should run and stop simple daemon")
def test_every_node_has_a_pod_and_a_deleted_one_comes_again(work: Workloads) -> None:
    work.create("daemonsets/agent", daemon_set())
    pods = work.wait_ready(SELECTOR, NODES)
    assert len(nodes_of(pods)) == NODES
    work.delete(f"pods/{pods[0]['metadata']['name']}")
    wait_for(lambda: not work.exists(f"pods/{pods[0]['metadata']['name']}"), "the pod is gone")
    assert nodes_of(work.wait_ready(SELECTOR, NODES)) == nodes_of(pods)
    work.delete("daemonsets/agent")
    wait_for(lambda: not work.list("pods", SELECTOR), "the pods go with their set")


@promise("Daemon set [Serial] should run and stop complex daemon")
def test_the_labels_of_nodes_choose_where_the_pods_run(work: Workloads) -> None:
    label = f"conformance/{work.namespace}"

    def paint(node: str, colour: str | None) -> None:
        work.wire.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {label: colour}}})

    try:
        work.create("daemonsets/agent", daemon_set(nodeSelector={label: "blue"}))
        work.wait_status("daemonsets/agent", observedGeneration=1, desiredNumberScheduled=0)
        assert not work.pods(SELECTOR)
        paint("node-1", "blue")
        assert nodes_of(work.wait_ready(SELECTOR, 1)) == {"node-1"}
        paint("node-1", "green")
        wait_for(lambda: not work.pods(SELECTOR), "no pod where the label no longer is")
        work.patch("daemonsets/agent", {"spec": {"template": {"spec": {"nodeSelector": {label: "green"}}}}})
        assert nodes_of(work.wait_ready(SELECTOR, 1)) == {"node-1"}
    finally:
        paint("node-1", None)


@promise("Daemon set [Serial] should retry creating failed daemon pods")
def test_a_failed_pod_is_replaced(work: Workloads) -> None:
    work.create("daemonsets/agent", daemon_set())
    pod = work.wait_ready(SELECTOR, NODES)[0]
    work.patch(f"pods/{pod['metadata']['name']}", {"status": {"phase": "Failed"}}, "status")
    wait_for(lambda: pod["metadata"]["uid"] not in {p["metadata"]["uid"] for p in work.pods(SELECTOR)}, "the failed pod is deleted")
    assert pod["spec"]["nodeName"] in nodes_of(work.wait_ready(SELECTOR, NODES))


@promise("Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate")
def test_a_new_template_replaces_the_pods(work: Workloads) -> None:
    made = work.create("daemonsets/agent", daemon_set())
    work.wait_ready(SELECTOR, NODES)
    (first,) = work.list("controllerrevisions", SELECTOR)
    set_image(work, "agent:2")
    wait_for(lambda: images(work) == ["agent:2"] * NODES, "all pods are new")
    revisions = {found["revision"]: found for found in work.list("controllerrevisions", SELECTOR)}
    assert set(revisions) == {1, 2}
    assert revisions[1]["metadata"]["uid"] == first["metadata"]["uid"]
    assert {owner_uid(found) for found in revisions.values()} == {made["metadata"]["uid"]}


@promise("Daemon set [Serial] should rollback without unnecessary restarts")
def test_a_rollback_leaves_pods_alone_that_are_as_they_should_be(work: Workloads) -> None:
    work.create("daemonsets/agent", daemon_set())
    before = {pod["metadata"]["uid"] for pod in work.wait_ready(SELECTOR, NODES)}
    broken = {
        "metadata": {"annotations": {"kubecosm.dev/image-pull": "fail"}},
        "spec": {"containers": [{"name": "main", "image": "none:1"}]},
    }
    work.patch("daemonsets/agent", {"spec": {"template": broken}})
    wait_for(lambda: len(work.ready_pods(SELECTOR)) == NODES - 1, "the first new pod does not come up, and nothing else is touched")
    kept = {pod["metadata"]["uid"] for pod in work.ready_pods(SELECTOR)}
    whole = {"metadata": {"annotations": {"kubecosm.dev/image-pull": None}}, "spec": {"containers": [{"name": "main", "image": "agent:1"}]}}
    work.patch("daemonsets/agent", {"spec": {"template": whole}})
    after = {pod["metadata"]["uid"] for pod in work.wait_ready(SELECTOR, NODES)}
    assert kept <= after
    assert len(before & after) == NODES - 1


@promise("Daemon set [Serial] should list and delete a collection of DaemonSets")
def test_daemon_sets_are_listed_and_deleted_by_label(work: Workloads) -> None:
    mark = f"run={work.namespace}"
    work.create("daemonsets/agent", daemon_set(), labels={"run": work.namespace})
    work.wait_ready(SELECTOR, NODES)
    assert len(work.wire.get("/apis/apps/v1/daemonsets", labelSelector=mark)["items"]) == 1
    work.delete_all("daemonsets", mark)
    wait_for(lambda: not work.list("daemonsets"), "no set is left")


@promise("Daemon set [Serial] should verify changes to a daemon set status")
def test_the_status_of_a_daemon_set_can_be_read_replaced_and_patched(work: Workloads) -> None:
    work.create("daemonsets/agent", daemon_set())
    work.wait_status("daemonsets/agent", numberReady=NODES)
    mark = {"type": "StatusUpdate", "status": "True", "reason": "E2E"}
    work.put("daemonsets/agent", lambda found: found["status"].update(conditions=[mark]), "status")
    assert condition(work.get("daemonsets/agent", "status"), "StatusUpdate", "reason") == "E2E"
    patched = work.patch("daemonsets/agent", {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}, "status")
    assert condition(patched, "StatusPatched") == "True"


@promise("ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision")
def test_the_life_of_controller_revisions(work: Workloads) -> None:
    made = work.create("daemonsets/agent", daemon_set())
    work.wait_ready(SELECTOR, NODES)
    (first,) = work.list("controllerrevisions", SELECTOR)
    name = f"controllerrevisions/{first['metadata']['name']}"
    assert work.patch(name, {"metadata": {"labels": {"patched": "yes"}}})["metadata"]["labels"]["patched"] == "yes"
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": made["metadata"]["uid"], "controller": True}
    second = {"metadata": {"name": "second", "labels": LABELS, "ownerReferences": [owner]}, "data": first["data"], "revision": 2}
    work.wire.create(work.path("controllerrevisions"), second)
    assert len(work.list("controllerrevisions", SELECTOR)) == 2
    work.delete(name)
    wait_for(lambda: not any(r["metadata"]["uid"] == first["metadata"]["uid"] for r in work.list("controllerrevisions")), "it is gone")
    work.put("controllerrevisions/second", lambda found: found["metadata"]["labels"].update(updated="yes"))
    assert len(work.list("controllerrevisions", "updated=yes")) == 1
    set_image(work, "agent:3")
    wait_for(lambda: images(work) == ["agent:3"] * NODES, "all pods are new")
    work.delete_all("controllerrevisions", "updated=yes")
    wait_for(lambda: not work.list("controllerrevisions", "updated=yes"), "it is gone")
    newest = max(work.list("controllerrevisions", SELECTOR), key=lambda found: found["revision"])
    assert newest["revision"] == 3

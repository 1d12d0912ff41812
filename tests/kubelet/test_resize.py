"""Resources of running pods change in place: granted when there is room, by a restart where the policy says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.kubelet.cri.types import ContainerState, ContainerStatus, PodStatus
from kubecosm.services.kubelet.pods.actions import compute_actions
from kubecosm.services.kubelet.pods.admission import NodeBudget, amounts
from kubecosm.services.kubelet.pods.resize import Resize, plan_restarts, reported_resources, resources_of, with_resources
from kubecosm.services.kubelet.pods.status import status_patch
from tests.conftest import ClusterUnderTest, wait_for


def resources(cpu: str, memory: str = "64Mi") -> Object:
    return {"requests": {"cpu": cpu, "memory": memory}}


def a_pod(uid: str = "a", cpu: str = "1", memory: str = "64Mi", **container: Any) -> Object:
    spec = {"name": "c", "image": "nginx", "resources": resources(cpu, memory), **container}
    return {"metadata": {"uid": uid, "name": uid, "namespace": "default"}, "spec": {"containers": [spec]}}


def a_budget(cpu: str = "4") -> NodeBudget:
    return NodeBudget(amounts({"cpu": cpu, "memory": "8Gi", "ephemeral-storage": "1Ti"}), 110)


def test_room_is_granted_deferred_or_said_never_to_come() -> None:
    budget = a_budget()
    for uid in ("a", "b"):
        budget.take(a_pod(uid))
    assert budget.resize(a_pod("a", "3")) is None
    late = budget.resize(a_pod("b", "2"))
    assert late is not None
    assert (late.may_come, late.message) == (True, "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000")
    never = budget.resize(a_pod("b", "5"))
    assert never is not None
    assert (never.may_come, never.message) == (False, "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000")
    budget.release("a")
    assert budget.resize(a_pod("b", "4")) is None


def test_less_is_always_granted() -> None:
    budget = a_budget()
    budget.take(a_pod("a", "9"))
    assert budget.resize(a_pod("a", "8")) is None


@pytest.mark.parametrize(
    ("policy", "change", "restarted"),
    [
        ("NotRequired", resources("2"), set()),
        ("RestartContainer", resources("2"), {"c"}),
        ("RestartContainer", resources("1", "128Mi"), set()),
        ("RestartContainer", {**resources("1"), "limits": {"cpu": "2"}}, {"c"}),
    ],
)
def test_the_resize_policy_of_what_changes_decides_on_a_restart(policy: str, change: Object, restarted: set[str]) -> None:
    pod = a_pod(resizePolicy=[{"resourceName": "cpu", "restartPolicy": policy}, {"resourceName": "memory", "restartPolicy": "NotRequired"}])
    assert plan_restarts(pod, resources_of(pod), {"c": change}) == restarted


def test_a_pod_shows_what_it_was_granted_not_what_it_asks_for() -> None:
    pod = a_pod(cpu="9")
    assert resources_of(with_resources(pod, {"c": resources("1")})) == {"c": resources("1")}
    told = {**pod, "status": {"containerStatuses": [{"name": "c", "resources": resources("1")}]}}
    assert reported_resources(told) == {"c": resources("1")}
    assert reported_resources(pod) == {"c": resources("9")}


def running(container_id: str) -> PodStatus:
    container = ContainerStatus(container_id, "c", "nginx", "sha", ContainerState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC))
    return PodStatus("a", sandbox_id="s", containers={"c": container})


def test_a_container_that_must_restart_is_in_progress_until_another_runs() -> None:
    restart = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    resize, wanted = Resize(resources_of(a_pod())), a_pod(cpu="2", resizePolicy=restart)
    resize.grant(wanted, running("one"))
    assert set(resize.conditions()) == {"PodResizeInProgress"}
    actions = compute_actions(wanted, running("one"), resizing={"one"})
    assert [kill.message for kill in actions.kill] == ["Container c resize requires restart"]
    assert [start.spec["name"] for start in actions.start] == ["c"]
    resize.settle(running("two"))
    assert not resize.conditions()


def test_conditions_and_addresses_that_are_gone_are_deleted_by_name() -> None:
    old = {"hostIPs": [{"ip": "1"}], "conditions": [{"type": "PodResizePending", "status": "True"}, {"type": "Mine", "status": "True"}]}
    patch = status_patch(
        old, {"hostIPs": [{"ip": "2"}], "conditions": [{"type": "Mine", "status": "True"}, {"type": "Ready", "status": "True"}]}
    )
    assert patch is not None
    assert patch["hostIPs"] == [{"ip": "2"}, {"$patch": "delete", "ip": "1"}]
    assert {"$patch": "delete", "type": "PodResizePending"} in patch["conditions"]


@pytest.mark.process
def test_a_pod_grows_when_its_neighbour_leaves(cluster: ClusterUnderTest, namespace: str) -> None:
    def create(name: str, cpu: str) -> None:
        container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "node-2", "containers": [container]}}
        cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=20s")

    def status() -> Any:
        return json.loads(cluster.kubectl("-n", namespace, "get", "pod", "small", "-o", "json"))["status"]

    def pending() -> str:
        return next((c["reason"] for c in status()["conditions"] if c["type"] == "PodResizePending"), "")

    def resize(cpu: str) -> str:
        """What kubectl says of it."""
        patch = json.dumps({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
        done = cluster.run_kubectl("-n", namespace, "patch", "pod", "small", "--subresource=resize", "-p", patch)
        return done.stdout + done.stderr

    create("small", "1")
    create("large", "20")
    assert "Node didn't have enough allocatable resources: cpu, requested: 1000000, allocatable: " in resize("1000")
    assert "patched" in resize("20")
    wait_for(lambda: pending() == "Deferred", "the neighbour leaves no room")
    assert status()["containerStatuses"][0]["resources"]["requests"]["cpu"] == "1"
    cluster.kubectl("-n", namespace, "delete", "pod", "large", "--grace-period=1")
    wait_for(lambda: not pending(), "the pod has what it wants")
    container = status()["containerStatuses"][0]
    assert (container["resources"]["requests"]["cpu"], container["restartCount"]) == ("20", 0)

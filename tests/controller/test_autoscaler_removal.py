"""Nodes go in cluster-autoscaler's steps: marked, drained one at a time, given back when their pods will not go, told of in its words."""

from __future__ import annotations

from typing import Any

from kubecosm.api.errors import TooManyRequests
from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import CONFIGMAPS, EVENTS, NODES, PODDISRUPTIONBUDGETS, PODS, Object
from kubecosm.api.times import format_time
from kubecosm.runtime.flags import Duration
from kubecosm.services.controller.cluster.autoscaler import ClusterAutoscaler
from kubecosm.services.controller.cluster.autoscaler.removal import told_utilization
from kubecosm.services.controller.cluster.autoscaler.simulation import room_of
from kubecosm.services.controller.config import Config

from .fake_api import FakeApi
from .harness import controllers, pod_template, run, settle, wait_for

GROUPS = "[{name: small, maxSize: 9, template: {status: {capacity: {cpu: 4, memory: 8Gi}}}}]"
CANDIDATE, LEAVING = "DeletionCandidateOfClusterAutoscaler", "ToBeDeletedByClusterAutoscaler"


def autoscaler(**flags: Any) -> ClusterAutoscaler:
    times = {"scale_down_unneeded_time": Duration(60.0), **flags}
    return ClusterAutoscaler(Config(**times))


def a_node(name: str, *, ready: str = "True", group: str = "small", taints: Any = ()) -> Object:
    labels = {"kubecosm.dev/node-group": group} if group else {}
    size = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": size, "capacity": size}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}, "status": status}


def a_pod(name: str, node: str, cpu: str = "100m", kind: str = "ReplicaSet", **meta: Any) -> Object:
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": True}
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}
    spec = {**pod_template()["spec"], "nodeName": node, "containers": [container]}
    status = {"phase": "Running"}
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": [owner], **meta}, "spec": spec, "status": status}


def declare(api: FakeApi) -> None:
    meta = {"name": "cluster-autoscaler-node-groups", "namespace": "kube-system"}
    api.put(CONFIGMAPS, {"metadata": meta, "data": {"groups.yaml": GROUPS}})
    api.put(NODES, a_node("fixed", group=""))


def nodes(api: FakeApi) -> list[str]:
    return sorted(node["metadata"]["name"] for node in api.all(NODES))


def tainted(api: FakeApi, key: str) -> list[str]:
    found = [node for node in api.all(NODES) if any(taint["key"] == key for taint in node["spec"].get("taints") or ())]
    return sorted(node["metadata"]["name"] for node in found)


def told(api: FakeApi) -> list[tuple[str, str, str]]:
    return [(e["involvedObject"]["name"], e["reason"], e["message"]) for e in api.all(EVENTS)]


def test_an_empty_node_goes_and_each_step_is_told() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("small-a"))
        async with controllers(api, autoscaler()):
            await wait_for(lambda: tainted(api, CANDIDATE) == ["small-a"])
            await settle(50)
            assert nodes(api) == ["fixed", "small-a"]
            await wait_for(lambda: nodes(api) == ["fixed"])
            await settle()
        status = "cluster-autoscaler-status"
        assert told(api) == [
            (status, "ScaleDownEmpty", 'Scale-down: removing empty node "small-a"'),
            ("small-a", "ScaleDown", "marked the node as toBeDeleted/unschedulable"),
            ("small-a", "ScaleDown", "nodes removed by cluster autoscaler"),
            (status, "ScaleDownEmpty", "Scale-down: empty node small-a removed"),
        ]

    run(test)


def test_nodes_with_pods_are_drained_one_at_a_time() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        pods = {name: api.put(PODS, a_pod(f"on-{name}", name)) for name in ("small-a", "small-b")}
        api.put(PODS, a_pod("agent", "small-a", kind="DaemonSet"))
        for name in pods:
            api.put(NODES, a_node(name))
        async with controllers(api, autoscaler()):
            await wait_for(lambda: len(tainted(api, LEAVING)) == 1)
            await settle(5)
            [first] = tainted(api, LEAVING)
            api.remove(PODS, pods[first])
            await wait_for(lambda: first not in nodes(api))
            await wait_for(lambda: len(tainted(api, LEAVING)) == 1)
            await settle(5)
        messages = [message for _, _, message in told(api)]
        expected = "Scale-down: removing node small-a, utilization: {0.05 0.015625 0 0 cpu 0.05}, pods to reschedule: on-small-a"
        assert expected in messages
        assert "Scale-down: node small-b removed with drain" in messages
        evicted = [name for name, _, message in told(api) if message == "deleting pod for node scale down"]
        assert evicted == ["on-small-b", "on-small-a", "agent"]

    run(test)


def test_a_pod_that_may_not_go_is_tried_for_two_minutes_and_then_the_node_is_given_back() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("small-a"))
        api.put(PODS, a_pod("stubborn", "small-a"))
        api.answer_with(TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget."), "create/eviction", "pods", 99)
        async with controllers(api, autoscaler()):
            await wait_for(lambda: tainted(api, LEAVING) == ["small-a"])
            await settle(110)
            assert tainted(api, LEAVING) == ["small-a"]
            await wait_for(lambda: not tainted(api, LEAVING))
            assert 12 <= api.count("create/eviction", "pods") <= 14
            await settle(150)
            assert not tainted(api, LEAVING), "nothing is removed for three minutes after a failure"
        last = "last error: Cannot evict pod as it would violate the pod's disruption budget."
        errors = f"[failed to evict pod default/stubborn within allowed timeout ({last})]"
        why = f"failed to drain and delete node: Failed to drain node /small-a, due to following errors: {errors}"
        assert ("small-a", "ScaleDownFailed", why) in told(api)
        assert ("stubborn", "ScaleDownFailed", "failed to delete pod for ScaleDown") in told(api)

    run(test)


def test_a_node_that_is_not_ready_goes_after_its_own_time() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("small-a", ready="Unknown"))
        async with controllers(api, autoscaler(scale_down_unready_time=Duration(300.0))):
            await settle(250)
            assert nodes(api) == ["fixed", "small-a"]
            await settle(80)
            assert nodes(api) == ["fixed"]

    run(test)


def test_a_restart_does_not_begin_the_wait_anew() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("small-a"))
        async with controllers(api, autoscaler()):
            await settle(45)
        assert tainted(api, CANDIDATE) == ["small-a"]
        async with controllers(api, autoscaler()):
            await settle(5)
            assert nodes(api) == ["fixed", "small-a"]
            await settle(15)
            assert nodes(api) == ["fixed"]

    run(test)


def test_a_removal_that_was_begun_goes_on_after_a_restart() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        value = str(int(api.clock.now().timestamp()))
        api.put(NODES, a_node("small-a", taints=[{"key": LEAVING, "value": value, "effect": "NoSchedule"}]))
        pod = api.put(PODS, a_pod("last", "small-a", deletionTimestamp=format_time(api.clock.now())))
        assert is_deleting(pod)
        async with controllers(api, autoscaler()):
            await settle(20)
            assert nodes(api) == ["fixed", "small-a"], "its pod is still ending"
            api.remove(PODS, pod)
            await wait_for(lambda: nodes(api) == ["fixed"])

    run(test)


def a_pending(name: str) -> Object:
    pod = a_pod(name, "", cpu="3")
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {**pod, "status": {"phase": "Pending", "conditions": [unschedulable]}}


def test_priorities_that_come_or_are_put_right_let_waiting_pods_have_their_nodes() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("fixed", group="", ready="True") | {"spec": {"unschedulable": True}})
        api.put(PODS, a_pending("p"))
        meta = {"name": "cluster-autoscaler-priority-expander", "namespace": "kube-system"}
        async with controllers(api, autoscaler(expander=("priority",))):
            await wait_for(lambda: any(reason == "NotTriggerScaleUp" for _, reason, _ in told(api)))
            wrong = api.put(CONFIGMAPS, {"metadata": meta, "data": {"priorities": "10: [small"}})
            await wait_for(lambda: any(reason == "PriorityConfigMapInvalid" for _, reason, _ in told(api)))
            assert nodes(api) == ["fixed"]
            await api.update(CONFIGMAPS, {**wrong, "data": {"priorities": "10: [small]"}})
            await wait_for(lambda: len(nodes(api)) == 2)

    run(test)


def test_a_budget_that_allows_more_lets_a_node_go() -> None:
    async def test(api: FakeApi) -> None:
        declare(api)
        api.put(NODES, a_node("small-a"))
        api.put(PODS, a_pod("held", "small-a", labels={"app": "web"}))
        spec = {"selector": {"matchLabels": {"app": "web"}}}
        budget = api.put(PODDISRUPTIONBUDGETS, {"metadata": {"name": "b", "namespace": "default"}, "spec": spec, "status": {}})
        async with controllers(api, autoscaler()):
            await settle(120)
            assert not tainted(api, CANDIDATE)
            api.set_status(PODDISRUPTIONBUDGETS, budget, disruptionsAllowed=1)
            await wait_for(lambda: tainted(api, LEAVING) == ["small-a"])

    run(test)


def test_utilization_is_told_as_go_prints_it() -> None:
    assert told_utilization(room_of(a_node("n"))) == "{0 0 0 0 cpu 0}"
    assert told_utilization(room_of(a_node("n"), [a_pod("p", "n", cpu="1")])) == "{0.25 0.0078125 0 0 cpu 0.25}"

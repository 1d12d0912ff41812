"""The sig-scheduling conformance tests of Kubernetes 1.36, each on a real cluster, named after what it promises."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ClusterUnderTest, wait_for
from tests.promises import promise

from .test_on_a_cluster import Kube, Object, first_node, k, pod

pytestmark = pytest.mark.process

__all__ = ["k"]


def conditions(k: Kube, name: str) -> dict[str, Object]:
    return {c["type"]: c for c in k.get("pod", name)["status"].get("conditions") or ()}


def priority_class(k: Kube, name: str, value: int) -> Object:
    meta = {"name": f"{k.namespace}-{name}"}
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": value}


@promise("SchedulerPredicates validates resource limits of pods that are allowed to run")
def test_pods_that_exceed_what_is_left_of_the_machines_are_not_scheduled(k: Kube) -> None:
    with k.resource_on_nodes(k.namespace, 10) as resource:
        nodes = [node["metadata"]["name"] for node in k.get("nodes")["items"]]
        fillers = [pod(f"filler-{n}", requests={resource: "7"}, nodeSelector={"kubernetes.io/hostname": n}) for n in nodes]
        k.apply(*fillers)
        k.wait_scheduled(*(f"filler-{n}" for n in nodes))
        k.apply(pod("additional", requests={resource: "5"}), pod("fits", requests={resource: "3"}))
        k.wait_scheduled("fits")
        k.wait_unschedulable("additional", f"{len(nodes)} Insufficient {resource}")


@promise("SchedulerPredicates validates that NodeSelector is respected if matching")
def test_a_pod_goes_to_the_node_its_selector_matches(k: Kube) -> None:
    node = first_node(k)
    k.run("label", "node", node, f"example.com/{k.namespace}=42")
    k.apply(pod("with-labels", nodeSelector={f"example.com/{k.namespace}": "42"}))
    assert k.wait_scheduled("with-labels") == [node]


@promise("SchedulerPredicates validates that NodeSelector is respected if not matching")
def test_a_pod_whose_selector_matches_no_node_is_not_scheduled(k: Kube) -> None:
    k.apply(pod("restricted", nodeSelector={"example.com/label": "nonempty"}))
    k.wait_unschedulable("restricted", "3 node(s) didn't match Pod's node affinity/selector")
    assert k.node_of("restricted") == ""


@promise(
    "SchedulerPredicates validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP"
)
def test_host_port_on_all_addresses_conflicts_with_one_on_one_address(k: Kube, cluster: ClusterUnderTest) -> None:
    node = k.get("nodes")["items"][0]
    here = {"nodeSelector": {"kubernetes.io/hostname": node["metadata"]["name"]}}
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    k.apply(pod("everywhere", ports=[{"containerPort": 8080, "hostPort": 54322, "protocol": "TCP"}], **here))
    k.wait_scheduled("everywhere")
    k.apply(pod("one-address", ports=[{"containerPort": 8080, "hostPort": 54322, "protocol": "TCP", "hostIP": address}], **here))
    k.wait_unschedulable("one-address", "1 node(s) didn't have free ports for the requested pod ports")


@promise("SchedulerPreemption PreemptionExecutionPath runs ReplicaSets to verify preemption running path")
def test_replica_sets_of_rising_priority_preempt_those_below(k: Kube) -> None:
    k.apply(*(priority_class(k, f"p{level}", level) for level in range(1, 5)))
    node = first_node(k)
    with k.resource_on_nodes(k.namespace, 500) as resource:
        for level, replicas, wanted in ((1, 1, 200), (2, 1, 300), (3, 1, 450)):
            k.apply(replica_set(k, level, replicas, {resource: str(wanted)}, node))
            wait_for(lambda level=level: running(k, level) == 1, f"a pod of priority {level} runs")  # type: ignore[misc]
        wait_for(lambda: (running(k, 1), running(k, 2)) == (0, 0), "the lower ones have gone")
        k.apply(replica_set(k, 4, 1, {resource: "500"}, node))
        wait_for(lambda: (running(k, 3), running(k, 4)) == (0, 1), "the highest runs alone")
        for level in range(1, 5):
            wait_for(lambda level=level: replicas_of(k, level) == 1, f"set {level} has its pod, running or waiting")  # type: ignore[misc]


def replica_set(k: Kube, level: int, replicas: int, requests: Object, node: str) -> Object:
    template = pod("t", requests=requests, priorityClassName=f"{k.namespace}-p{level}", nodeSelector={"kubernetes.io/hostname": node})
    labels = {"name": f"rs-{level}"}
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": f"rs-{level}"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
        },
    }  # fmt: skip


def replicas_of(k: Kube, level: int) -> int:
    count: int = k.get("replicaset", f"rs-{level}")["status"]["replicas"]
    return count


def running(k: Kube, level: int) -> int:
    return sum(p["status"].get("phase") == "Running" for p in k.get("pods", "-l", f"name=rs-{level}")["items"])


@promise("SchedulerPreemption PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods")
def test_priority_classes_can_be_read_and_changed_but_not_their_value(k: Kube, cluster: ClusterUnderTest) -> None:
    k.apply(priority_class(k, "p1", 1), priority_class(k, "p2", 2))
    names = {f"{k.namespace}-p1", f"{k.namespace}-p2"}
    assert names <= {item["metadata"]["name"] for item in k.get("priorityclasses")["items"]}
    for name in names:
        k.run("patch", "priorityclass", name, "--type=merge", "-p", '{"description": "updated"}')
        assert k.get("priorityclass", name)["description"] == "updated"
        change = '[{"op": "replace", "path": "/value", "value": 9}]'
        refused = cluster.run_kubectl("patch", "priorityclass", name, "--type=json", "-p", change)
        assert refused.returncode != 0
        assert "value: Forbidden: may not be changed in an update." in refused.stderr
        changed = {**k.get("priorityclass", name), "description": "replaced"}
        cluster.kubectl("replace", "-f", "-", stdin=json.dumps(changed))
        assert k.get("priorityclass", name)["description"] == "replaced"


@promise("SchedulerPreemption validates basic preemption works")
def test_a_pod_of_high_priority_takes_the_place_of_the_lowest(k: Kube) -> None:
    k.apply(priority_class(k, "low", 1), priority_class(k, "medium", 100), priority_class(k, "high", 1000))
    preempts(k, "high")


@promise("SchedulerPreemption validates lower priority pod preemption by critical pod")
def test_a_critical_pod_takes_the_place_of_the_lowest(k: Kube) -> None:
    k.apply(priority_class(k, "low", 1), priority_class(k, "medium", 100))
    preempts(k, "system-cluster-critical")


def preempts(k: Kube, chosen: str) -> None:
    """All nodes are full; the one pod of low priority goes."""
    with k.resource_on_nodes(k.namespace, 1) as resource:
        nodes = [node["metadata"]["name"] for node in k.get("nodes")["items"]]
        names = [f"pod-{index}" for index in range(len(nodes))]
        for index, (name, node) in enumerate(zip(names, nodes, strict=True)):
            level = f"{k.namespace}-{'medium' if index else 'low'}"
            k.apply(pod(name, requests={resource: "1"}, priorityClassName=level, nodeSelector={"kubernetes.io/hostname": node}))
        k.wait_scheduled(*names)
        level = chosen if chosen.startswith("system") else f"{k.namespace}-{chosen}"
        k.apply(pod("preemptor", requests={resource: "1"}, priorityClassName=level))
        assert k.wait_scheduled("preemptor") == [nodes[0]]
        assert {item["metadata"]["name"] for item in k.get("pods")["items"]} == {"preemptor", *names[1:]}
        assert "nominatedNodeName" not in k.get("pod", "preemptor")["status"]
        told = f"Preempted by pod {k.get('pod', 'preemptor')['metadata']['uid']} on node {nodes[0]}"
        wait_for(lambda: told in [event.get("message") for event in k.get("events")["items"]], told)


@promise("SchedulerPreemption validates pod disruption condition is added to the preempted pod")
def test_a_preempted_pod_carries_the_disruption_condition(k: Kube) -> None:
    k.apply(priority_class(k, "high", 1000))
    with k.resource_on_nodes(k.namespace, 1) as resource:
        here = {"nodeSelector": {"kubernetes.io/hostname": first_node(k)}}
        victim = pod("victim", requests={resource: "1"}, **here)
        victim["metadata"]["finalizers"] = ["example.com/test"]
        k.apply(victim)
        k.wait_scheduled("victim")
        k.apply(pod("preemptor", requests={resource: "1"}, priorityClassName=f"{k.namespace}-high", **here))
        wait_for(lambda: "deletionTimestamp" in k.get("pod", "victim")["metadata"], "the victim is to go")
        told = conditions(k, "victim")["DisruptionTarget"]
        assert (told["status"], told["reason"]) == ("True", "PreemptionByScheduler")
        k.run("patch", "pod", "victim", "--type=json", "-p", '[{"op": "remove", "path": "/metadata/finalizers"}]')
        k.wait_scheduled("preemptor")

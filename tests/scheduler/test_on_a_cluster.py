"""The scheduler's promises on a real cluster, through kubectl: the sig-scheduling conformance tests in small, and more.

Each test has a namespace of its own on a shared cluster; those that need full nodes use an extended resource of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecosm.cluster.running import RunningCluster
from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process

Object = dict[str, Any]


class Kube:
    """kubectl in one namespace."""

    def __init__(self, cluster: ClusterUnderTest, namespace: str) -> None:
        self._kube, self.namespace = cluster.kubectl, namespace

    def apply(self, *objects: Object) -> None:
        for obj in objects:
            obj["metadata"].setdefault("namespace", self.namespace)
        self._kube("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, *what: str) -> Object:
        found: Object = json.loads(self._kube("-n", self.namespace, "get", *what, "-o", "json"))
        return found

    def run(self, *arguments: str) -> str:
        return self._kube("-n", self.namespace, *arguments)

    def node_of(self, pod: str) -> str:
        node: str = self.get("pod", pod)["spec"].get("nodeName", "")
        return node

    def wait_scheduled(self, *pods: str) -> list[str]:
        wait_for(lambda: all(self.node_of(pod) for pod in pods), f"{pods} have nodes")
        return [self.node_of(pod) for pod in pods]

    def wait_unschedulable(self, pod: str, why: str) -> None:
        """Until the PodScheduled condition says so; nodes that are just becoming ready may give other reasons first."""

        def message() -> str:
            conditions = self.get("pod", pod)["status"].get("conditions") or []
            found = next((c for c in conditions if c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable"), {})
            return str(found.get("message", ""))

        wait_for(lambda: why in message(), f"{pod} is unschedulable: {why}")

    @contextmanager
    def resource_on_nodes(self, name: str, amount: int) -> Iterator[str]:
        """An extended resource that only this test asks for, on every node: nodes can be full without disturbing others."""
        resource = f"example.com/{name}"
        path = resource.replace("/", "~1")
        nodes = [node["metadata"]["name"] for node in self.get("nodes")["items"]]
        patch = [{"op": "add", "path": f"/status/{kind}/{path}", "value": str(amount)} for kind in ("capacity", "allocatable")]
        for node in nodes:
            self._kube("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))
        yield resource


@pytest.fixture
def k(cluster: ClusterUnderTest, namespace: str) -> Kube:
    return Kube(cluster, namespace)


def pod(
    name: str, *, requests: Object | None = None, labels: Object | None = None, ports: list[Object] | None = None, **spec: Any
) -> Object:
    container: Object = {"name": "c", "image": "registry.k8s.io/pause:3.10", "ports": ports or []}
    if requests:
        container["resources"] = {"requests": requests, "limits": requests}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }  # fmt: skip


def first_node(k: Kube) -> str:
    name: str = k.get("nodes")["items"][0]["metadata"]["name"]
    return name


def test_a_pod_that_exceeds_the_nodes_stays_pending_and_says_why(k: Kube) -> None:
    k.apply(pod("large", requests={"cpu": "100000"}))
    k.wait_unschedulable(
        "large", "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: "
        "3 Preemption is not helpful for scheduling.",
    )  # fmt: skip
    told = "default-scheduler  0/3 nodes are available: 3 Insufficient cpu."
    wait_for(lambda: told in k.run("describe", "pod", "large"), "describe shows the event")


def test_a_node_selector_is_respected(k: Kube) -> None:
    node = first_node(k)
    k.run("label", "node", node, f"{k.namespace}=42")
    k.apply(pod("match", nodeSelector={k.namespace: "42"}), pod("nowhere", nodeSelector={k.namespace: "no"}))
    assert k.wait_scheduled("match") == [node]
    k.wait_unschedulable("nowhere", "3 node(s) didn't match Pod's node affinity/selector")
    k.run("label", "node", node, f"{k.namespace}=no", "--overwrite")
    assert k.wait_scheduled("nowhere") == [node]


def test_host_ports_conflict_by_address_and_protocol(k: Kube) -> None:
    here = {"nodeName": "", "nodeSelector": {"kubernetes.io/hostname": first_node(k)}}
    k.apply(pod("one", ports=[{"containerPort": 80, "hostPort": 54323, "hostIP": "127.0.0.1"}], **here))
    k.apply(pod("two", ports=[{"containerPort": 80, "hostPort": 54323, "hostIP": "127.0.0.2"}], **here))
    k.apply(pod("udp", ports=[{"containerPort": 80, "hostPort": 54323, "hostIP": "127.0.0.2", "protocol": "UDP"}], **here))
    k.wait_scheduled("one", "two", "udp")
    k.apply(pod("any", ports=[{"containerPort": 80, "hostPort": 54323}], **here))
    k.wait_unschedulable("any", "1 node(s) didn't have free ports for the requested pod ports")


def test_a_taint_keeps_pods_away_and_a_toleration_lets_them_in(k: Kube) -> None:
    nodes = [node["metadata"]["name"] for node in k.get("nodes")["items"]]
    toleration = {"key": k.namespace, "operator": "Equal", "value": "v", "effect": "NoSchedule"}
    k.run("taint", "node", nodes[0], f"{k.namespace}=v:NoSchedule")
    try:
        k.apply(pod("plain", nodeSelector={"kubernetes.io/hostname": nodes[0]}))
        tolerant = pod("tolerant", nodeSelector={"kubernetes.io/hostname": nodes[0]}, tolerations=[toleration])
        k.apply(tolerant)
        assert k.wait_scheduled("tolerant") == [nodes[0]]
        k.wait_unschedulable("plain", "1 node(s) had untolerated taint(s)")
    finally:
        k.run("taint", "node", nodes[0], f"{k.namespace}-")
    assert k.wait_scheduled("plain") == [nodes[0]]


def test_a_gated_pod_waits_until_its_gates_are_gone(k: Kube) -> None:
    k.apply(pod("gated", schedulingGates=[{"name": "example.com/hold"}]), pod("free"))
    k.wait_scheduled("free")
    assert k.node_of("gated") == ""
    k.run("patch", "pod", "gated", "--type=json", "-p", '[{"op": "remove", "path": "/spec/schedulingGates"}]')
    k.wait_scheduled("gated")


def test_replicas_spread_over_the_nodes(k: Kube) -> None:
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }  # fmt: skip
    k.apply(*(pod(f"web-{i}", labels={"app": "web"}, topologySpreadConstraints=[spread]) for i in range(6)))
    placed = k.wait_scheduled(*(f"web-{i}" for i in range(6)))
    assert sorted(placed.count(node) for node in set(placed)) == [2, 2, 2]


def test_anti_affinity_leaves_the_fourth_replica_of_three_nodes_pending(k: Kube) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}
    anti = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    k.apply(*(pod(f"db-{i}", labels={"app": "db"}, affinity=anti) for i in range(3)))
    assert len(set(k.wait_scheduled("db-0", "db-1", "db-2"))) == 3
    k.apply(pod("db-3", labels={"app": "db"}, affinity=anti))
    k.wait_unschedulable("db-3", "3 node(s) didn't match pod anti-affinity rules")
    k.run("delete", "pod", "db-0", "--wait=false")
    k.wait_scheduled("db-3")


def test_decisions_can_be_explained(k: Kube, cluster: RunningCluster) -> None:
    k.apply(pod("why"))
    [node] = k.wait_scheduled("why")
    scheduler = next(c for c in cluster.status()["components"] if c["name"] == "scheduler")
    url = f"http://127.0.0.1:{scheduler['ports']['metrics']}/debug/scheduling?pod={k.namespace}/why"
    with urllib.request.urlopen(url) as answer:
        told = json.load(answer)
    assert (told["nodeName"], told["nodes"][0]["node"], len(told["nodes"])) == (node, node, 3)


def test_a_second_scheduler_works_beside_the_first(k: Kube, cluster: RunningCluster, tmp_path: Path) -> None:
    configuration = tmp_path / "second.yaml"
    head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
    configuration.write_text(head + "profiles: [{schedulerName: second}]\n")
    command = [
        sys.executable, "-m", "kubecosm.services.scheduler", f"--kubeconfig={cluster.kubeconfig}", f"--config={configuration}",
        "--leader-elect", f"--leader-elect-resource-name={k.namespace}",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE) as second:
        try:
            k.apply(pod("mine", schedulerName="second"), pod("theirs"))
            k.wait_scheduled("mine", "theirs")
            reporters = reporting_controllers(k)
            wait_for(lambda: {"mine": "second", "theirs": "default-scheduler"}.items() <= reporting_controllers(k).items(), f"{reporters}")
        finally:
            second.terminate()
        assert second.wait(10) == 0


def reporting_controllers(k: Kube) -> dict[str, str]:
    """Pod → who told of its scheduling."""
    events = k.get("events.events.k8s.io")["items"]
    return {event["regarding"]["name"]: event["reportingController"] for event in events if event["reason"] == "Scheduled"}



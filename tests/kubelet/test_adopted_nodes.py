"""Nodes that somebody else creates with the label kubecosm.dev/simulated=true are hosted until they are deleted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kubecosm.services.kubelet.nodes.addresses import NodeSpec
from kubecosm.services.kubelet.nodes.adopted import shape_of, spec_of
from kubecosm.services.kubelet.nodes.objects import NodeShape, node_status
from tests.conftest import ClusterUnderTest, wait_for

SHAPE = NodeShape(cpu="32", memory="256Gi", ephemeral_storage="1Ti", max_pods=110, port=10250, runtime_version="sim://1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES, PODS = "127.16.0.0/18", "127.64.0.0/16"


def a_node(capacity: dict[str, str] | None = None, pod_cidr: str = "") -> dict[str, Any]:
    spec = {"podCIDR": pod_cidr} if pod_cidr else {}
    return {"metadata": {"name": "gpu-1"}, "spec": spec, "status": {"capacity": capacity or {}}}


def test_a_node_keeps_the_capacity_it_was_created_with_and_has_the_usual_one_for_the_rest() -> None:
    shape = shape_of(a_node({"cpu": "4", "pods": "20", "nvidia.com/gpu": "2"}), SHAPE)
    capacity = node_status(NodeSpec(3, "gpu-1", "127.16.0.4", "127.64.3.0/24"), shape, NOW)["capacity"]
    assert (capacity["cpu"], capacity["memory"], capacity["pods"], capacity["nvidia.com/gpu"]) == ("4", "256Gi", "20", "2")


def test_the_address_follows_from_the_range_of_pod_addresses() -> None:
    assert spec_of(a_node(pod_cidr="127.64.3.0/24"), NODES, PODS) == NodeSpec(3, "gpu-1", "127.16.0.4", "127.64.3.0/24")


@pytest.mark.parametrize("pod_cidr", ["", "10.0.3.0/24"], ids=["no range yet", "a range of another cluster"])
def test_a_node_without_a_range_of_this_cluster_is_not_hosted(pod_cidr: str) -> None:
    assert spec_of(a_node(pod_cidr=pod_cidr), NODES, PODS) is None


@pytest.mark.process
def test_a_created_node_runs_pods_until_it_is_deleted(cluster: ClusterUnderTest, namespace: str) -> None:
    labels = {"kubecosm.dev/simulated": "true", "pool": namespace}
    taint = {"key": "pool", "value": namespace, "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace, "labels": labels}, "spec": {"taints": [taint]}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "nodeSelector": {"pool": namespace}, "tolerations": [{"key": "pool", "operator": "Exists"}],
            "containers": [{"name": "c", "image": "nginx", "resources": {"limits": {"example.com/device": "1"}}}],
        },
    }  # fmt: skip

    def find(*what: str) -> Any:
        answer = cluster.run_kubectl("-n", namespace, "get", *what, "-o", "json", "--ignore-not-found").stdout
        return json.loads(answer) if answer else None

    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    for cpu in ("4", "8"):
        sized = {**node, "status": {"capacity": {"cpu": cpu, "example.com/device": "1"}}}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(sized))
        wait_for(lambda: find("pod", "p") and find("pod", "p")["status"].get("phase") == "Running", "the pod runs on the new node")
        assert find("node", namespace)["status"]["allocatable"]["cpu"] == cpu
        assert cluster.kubectl("-n", namespace, "exec", "p", "--", "hostname") == "p\n"
        cluster.kubectl("delete", "node", namespace)
        cluster.kubectl("-n", namespace, "delete", "pod", "p", "--grace-period=1", "--timeout=20s")
        assert find("node", namespace) is None, "a deleted node stays deleted"
        cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))


@pytest.mark.process
def test_pods_that_are_bound_before_the_kubelet_hosts_their_node_are_run(cluster: ClusterUnderTest, namespace: str) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "early"},
        "spec": {"nodeName": namespace, "containers": [{"name": "c", "image": "nginx"}], "tolerations": [{"operator": "Exists"}]},
    }  # fmt: skip
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    labels = {"kubecosm.dev/simulated": "true"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace, "labels": labels}, "spec": {}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(node))
    try:
        cluster.kubectl("-n", namespace, "wait", "pod/early", "--for=jsonpath={.status.phase}=Running", "--timeout=20s")
    finally:
        cluster.kubectl("delete", "node", namespace)

"""A rolling upgrade of nodes as an administrator does it: cordon, drain within a disruption budget, replace, one node after the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process

OLD, NEW = "v1.35.3", "v1.36.0"
REPLICAS = 3


def create(cluster: ClusterUnderTest, namespace: str, *objects: dict[str, Any]) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def node(name: str, pool: str, version: str) -> dict[str, Any]:
    labels = {"kubecosm.dev/simulated": "true", "pool": pool}
    taint = {"key": "pool", "value": pool, "effect": "NoSchedule"}
    metadata = {"name": name, "labels": labels, "annotations": {"kubecosm.dev/kubelet-version": version}}
    status = {"capacity": {"cpu": "4", "memory": "8Gi"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}, "status": status}


def workload(pool: str) -> list[dict[str, Any]]:
    labels = {"app": "web"}
    spec = {
        "nodeSelector": {"pool": pool}, "tolerations": [{"key": "pool", "operator": "Exists"}], "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "web", "image": "nginx"}],
    }  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    budget = {"minAvailable": REPLICAS - 1, "selector": {"matchLabels": labels}}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": budget},
    ]


def test_nodes_are_upgraded_one_by_one_and_the_budget_is_kept(cluster: ClusterUnderTest, namespace: str) -> None:
    names = [f"{namespace}-{letter}" for letter in "ab"]

    def versions() -> dict[str, str]:
        items = json.loads(cluster.kubectl("get", "nodes", "-l", f"pool={namespace}", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item["status"]["nodeInfo"].get("kubeletVersion", "") for item in items}

    def available() -> int:
        found = json.loads(cluster.kubectl("-n", namespace, "get", "deployment", "web", "-o", "json"))
        return int(found["status"].get("availableReplicas", 0))

    create(cluster, namespace, *(node(name, namespace, OLD) for name in names), *workload(namespace))
    try:
        wait_for(lambda: available() == REPLICAS, "the workload runs on the old nodes")
        assert versions() == dict.fromkeys(names, OLD)
        for name in names:
            cluster.kubectl("drain", name, "--ignore-daemonsets", "--timeout=60s")
            assert available() >= REPLICAS - 1, "the budget is kept"
            described = cluster.kubectl("get", "node", name)
            assert "SchedulingDisabled" in described
            cluster.kubectl("delete", "node", name)
            create(cluster, namespace, node(name, namespace, NEW))
            wait_for(lambda: available() == REPLICAS, "the workload is whole again")
        assert versions() == dict.fromkeys(names, NEW)
    finally:
        cluster.run_kubectl("delete", "node", *names, "--ignore-not-found")

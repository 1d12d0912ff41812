"""What pods use is seen by kubectl top, and autoscalers act on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process


def deploy(cluster: ClusterUnderTest, namespace: str, memory: str) -> None:
    """One pod that uses so much memory, whatever it asked for."""
    container = {"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}
    metadata = {"labels": {"app": "web"}, "annotations": {"kubecosm.dev/memory": memory, "kubecosm.dev/cpu": "70m"}}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": metadata, "spec": {"containers": [container]}},
    }
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(deployment))
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")


def test_kubectl_top_shows_what_pods_and_nodes_use(cluster: ClusterUnderTest, namespace: str) -> None:
    deploy(cluster, namespace, "150Mi")
    pod = cluster.kubectl("-n", namespace, "top", "pods", "--no-headers").split()
    assert pod[1:] == ["70m", "150Mi"]
    assert cluster.kubectl("-n", namespace, "top", "pod", pod[0], "--containers", "--no-headers").split()[1:] == ["web", "70m", "150Mi"]
    nodes = [line.split()[0] for line in cluster.kubectl("top", "nodes", "--no-headers").splitlines()]
    assert nodes == ["node-0", "node-1", "node-2"]
    missing = cluster.run_kubectl("-n", namespace, "top", "pod", "none")
    assert f'podmetrics.metrics.k8s.io "{namespace}/none" not found' in missing.stderr


def test_an_autoscaler_follows_what_its_pods_use(cluster: ClusterUnderTest, namespace: str) -> None:
    deploy(cluster, namespace, "150Mi")
    metric = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": [metric]}
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(hpa))

    def get(*what: str) -> Any:
        return json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json"))

    wait_for(lambda: get("deployment", "web")["status"].get("readyReplicas") == 3, "three replicas")
    status = get("hpa", "web")["status"]
    conditions = {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}
    assert conditions == {
        "AbleToScale": ("True", "SucceededRescale"), "ScalingActive": ("True", "ValidMetricFound"),
        "ScalingLimited": ("False", "DesiredWithinRange"),
    }  # fmt: skip
    assert status["currentMetrics"][0]["resource"]["current"]["averageUtilization"] == 150
    described = cluster.kubectl("-n", namespace, "describe", "hpa", "web")
    assert "New size: 3; reason: memory resource utilization (percentage of request) above target" in described

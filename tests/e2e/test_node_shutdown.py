"""Nodes that are shut down: gracefully, so that their pods end and move, and by a loss of power, with the out-of-service taint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kubecosm.cluster.launch import Options
from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process

NAME = "shutdown"
Object = dict[str, Any]
FLAGS = {
    "kubelet": {"node-lease-duration-seconds": "4"},
    "controller": {"node-monitor-period": "1s", "node-monitor-grace-period": "6s"},
}
"""A silent node is noticed within seconds instead of a minute."""


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClusterUnderTest, dict[str, str]]]:
    """A cluster of two nodes and the environment in which the command line finds it."""
    environ = os.environ | {"KUBECOSM_HOME": str(tmp_path_factory.mktemp("home"))}
    with ClusterUnderTest.start(Options(name=NAME, nodes=2, ephemeral=True, flags=FLAGS), environ=environ) as running:
        running.wait_ready()
        yield running, environ


def command(environ: dict[str, str], *arguments: str) -> str:
    line = [sys.executable, "-m", "kubecosm.cli", "node", *arguments, "--name", NAME]
    return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=30, check=True).stdout


def get(cluster: ClusterUnderTest, *what: str) -> Any:
    found = json.loads(cluster.kubectl("get", *what, "-o", "json"))
    return found.get("items", found)


def ready(cluster: ClusterUnderTest, node: str) -> Object:
    conditions: list[Object] = get(cluster, "node", node)["status"]["conditions"]
    return next(c for c in conditions if c["type"] == "Ready")


def workload(kind: str, name: str, replicas: int, claim: str = "") -> Object:
    labels = {"app": name}
    container: Object = {"name": "c", "image": "redis"}
    pod: Object = {"containers": [container], "terminationGracePeriodSeconds": 5}
    if claim:
        pod["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    spec: Object = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def disk() -> list[Object]:
    """A volume that must be attached to the node of its pod, and a claim for it."""
    size = {"storage": "1Gi"}
    volume = {
        "capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": "disk.example", "volumeHandle": "d1"},
    }  # fmt: skip
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "disk", "resources": {"requests": size}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": claim},
    ]


def apply(cluster: ClusterUnderTest, *objects: Object) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def running(cluster: ClusterUnderTest, app: str) -> list[Object]:
    pods = get(cluster, "pods", "-l", f"app={app}")
    return [pod for pod in pods if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]


def test_a_node_shuts_down_gracefully_and_comes_back(pair: tuple[ClusterUnderTest, dict[str, str]]) -> None:
    cluster, environ = pair
    apply(cluster, workload("Deployment", "web", 4))
    wait_for(lambda: len(running(cluster, "web")) == 4, "all run")
    before = {pod["metadata"]["name"] for pod in running(cluster, "web") if pod["spec"]["nodeName"] == "node-1"}
    assert before
    assert "shutting down" in command(environ, "shutdown", "node-1")
    wait_for(lambda: ready(cluster, "node-1")["message"] == "node is shutting down", "the node says so")
    wait_for(lambda: [pod["spec"]["nodeName"] for pod in running(cluster, "web")] == ["node-0"] * 4, "the pods moved")
    ended = [pod for pod in get(cluster, "pods", "-l", "app=web") if pod["metadata"]["name"] in before]
    assert {(pod["status"]["phase"], pod["status"]["reason"]) for pod in ended} == {("Failed", "Terminated")}
    late = workload("Deployment", "late", 1)["spec"]["template"]["spec"] | {"nodeName": "node-1"}
    wait_for(lambda: "is off already" in command(environ, "shutdown", "node-1"), "the node is off")
    apply(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "labels": {"app": "late"}}, "spec": late})
    wait_for(lambda: ready(cluster, "node-1")["status"] == "Unknown", "nobody hears of the node", seconds_max=30)
    assert not running(cluster, "late")
    assert "starts" in command(environ, "start", "node-1")
    wait_for(lambda: ready(cluster, "node-1")["status"] == "True", "the node is back")
    wait_for(lambda: running(cluster, "late"), "what was bound to it meanwhile runs")


def test_after_a_power_loss_the_out_of_service_taint_frees_pods_and_volumes(pair: tuple[ClusterUnderTest, dict[str, str]]) -> None:
    cluster, environ = pair
    apply(cluster, *disk(), workload("StatefulSet", "db", 1, claim="disk"))

    def attached() -> list[str]:
        return [one["spec"]["nodeName"] for one in get(cluster, "volumeattachments")]

    wait_for(lambda: running(cluster, "db") and attached(), "the database runs with its disk")
    (old,) = running(cluster, "db")
    lost = old["spec"]["nodeName"]
    other = next(name for name in ("node-0", "node-1") if name != lost)
    assert attached() == [lost]
    assert "is off" in command(environ, "shutdown", lost, "--now")
    wait_for(lambda: ready(cluster, lost)["status"] == "Unknown", "the silent node is noticed", seconds_max=30)
    cluster.kubectl("delete", "pod", "db-0", "--wait=false")
    assert get(cluster, "pod", "db-0")["metadata"]["uid"] == old["metadata"]["uid"], "nobody can tell whether it still runs"
    cluster.kubectl("taint", "node", lost, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    wait_for(lambda: [pod["spec"]["nodeName"] for pod in running(cluster, "db")] == [other], "it runs elsewhere", seconds_max=60)
    wait_for(lambda: attached() == [other], "with its disk")
    command(environ, "start", lost)
    cluster.kubectl("taint", "node", lost, "node.kubernetes.io/out-of-service-")
    wait_for(lambda: ready(cluster, lost)["status"] == "True", "the node is back")
    assert [pod["spec"]["nodeName"] for pod in running(cluster, "db")] == [other]

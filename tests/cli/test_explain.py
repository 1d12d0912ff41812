"""`kubecosm explain-scheduling`: scheduled and pending pods, and mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, CommandLine, wait_for

Object = dict[str, Any]


def pod(name: str, **spec: Any) -> Object:
    container = {"name": "c", "image": "registry.k8s.io/pause:3.10"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


@pytest.mark.process
def test_explain_scheduling_tells_of_scheduled_and_pending_pods(cluster: ClusterUnderTest, namespace: str) -> None:
    line = CommandLine(cluster.paths.root.parent)

    def explain(name: str, *more: str, code: int = 0) -> str:
        done = line("explain-scheduling", name, "-n", namespace, "--name", cluster.spec.name, *more, code=code)
        return done.stdout if code == 0 else done.stderr

    def phase_known(name: str) -> bool:
        status = json.loads(cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "json"))["status"]
        return any(c["type"] == "PodScheduled" for c in status.get("conditions") or ())

    items = [
        pod("placed"), pod("nowhere", nodeSelector={"no": "such"}), pod("gated", schedulingGates=[{"name": "example.com/wait"}]),
        pod("foreign", schedulerName="somebody-else"), pod("direct", nodeName="node-0"),
    ]  # fmt: skip
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    wait_for(lambda: phase_known("placed") and phase_known("nowhere"), "the scheduler has tried")

    placed = json.loads(explain("placed", "-o", "json"))
    assert (placed["state"], placed["result"], len(placed["nodes"])) == ("Scheduled", "Scheduled", 3)
    best = placed["nodes"][0]
    assert best["node"] == placed["nodeName"]
    assert best["score"] == sum(best["scores"].values()) == max(node["score"] for node in placed["nodes"])
    assert f"Scheduled to {placed['nodeName']}" in explain("placed")

    nowhere = explain("nowhere")
    assert "State:      Unschedulable, waits for an event" in nowhere
    assert nowhere.count("NodeAffinity: node(s) didn't match Pod's node affinity/selector") == 3
    assert "Retried on: NodeAffinity: Node: Add, UpdateNodeLabel" in nowhere

    assert "Gated by SchedulingGates: waiting for scheduling gates: [example.com/wait]" in explain("gated")
    assert "the pod waits for scheduler 'somebody-else'" in explain("foreign", code=1)
    assert "it is on node-0 since before the scheduler started" in explain("direct", code=1)
    assert f'cannot read pod {namespace}/none: pods "none" not found' in explain("none", code=1)


@pytest.mark.process
def test_explain_scheduling_without_a_scheduler_says_so(kubecosm: CommandLine) -> None:
    kubecosm("up", "--components", "apiserver", "--detach")
    made = kubecosm("explain-scheduling", "any", code=1)
    assert 'cannot read pod default/any: pods "any" not found' in made.stderr
    kubecosm("down")
    stopped = kubecosm("explain-scheduling", "any", code=1)
    assert "the API server of cluster default does not answer" in stopped.stderr


def test_explain_scheduling_names_a_cluster_that_is_not_there(kubecosm: CommandLine) -> None:
    assert "there is no cluster none" in kubecosm("explain-scheduling", "any", "--name", "none", code=1).stderr

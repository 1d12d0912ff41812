"""The scheduler dies at any moment, or loses its API server: nothing is bound twice, nothing stalls, nothing spins."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, CommandLine, find_kubectl, wait_for
from tests.kills import assert_idle, cluster_to_hurt, component_alone, kill_within, moments

from .test_on_a_cluster import pod

pytestmark = pytest.mark.process

Object = dict[str, Any]
RESOURCE = "example.com/slot"
SLOTS = 20
NODES = 3
KILLS = 6


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterUnderTest]:
    """A cluster whose scheduler may be killed without others suffering."""
    with cluster_to_hurt(tmp_path, NODES) as running:
        yield running


class Witness:
    """Watches all pods and remembers every node that each was ever on."""

    def __init__(self, cluster: ClusterUnderTest) -> None:
        command = [find_kubectl(), f"--kubeconfig={cluster.kubeconfig}", "get", "pods", "--watch", "-o", "json", "--output-watch-events"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.nodes: dict[str, set[str]] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._process.stdout:
            text += line
            if line.startswith("}"):
                event, end = decoder.raw_decode(text)
                text = text[end:].lstrip()
                node = event["object"]["spec"].get("nodeName")
                if node:
                    self.nodes.setdefault(event["object"]["metadata"]["name"], set()).add(node)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def witness(cluster: ClusterUnderTest) -> Iterator[Witness]:
    seen = Witness(cluster)
    try:
        yield seen
    finally:
        seen.stop()


def offer_slots(cluster: ClusterUnderTest) -> None:
    path = RESOURCE.replace("/", "~1")
    patch = [{"op": "add", "path": f"/status/{kind}/{path}", "value": str(SLOTS)} for kind in ("capacity", "allocatable")]
    for index in range(NODES):
        cluster.kubectl("patch", "node", f"node-{index}", "--subresource=status", "--type=json", "-p", json.dumps(patch))


def test_a_scheduler_killed_at_any_time_binds_every_pod_once_and_fills_no_node_twice(own_cluster: ClusterUnderTest) -> None:
    r = moments("scheduler")
    offer_slots(own_cluster)
    total = NODES * SLOTS + 10
    share = -(-total // KILLS)
    with witness(own_cluster) as seen:
        for start in range(0, total, share):
            batch = [pod(f"p-{index}", requests={RESOURCE: "1"}) for index in range(start, min(start + share, total))]
            command = [find_kubectl(), f"--kubeconfig={own_cluster.kubeconfig}", "create", "-f", "-"]
            creating = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            assert creating.stdin is not None
            creating.stdin.write(json.dumps({"apiVersion": "v1", "kind": "List", "items": batch}))
            creating.stdin.close()
            kill_within(own_cluster, "scheduler", r.uniform(0.0, 0.5))
            assert creating.wait(30) == 0
        wait_for(lambda: len(placed(own_cluster)) == NODES * SLOTS, "all slots are taken", 40)
        assert Counter(placed(own_cluster).values()) == {f"node-{index}": SLOTS for index in range(NODES)}
        wait_for(lambda: waiting(own_cluster) == 10, "the others are told that there is no room", 40)
        one = next(iter(placed(own_cluster)))
        own_cluster.kubectl("delete", "pod", one, "--wait=false")
        wait_for(lambda: waiting(own_cluster) == 9, "a freed slot is taken", 40)
    assert all(len(nodes) == 1 for nodes in seen.nodes.values()), {name: nodes for name, nodes in seen.nodes.items() if len(nodes) > 1}


def pods(cluster: ClusterUnderTest) -> list[Object]:
    found: list[Object] = json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"]
    return found


def placed(cluster: ClusterUnderTest) -> dict[str, str]:
    return {item["metadata"]["name"]: item["spec"]["nodeName"] for item in pods(cluster) if item["spec"].get("nodeName")}


def waiting(cluster: ClusterUnderTest) -> int:
    """How many pods are known to be unschedulable."""
    return sum(
        any(c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable" for c in item["status"].get("conditions") or ())
        for item in pods(cluster)
    )


def test_a_scheduler_without_an_api_server_costs_no_processor(kubecosm: CommandLine) -> None:
    kubecosm("up", "--components", "apiserver", "--detach")
    with component_alone(kubecosm, "scheduler") as scheduler:
        administrator = [find_kubectl(), f"--kubeconfig={kubecosm.home / 'copy.kubeconfig'}"]
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        for obj in (account, pod("stuck", requests={"cpu": "1"})):
            subprocess.run([*administrator, "create", "-f", "-"], input=json.dumps(obj), text=True, check=True, capture_output=True)

        def is_told() -> bool:
            done = subprocess.run([*administrator, "get", "pod", "stuck", "-o", "json"], capture_output=True, text=True, check=True)
            return "no nodes available to schedule pods" in done.stdout

        wait_for(is_told, "the scheduler has tried")
        kubecosm("down")
        assert_idle(scheduler)

"""The scheduler dies at any moment, or loses its API server: nothing is bound twice, nothing stalls, nothing spins."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecosm.cluster.launch import Options
from tests.conftest import ClusterUnderTest, CommandLine, find_kubectl, wait_for

from .test_on_a_cluster import pod

pytestmark = pytest.mark.process

Object = dict[str, Any]
RESOURCE = "example.com/slot"
SLOTS = 20
NODES = 3
KILLS = 6
IDLE_SECONDS = 2.0
IDLE_CPU_SECONDS_MAX = 0.1


def seed() -> int:
    """Of this run; $SCHEDULER_SEED repeats one."""
    return int(os.environ.get("SCHEDULER_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterUnderTest]:
    """A cluster whose scheduler may be killed without others suffering."""
    environ = os.environ | {"KUBECOSM_HOME": str(tmp_path)}
    with ClusterUnderTest.start(Options(name="resilience", nodes=NODES, ephemeral=True), environ=environ) as running:
        running.wait_ready()
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
    chosen = seed()
    print(f"repeat with SCHEDULER_SEED={chosen}")
    r = random.Random(chosen)
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
            moment = time.monotonic() + r.uniform(0.0, 0.5)
            wait_for(lambda moment=moment: time.monotonic() >= moment, "the chosen moment")  # type: ignore[misc]
            kill_scheduler(own_cluster)
            assert creating.wait(30) == 0
        wait_for(lambda: len(placed(own_cluster)) == NODES * SLOTS, "all slots are taken", 40)
        assert Counter(placed(own_cluster).values()) == {f"node-{index}": SLOTS for index in range(NODES)}
        wait_for(lambda: waiting(own_cluster) == 10, "the others are told that there is no room", 40)
        one = next(iter(placed(own_cluster)))
        own_cluster.kubectl("delete", "pod", one, "--wait=false")
        wait_for(lambda: waiting(own_cluster) == 9, "a freed slot is taken", 40)
    assert all(len(nodes) == 1 for nodes in seen.nodes.values()), {name: nodes for name, nodes in seen.nodes.items() if len(nodes) > 1}


def kill_scheduler(cluster: ClusterUnderTest) -> None:
    def pid() -> int | None:
        found: int | None = next(c["pid"] for c in cluster.status()["components"] if c["name"] == "scheduler")
        return found

    wait_for(pid, "there is a scheduler to be killed")
    os.kill(pid() or 0, signal.SIGKILL)


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
    kubeconfig = kubecosm("kubeconfig", "--path").stdout.strip()
    copy = kubecosm.home / "copy.kubeconfig"
    copy.write_bytes(Path(kubeconfig).read_bytes())
    command = [sys.executable, "-m", "kubecosm.services.scheduler", f"--kubeconfig={copy}"]
    with subprocess.Popen(command, env=kubecosm.environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as scheduler:
        try:
            administrator = [find_kubectl(), f"--kubeconfig={copy}"]
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            for obj in (account, pod("stuck", requests={"cpu": "1"})):
                subprocess.run([*administrator, "create", "-f", "-"], input=json.dumps(obj), text=True, check=True, capture_output=True)

            def is_told() -> bool:
                done = subprocess.run([*administrator, "get", "pod", "stuck", "-o", "json"], capture_output=True, text=True, check=True)
                return "no nodes available to schedule pods" in done.stdout

            wait_for(is_told, "the scheduler has tried")
            kubecosm("down")
            before, until = cpu_seconds(scheduler.pid), time.monotonic() + IDLE_SECONDS
            wait_for(lambda: time.monotonic() >= until, "some time has passed")
            assert cpu_seconds(scheduler.pid) - before < IDLE_CPU_SECONDS_MAX
            assert scheduler.poll() is None
        finally:
            scheduler.terminate()
        assert scheduler.wait(10) == 0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

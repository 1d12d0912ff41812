"""Two controller managers or two schedulers side by side: one works, the other takes over when it dies, and at once when it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kubecosm.cluster.launch import Options
from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process

TIMES = ("--leader-elect", "--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=500ms")
OTHERS = {"controller": ("apiserver", "scheduler", "kubelet"), "scheduler": ("apiserver", "controller", "kubelet")}
LEASES = {"controller": "kube-controller-manager", "scheduler": "kube-scheduler"}


@dataclass
class Replica:
    process: subprocess.Popen[bytes]
    port: int

    def leads(self) -> bool:
        """As its own metric tells."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return False
        return re.search(r"^leader_election_master_status\{.*\} 1\.0$", text, re.MULTILINE) is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def replica(cluster: ClusterUnderTest, component: str) -> Iterator[Replica]:
    port = free_port()
    own = (f"--kubeconfig={cluster.paths.kubeconfig}", f"--metrics-bind-address=127.0.0.1:{port}")
    command = [sys.executable, "-m", f"kubecosm.services.{component}", *own, *TIMES]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield Replica(process, port)
        finally:
            process.kill()


def lease(cluster: ClusterUnderTest, component: str) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("-n", "kube-system", "get", "lease", LEASES[component], "-o", "json"))
    spec: dict[str, Any] = found["spec"]
    return spec


def works(cluster: ClusterUnderTest, name: str) -> None:
    """A Deployment gets exactly its pods, and they run."""
    cluster.kubectl("create", "deployment", name, "--image=nginx", "--replicas=3")
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=30s")
    pods = json.loads(cluster.kubectl("get", "pods", "-l", f"app={name}", "-o", "json"))["items"]
    assert len(pods) == 3


@pytest.mark.parametrize("component", ["controller", "scheduler"])
def test_of_two_replicas_one_works_and_the_other_takes_over(component: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    environ = os.environ | {"KUBECOSM_HOME": str(tmp_path_factory.mktemp("home"))}
    options = Options(name=f"lead-{component}", nodes=1, ephemeral=True, components=OTHERS[component])
    with ExitStack() as stack:
        cluster = stack.enter_context(ClusterUnderTest.start(options, environ=environ))
        cluster.wait_ready()
        first = stack.enter_context(replica(cluster, component))
        wait_for(first.leads, "the first leads")
        second = stack.enter_context(replica(cluster, component))
        works(cluster, "one")
        assert not second.leads()
        first.process.send_signal(signal.SIGKILL)
        works(cluster, "two")
        assert second.leads()
        assert lease(cluster, component)["leaseTransitions"] == 1
        third = stack.enter_context(replica(cluster, component))
        before = lease(cluster, component)["holderIdentity"]
        second.process.terminate()
        assert second.process.wait(10) == 0
        wait_for(third.leads, "the third leads")
        assert lease(cluster, component)["holderIdentity"] not in ("", before)
        works(cluster, "three")
        events = cluster.kubectl("-n", "kube-system", "get", "events", "-o", "jsonpath={.items[*].message}")
        assert events.count("became leader") == 3
        assert events.count("stopped leading") == 1

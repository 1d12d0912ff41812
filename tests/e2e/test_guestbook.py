"""A user's afternoon with kubectl: deploy, look, scale, roll, break, clean up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from tests.conftest import ClusterUnderTest, CommandLine, find_kubectl, wait_for

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parent.parent.parent
GUESTBOOK = ROOT / "deploy" / "manifests" / "guestbook.yaml"
ROLLOUT = ("rollout", "status", "--timeout=30s")


@pytest.fixture
def guestbook(cluster: ClusterUnderTest, namespace: str) -> str:
    """A namespace in which the guestbook is deployed and ready."""
    cluster.kubectl("-n", namespace, "apply", "-f", str(GUESTBOOK))
    for deployment in ("frontend", "store-leader", "store-follower"):
        cluster.kubectl("-n", namespace, *ROLLOUT, f"deployment/{deployment}")
    return namespace


def get(cluster: ClusterUnderTest, namespace: str, *arguments: str) -> Any:
    return json.loads(cluster.kubectl("-n", namespace, "get", *arguments, "-o", "json"))


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def may_open_port_80() -> bool:
    """Whether this user's Services can have their own port 80; where not, their node ports serve all the same."""
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    return os.geteuid() == 0 or first_free <= 80


def test_nodes_are_ready_and_told_apart(cluster: ClusterUnderTest) -> None:
    lines = cluster.kubectl("get", "nodes", "-o", "wide").splitlines()
    assert lines[0].split()[:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert [line.split()[:2] for line in lines[1:]] == [["node-0", "Ready"], ["node-1", "Ready"], ["node-2", "Ready"]]


def test_the_application_answers_at_every_address_it_has(cluster: ClusterUnderTest, guestbook: str) -> None:
    service = get(cluster, guestbook, "service", "frontend")
    node = get(cluster, guestbook, "node", "node-1")
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    pod = get(cluster, guestbook, "pods", "-l", "tier=frontend")["items"][0]
    urls = [f"http://{address}:{service['spec']['ports'][0]['nodePort']}/"]
    if may_open_port_80():
        urls += [f"http://{service['spec']['clusterIP']}/", f"http://{pod['status']['podIP']}/"]
    for url in urls:
        assert json.loads(fetch(url))["namespace"] == guestbook


def test_the_service_spreads_visits_over_its_pods(cluster: ClusterUnderTest, guestbook: str) -> None:
    port = get(cluster, guestbook, "service", "frontend")["spec"]["ports"][0]["nodePort"]
    url = f"http://{cluster.spec.slots.node_ip(0)}:{port}/"
    assert len({json.loads(fetch(url))["pod"] for _visit in range(60)}) == 3


def test_the_cluster_dns_knows_the_service(cluster: ClusterUnderTest, guestbook: str) -> None:
    address = get(cluster, guestbook, "service", "frontend")["spec"]["clusterIP"]
    query = dns.message.make_query(f"frontend.{guestbook}.svc.cluster.local", "A")
    answer = dns.query.udp(query, str(cluster.spec.slots.dns_service_ip), port=10053, timeout=5)
    assert [str(record) for record in answer.answer[0]] == [address]


def test_scaling_is_followed_by_pods_and_endpoints(cluster: ClusterUnderTest, guestbook: str) -> None:
    cluster.kubectl("-n", guestbook, "scale", "deployment/frontend", "--replicas=5")
    cluster.kubectl("-n", guestbook, *ROLLOUT, "deployment/frontend")
    assert cluster.kubectl("-n", guestbook, "get", "deployment", "frontend", "--no-headers").split()[1] == "5/5"
    wait_for(lambda: len(endpoints(cluster, guestbook)) == 5, "five endpoints")
    cluster.kubectl("-n", guestbook, "scale", "deployment/frontend", "--replicas=1")
    wait_for(lambda: len(endpoints(cluster, guestbook)) == 1, "one endpoint")


def endpoints(cluster: ClusterUnderTest, namespace: str) -> list[str]:
    slices = get(cluster, namespace, "endpointslices", "-l", "kubernetes.io/service-name=frontend")["items"]
    return [e["addresses"][0] for s in slices for e in s["endpoints"] or () if e["conditions"].get("ready")]


def test_a_rollout_can_be_watched_and_undone(cluster: ClusterUnderTest, guestbook: str) -> None:
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    cluster.kubectl("-n", guestbook, "set", "image", "deployment/frontend", "web=guestbook/frontend:2")
    cluster.kubectl("-n", guestbook, *ROLLOUT, "deployment/frontend")
    assert cluster.kubectl("-n", guestbook, "get", "deployment", "frontend", "-o", image) == "guestbook/frontend:2"
    assert len(cluster.kubectl("-n", guestbook, "rollout", "history", "deployment/frontend").strip().splitlines()) == 4
    cluster.kubectl("-n", guestbook, "rollout", "undo", "deployment/frontend")
    cluster.kubectl("-n", guestbook, *ROLLOUT, "deployment/frontend")
    assert cluster.kubectl("-n", guestbook, "get", "deployment", "frontend", "-o", image) == "guestbook/frontend:1"


def test_a_well_known_image_listens_on_its_port_even_if_nobody_declared_it(cluster: ClusterUnderTest, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "deployment", "cache", "--image=redis:7")
    cluster.kubectl("-n", namespace, "expose", "deployment", "cache", "--port=6379")
    cluster.kubectl("-n", namespace, *ROLLOUT, "deployment/cache")
    address = get(cluster, namespace, "service", "cache")["spec"]["clusterIP"]

    def pong() -> bool:
        try:
            with socket.create_connection((address, 6379), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    wait_for(pong, "the Service leads to a server that answers")


def test_logs_and_exec_reach_the_pods(cluster: ClusterUnderTest, guestbook: str) -> None:
    found = get(cluster, guestbook, "pods", "-l", "tier=frontend")["items"][0]
    pod, address = found["metadata"]["name"], found["status"]["podIP"]
    assert cluster.kubectl("-n", guestbook, "exec", pod, "--", "sh", "-c", "echo hello from $(hostname)") == f"hello from {pod}\n"
    page = cluster.kubectl("-n", guestbook, "exec", pod, "--", "wget", "-qO-", f"http://{address}/hello")
    assert json.loads(page)["namespace"] == guestbook
    wait_for(lambda: "GET /hello" in cluster.kubectl("-n", guestbook, "logs", pod), "the pod logged the visit")


def test_port_forward_carries_requests(cluster: ClusterUnderTest, guestbook: str) -> None:
    command = [find_kubectl(), f"--kubeconfig={cluster.kubeconfig}", "-n", guestbook, "port-forward", "deployment/frontend", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 80
            port = int(line.split("127.0.0.1:")[1].split()[0])
            assert json.loads(fetch(f"http://127.0.0.1:{port}/"))["namespace"] == guestbook
        finally:
            process.terminate()


def test_describe_tells_the_story_of_a_pod(cluster: ClusterUnderTest, guestbook: str) -> None:
    pod = get(cluster, guestbook, "pods", "-l", "tier=frontend")["items"][0]["metadata"]["name"]
    story = cluster.kubectl("-n", guestbook, "describe", "pod", pod)
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in story


def test_everything_goes_when_the_namespace_goes(cluster: ClusterUnderTest) -> None:
    cluster.kubectl("create", "namespace", "short-lived")
    cluster.kubectl("-n", "short-lived", "apply", "-f", str(GUESTBOOK))
    cluster.kubectl("delete", "namespace", "short-lived", "--timeout=30s")
    assert "NotFound" in cluster.run_kubectl("get", "namespace", "short-lived").stderr


def test_a_pod_can_be_created_the_moment_the_cluster_is_ready(kubecosm: CommandLine) -> None:
    kubecosm("up", "--detach")
    kubeconfig = kubecosm.home / "default" / "kubeconfig"
    command = [find_kubectl(), f"--kubeconfig={kubeconfig}", "run", "first", "--image=nginx"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    kubecosm("down")


def test_the_demonstration_runs(tmp_path: Path) -> None:
    environ = os.environ | {"KUBECOSM_HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "deploy" / "demo.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ nothing is left" in done.stdout

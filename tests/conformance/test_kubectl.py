"""kubectl: what the command line promises, with the real binary."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, find_kubectl, wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

GUESTBOOK = Path(__file__).resolve().parent.parent.parent / "deploy" / "manifests" / "guestbook.yaml"
LABELS = {"app": "demo"}
CONTROLLER = {
    "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "demo", "labels": LABELS},
    "spec": {
        "replicas": 2, "selector": LABELS,
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "demo", "image": "nginx:1.27", "ports": [{"containerPort": 6379}]}]},
        },
    },
}  # fmt: skip
LOGGER = "for i in 1 2 3 4 5 6 7 8; do echo line $i of the log; done; sleep 3600"


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, cluster: ClusterUnderTest, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def __call__(self, *arguments: str, stdin: Any = None) -> str:
        """What it printed; it must succeed. An object as `stdin` is given as JSON."""
        text = stdin if isinstance(stdin, str) else json.dumps(stdin) if stdin else ""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=text)

    def run(self, *arguments: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        return self.cluster.run_kubectl("-n", self.namespace, *arguments, stdin=json.dumps(stdin) if stdin else "")

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def demo(self, pods: int = 2) -> None:
        """The replication controller of this module, with all its pods running."""
        self("create", "-f", "-", stdin=CONTROLLER)
        self.wait_running(pods)

    def wait_running(self, count: int) -> None:
        phases = "jsonpath={.items[*].status.phase}"
        wait_for(lambda: self("get", "pods", "-l", "app=demo", "-o", phases).split() == ["Running"] * count, f"{count} pods run")


@pytest.fixture
def kubectl(cluster: ClusterUnderTest, namespace: str) -> Kubectl:
    return Kubectl(cluster, namespace)


@promise("Kubectl client Update Demo should create and stop a replication controller")
def test_a_replication_controller_is_created_and_stopped(kubectl: Kubectl) -> None:
    kubectl.demo()
    kubectl("delete", "rc", "demo", "--grace-period=0", "--force", "--timeout=30s")
    wait_for(lambda: not kubectl.get("pods", "-l", "app=demo")["items"], "the pods are gone")


@promise("Kubectl client Update Demo should scale a replication controller")
def test_a_replication_controller_is_scaled(kubectl: Kubectl) -> None:
    kubectl.demo()
    for replicas in (1, 3):
        kubectl("scale", "rc", "demo", f"--replicas={replicas}", "--timeout=30s")
        kubectl.wait_running(replicas)


@promise("Kubectl client Guestbook application should create and stop a working application")
def test_the_guestbook_works_and_stops(kubectl: Kubectl) -> None:
    kubectl("create", "-f", str(GUESTBOOK))
    kubectl("rollout", "status", "deployment/frontend", "--timeout=60s")
    answer = kubectl("exec", "deployment/frontend", "--", "wget", "-qO-", "http://frontend")
    assert json.loads(answer)["namespace"] == kubectl.namespace
    kubectl("delete", "-f", str(GUESTBOOK), "--grace-period=0", "--force", "--timeout=30s")


@promise("Kubectl client Kubectl api-versions should check if v1 is in available api versions")
def test_v1_is_among_the_api_versions(kubectl: Kubectl) -> None:
    assert "v1" in kubectl("api-versions").splitlines()


@promise("Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info")
def test_cluster_info_names_the_control_plane(kubectl: Kubectl) -> None:
    text = kubectl("cluster-info")
    assert "Kubernetes control plane" in text
    assert "is running at" in text


@promise("Kubectl client Kubectl version should check is all data is printed")
def test_version_tells_client_and_server(kubectl: Kubectl) -> None:
    found = json.loads(kubectl("version", "-o", "json"))
    assert found["clientVersion"]["gitVersion"]
    server = found["serverVersion"]
    assert server["major"] == "1"
    assert all(server[name] for name in ("minor", "gitVersion", "gitCommit", "buildDate", "goVersion", "compiler", "platform"))


@promise("Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods")
def test_describe_tells_what_matters(kubectl: Kubectl) -> None:
    kubectl.demo()
    kubectl("expose", "rc", "demo", "--port=6379", "--name=demo")
    pod = kubectl.get("pods", "-l", "app=demo")["items"][0]["metadata"]["name"]
    for (kind, name), wanted in {
        ("pod", pod): ("Name:", "Namespace:", "Node:", "Labels:", "Status:", "Controlled By:", "Image:", "State:", "QoS Class:"),
        ("rc", "demo"): ("Name:", "Selector:", "Labels:", "Replicas:", "Pods Status:", "Pod Template:", "Image:", "Events:"),
        ("service", "demo"): ("Name:", "Namespace:", "Labels:", "Selector:", "Type:", "IP:", "Port:", "Endpoints:", "Session Affinity:"),
        ("node", "node-0"): ("Name:", "Labels:", "Annotations:", "Conditions:", "Addresses:", "Capacity:", "Version:"),
        ("namespace", kubectl.namespace): ("Name:", "Labels:", "Annotations:", "Status:", "Active"),
    }.items():  # fmt: skip
        text = kubectl("describe", kind, name)
        assert [word for word in wanted if word not in text] == []


@promise("Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments")
def test_diff_finds_a_changed_image(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx:1.27")
    live = kubectl.get("deployment", "web")
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": live["spec"]}
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "busybox:1.36"
    done = kubectl.run("diff", "-f", "-", stdin=wanted)
    assert done.returncode == 1, done.stderr
    changed = [line[0] + line.rpartition(" ")[2] for line in done.stdout.splitlines() if "image: " in line]
    assert changed == ["-nginx:1.27", "+busybox:1.36"]


@promise("Kubectl client Kubectl expose should create services for rc")
def test_expose_makes_services_of_controllers_and_services(kubectl: Kubectl) -> None:
    kubectl.demo(2)
    kubectl("expose", "rc", "demo", "--name=rm2", "--port=1234", "--target-port=6379")
    kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        service = kubectl.get("service", name)["spec"]
        assert [(p["port"], p["targetPort"]) for p in service["ports"]] == [(port, 6379)]
        wait_for(lambda name=name: len(ready_addresses(kubectl, name)) == 2, f"{name} has two endpoints")


def ready_addresses(kubectl: Kubectl, service: str) -> list[str]:
    slices = kubectl.get("endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return [e["addresses"][0] for s in slices for e in s.get("endpoints") or () if e["conditions"].get("ready")]


@promise("Kubectl client Kubectl label should update the label on a resource")
def test_a_label_is_added_and_taken_away(kubectl: Kubectl) -> None:
    kubectl("run", "pause", "--image=registry.k8s.io/pause:3.10")
    kubectl("label", "pods", "pause", "testing-label=testing-label-value")
    assert "testing-label-value" in kubectl("get", "pod", "pause", "-L", "testing-label")
    kubectl("label", "pods", "pause", "testing-label-")
    assert "testing-label-value" not in kubectl("get", "pod", "pause", "-L", "testing-label")


@promise("Kubectl client Kubectl patch should add annotations for pods in rc")
def test_patch_annotates_the_pods_of_a_controller(kubectl: Kubectl) -> None:
    kubectl.demo()
    for pod in kubectl.get("pods", "-l", "app=demo")["items"]:
        kubectl("patch", "pod", pod["metadata"]["name"], "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    assert [pod["metadata"]["annotations"]["x"] for pod in kubectl.get("pods", "-l", "app=demo")["items"]] == ["y", "y"]


@promise("Kubectl client Kubectl replace should update a single-container pod's image")
def test_replace_changes_the_image_of_a_pod(kubectl: Kubectl) -> None:
    kubectl("run", "web", "--image=nginx:1.27", "--labels=run=web")
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")

    def replaced() -> bool:
        """The kubelet may write in between, as with any client that reads and writes."""
        pod = kubectl.get("pod", "web")
        pod["spec"]["containers"][0]["image"] = "busybox:1.36"
        return kubectl.run("replace", "-f", "-", stdin=pod).returncode == 0

    wait_for(replaced, "the pod is replaced")
    assert kubectl.get("pod", "web")["spec"]["containers"][0]["image"] == "busybox:1.36"


@promise("Kubectl client Kubectl run pod should create a pod from an image when restart is Never")
def test_run_makes_a_pod_that_never_restarts(kubectl: Kubectl) -> None:
    kubectl("run", "once", "--restart=Never", "--image=nginx:1.27")
    spec = kubectl.get("pod", "once")["spec"]
    assert (spec["containers"][0]["image"], spec["restartPolicy"]) == ("nginx:1.27", "Never")


@promise("Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods")
def test_a_dry_run_on_the_server_changes_nothing(kubectl: Kubectl) -> None:
    kubectl("run", "web", "--image=nginx:1.27")
    patch = '{"spec":{"containers":[{"name":"web","image":"busybox:1.36"}]}}'
    assert "patched" in kubectl("patch", "pod", "web", "-p", patch, "--dry-run=server")
    assert kubectl.get("pod", "web")["spec"]["containers"][0]["image"] == "nginx:1.27"


@promise("Kubectl logs logs should be able to retrieve and filter logs")
def test_logs_are_read_whole_and_in_part(kubectl: Kubectl) -> None:
    kubectl("run", "logger", "--image=busybox:1.36", "--restart=Never", "--", "sh", "-c", LOGGER)
    lines = [f"line {n} of the log" for n in range(1, 9)]
    wait_for(lambda: kubectl.run("logs", "logger").stdout.splitlines() == lines, "the whole log")
    assert kubectl("logs", "logger", "logger", "--tail=1").splitlines() == lines[-1:]
    assert kubectl("logs", "logger", "--limit-bytes=1") == "l"
    (stamped,) = kubectl("logs", "logger", "--tail=1", "--timestamps").splitlines()
    stamp, _, text = stamped.partition(" ")
    assert (stamp[4], stamp[-1], text) == ("-", "Z", lines[-1])
    assert kubectl("logs", "logger", "--since=24h").splitlines() == lines


@contextmanager
def proxying(kubectl: Kubectl, *arguments: str) -> Iterator[str]:
    """The line that `kubectl proxy` says when it serves."""
    command = [find_kubectl(), f"--kubeconfig={kubectl.cluster.kubeconfig}", "proxy", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.terminate()


@promise("Kubectl client Proxy server should support proxy with --port 0")
def test_a_proxy_takes_a_free_port(kubectl: Kubectl) -> None:
    with proxying(kubectl, "--port=0", "--disable-filter=true") as line:
        port = int(line.rpartition(":")[2])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/", timeout=10) as answer:
            assert json.loads(answer.read())["versions"] == ["v1"]


@promise("Kubectl client Proxy server should support --unix-socket=/path")
def test_a_proxy_serves_on_a_unix_socket(kubectl: Kubectl, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with proxying(kubectl, f"--unix-socket={path}") as line:
        assert str(path) in line
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            connection.sendall(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b'"v1"' in body

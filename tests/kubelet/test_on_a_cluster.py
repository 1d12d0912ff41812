"""The kubelet's promises on a real cluster, through kubectl: pods live, are seen into, survive the kubelet, and leave."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, find_kubectl, wait_for

pytestmark = pytest.mark.process

Object = dict[str, Any]


def apply(cluster: ClusterUnderTest, namespace: str, *objects: Object) -> None:
    for obj in objects:
        obj["metadata"]["namespace"] = namespace
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": list(containers), **spec}}


def get(cluster: ClusterUnderTest, namespace: str, name: str) -> Object:
    found: Object = json.loads(cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "json"))
    return found


def is_ready(obj: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in obj["status"].get("conditions") or ())


def wait_ready(cluster: ClusterUnderTest, namespace: str, name: str) -> Object:
    wait_for(lambda: is_ready(get(cluster, namespace, name)), f"{name} is ready")
    return get(cluster, namespace, name)


def server(port: int, **fields: Any) -> Object:
    return {"name": "c", "image": "nginx:1.25", "ports": [{"containerPort": port}], **fields}


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_a_pod_answers_is_executed_in_copied_from_and_forwarded_to(cluster: ClusterUnderTest, namespace: str, tmp_path: Path) -> None:
    apply(
        cluster,
        namespace,
        pod("web", server(18080, env=[{"name": "COLOUR", "value": "blue"}], readinessProbe={"httpGet": {"port": 18080}})),
    )
    ip = wait_ready(cluster, namespace, "web")["status"]["podIP"]
    assert "web" in fetch(f"http://{ip}:18080/")
    inside = ("-n", namespace, "exec", "-i", "web", "--")
    assert cluster.kubectl(*inside, "sh", "-c", "echo $COLOUR; hostname; cat | tr a-z A-Z", stdin="piped") == "blue\nweb\nPIPED"
    failed = cluster.run_kubectl(*inside, "sh", "-c", "echo no >&2; exit 7")
    assert failed.returncode == 7
    assert "no" in failed.stderr
    (tmp_path / "file").write_text("content")
    cluster.kubectl("-n", namespace, "cp", str(tmp_path / "file"), "web:/tmp/copy")
    cluster.kubectl("-n", namespace, "cp", "web:/tmp/copy", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    assert "GET / HTTP/1.1" in cluster.kubectl("-n", namespace, "logs", "web")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        local = free.getsockname()[1]
    command = [find_kubectl(), f"--kubeconfig={cluster.kubeconfig}", "-n", namespace, "port-forward", "pod/web", f"{local}:18080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        assert forwarding.stdout is not None
        assert "Forwarding from" in forwarding.stdout.readline()
        assert "web" in fetch(f"http://127.0.0.1:{local}/")
        forwarding.terminate()


def test_a_probe_by_https_and_one_of_the_nodes_loopback_are_answered(cluster: ClusterUnderTest, namespace: str) -> None:
    secure = {"httpGet": {"scheme": "HTTPS", "path": "/livez", "port": 18443}}
    local = {"httpGet": {"host": "127.0.0.1", "path": "/healthz", "port": 18444}}
    agent = pod("agent", {"name": "c", "image": "cni/agent:v1", "readinessProbe": local, "livenessProbe": local})
    agent["spec"]["hostNetwork"] = True
    apply(cluster, namespace, pod("secure", {"name": "c", "image": "metrics-server:v1", "readinessProbe": secure, "livenessProbe": secure}))
    apply(cluster, namespace, agent)
    ip = wait_ready(cluster, namespace, "secure")["status"]["podIP"]
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(f"https://{ip}:18443/", timeout=5, context=anybody) as answer:
        assert json.load(answer)["pod"] == "secure"
    wait_ready(cluster, namespace, "agent")


def test_an_unknown_image_without_declared_ports_listens_where_services_expect_it(cluster: ClusterUnderTest, namespace: str) -> None:
    def expose(name: str, target: int) -> None:
        ports = [{"port": 80, "targetPort": target}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "shop"}, "ports": ports}}
        apply(cluster, namespace, service)

    def answers(port: int) -> bool:
        try:
            return "shop" in fetch(f"http://{ip}:{port}/")
        except OSError:
            return False

    expose("before", 18451)
    shop = pod("shop", {"name": "c", "image": "my/shop:1"})
    shop["metadata"]["labels"] = {"app": "shop"}
    apply(cluster, namespace, shop)
    ip = wait_ready(cluster, namespace, "shop")["status"]["podIP"]
    wait_for(lambda: answers(18451), "the port of a Service that was there is open")
    assert not answers(18452)
    expose("after", 18452)
    wait_for(lambda: answers(18452), "the port of a Service that came later is open")


def test_a_killed_kubelet_takes_its_pods_up_again_and_misses_no_deletion(cluster: ClusterUnderTest, namespace: str) -> None:
    apply(cluster, namespace, pod("stays", server(18081)), pod("goes", server(18081), terminationGracePeriodSeconds=1))
    before = wait_ready(cluster, namespace, "stays")
    wait_ready(cluster, namespace, "goes")
    cluster.request("pause", component="kubelet")
    cluster.kubectl("-n", namespace, "delete", "pod", "goes", "--wait=false")
    cluster.request("kill", component="kubelet")
    wait_for(lambda: cluster.run_kubectl("-n", namespace, "get", "pod", "goes").returncode != 0, "the deleted pod is gone")
    url = f"http://{before['status']['podIP']}:18081/"

    def answers() -> bool:
        try:
            return "stays" in fetch(url)
        except OSError:
            return False

    wait_for(answers, "the pod answers again")
    after = get(cluster, namespace, "stays")
    assert after["status"] == before["status"]


def test_a_following_log_ends_with_its_container(cluster: ClusterUnderTest, namespace: str) -> None:
    script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 2"
    apply(cluster, namespace, pod("job", {"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", script]}, restartPolicy="Never"))
    wait_for(lambda: get(cluster, namespace, "job")["status"]["phase"] != "Pending", "the pod runs")
    assert cluster.kubectl("-n", namespace, "logs", "-f", "job") == "line 1\nline 2\nline 3\n"
    wait_for(lambda: get(cluster, namespace, "job")["status"]["phase"] == "Failed", "the pod has failed")
    assert get(cluster, namespace, "job")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 2


def test_pods_find_each_other_by_name(cluster: ClusterUnderTest, namespace: str) -> None:
    ports = [{"port": 18082}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    web = pod("web", server(18082))
    web["metadata"]["labels"] = {"app": "web"}
    apply(cluster, namespace, service, web, pod("client", {"name": "c", "image": "busybox:1.36", "command": ["sleep", "1000"]}))
    wait_ready(cluster, namespace, "web")
    wait_ready(cluster, namespace, "client")
    inside = ("-n", namespace, "exec", "client", "--")
    wait_for(lambda: "web" in cluster.run_kubectl(*inside, "wget", "-qO-", "http://web:18082/").stdout, "the Service answers")
    address = cluster.kubectl("-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    assert address in cluster.kubectl(*inside, "nslookup", "web")
    assert "Welcome" in cluster.kubectl(*inside, "sh", "-c", "curl -s web.$(cat /etc/resolv.conf | grep search | cut -d' ' -f2):18082")


def node_events(cluster: ClusterUnderTest, node: str) -> set[str]:
    events = json.loads(cluster.kubectl("get", "events", "--field-selector", f"involvedObject.uid={node}", "-o", "json"))["items"]
    return {event["reason"] for event in events}


def test_a_node_tells_of_its_start_and_of_being_cordoned(cluster: ClusterUnderTest) -> None:
    pressures = {"NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"}
    started = pressures | {"Starting", "NodeAllocatableEnforced", "NodeReady"}
    wait_for(lambda: started <= node_events(cluster, "node-1"), "the start is told")
    assert "Starting kubelet." in cluster.kubectl("describe", "node", "node-1")
    cluster.kubectl("cordon", "node-2")
    try:
        wait_for(lambda: "NodeNotSchedulable" in node_events(cluster, "node-2"), "cordoning is told")
    finally:
        cluster.kubectl("uncordon", "node-2")
    wait_for(lambda: "NodeSchedulable" in node_events(cluster, "node-2"), "uncordoning is told")


def test_a_node_shows_its_probes_and_settings_as_kubelets_do(cluster: ClusterUnderTest, namespace: str) -> None:
    limited = server(
        18090, resources={"limits": {"cpu": "500m", "memory": "64Mi"}}, readinessProbe={"tcpSocket": {"port": 18090}, "periodSeconds": 1}
    )
    apply(cluster, namespace, pod("measured", limited))
    node = wait_ready(cluster, namespace, "measured")["spec"]["nodeName"]

    def raw(path: str) -> str:
        return cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/{path}")

    assert 'probe_type="Readiness",result="successful"' in raw("metrics/probes")
    assert json.loads(raw("configz"))["kubeletconfig"]["maxPods"] == 110

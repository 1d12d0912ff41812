"""The main promises of the controllers, kept by a whole cluster of real processes and told through kubectl."""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.cluster.running import RunningCluster
from tests.conftest import Kubectl, wait_for

pytestmark = pytest.mark.process


def read(kube: Kubectl, namespace: str, *what: str) -> Any:
    return json.loads(kube("-n", namespace, "get", *what, "-o", "json").stdout)


def exists(kube: Kubectl, namespace: str, *what: str) -> bool:
    return kube("-n", namespace, "get", *what, check=False).returncode == 0


def apply(kube: Kubectl, namespace: str, *objects: Object) -> None:
    kube("-n", namespace, "apply", "-f", "-", stdin="\n---\n".join(json.dumps(obj) for obj in objects))


def template(image: str = "nginx:1", **spec: Any) -> Object:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(kind: str, name: str = "web", image: str = "nginx:1", **spec: Any) -> Object:
    body = {"selector": {"matchLabels": {"app": "web"}}, "template": template(image), **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def pods(kube: Kubectl, namespace: str) -> list[Object]:
    found: list[Object] = read(kube, namespace, "pods")["items"]
    return found


def images(kube: Kubectl, namespace: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in pods(kube, namespace)}


def test_a_deployment_rolls_out_and_back_and_scales(kube: Kubectl, namespace: str) -> None:
    apply(kube, namespace, workload("Deployment", replicas=3))
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    kube("-n", namespace, "set", "image", "deployment/web", "c=nginx:2")
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    wait_for(lambda: images(kube, namespace) == {"nginx:2"}, "only new pods are left")
    kube("-n", namespace, "rollout", "undo", "deployment/web")
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    wait_for(lambda: images(kube, namespace) == {"nginx:1"}, "only old pods are left")
    history = kube("-n", namespace, "rollout", "history", "deployment/web").stdout
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3"]
    kube("-n", namespace, "scale", "deployment/web", "--replicas=5")
    wait_for(lambda: read(kube, namespace, "deployment", "web")["status"].get("availableReplicas") == 5, "five are available")
    kube("-n", namespace, "rollout", "restart", "deployment/web")
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_deleting_a_deployment_takes_its_pods_along_or_leaves_them(kube: Kubectl, namespace: str, cascade: str) -> None:
    apply(kube, namespace, workload("Deployment", replicas=2))
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    kube("-n", namespace, "delete", "deployment", "web", f"--cascade={cascade}", "--timeout=30s")
    if cascade == "orphan":
        replicasets = read(kube, namespace, "replicasets")["items"]
        assert [rs["metadata"].get("ownerReferences") for rs in replicasets] == [None]
        assert len(pods(kube, namespace)) == 2
    else:
        wait_for(lambda: not pods(kube, namespace) and not read(kube, namespace, "replicasets")["items"], "everything is gone")


def test_a_stateful_set_starts_in_order_with_its_claims(kube: Kubectl, namespace: str) -> None:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}
    apply(kube, namespace, workload("StatefulSet", replicas=3, serviceName="web", volumeClaimTemplates=[claim]))
    kube("-n", namespace, "rollout", "status", "statefulset/web", "--timeout=30s")
    found = sorted(pods(kube, namespace), key=lambda pod: str(pod["metadata"]["name"]))
    assert [pod["metadata"]["name"] for pod in found] == ["web-0", "web-1", "web-2"]
    ready = [next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")["lastTransitionTime"] for pod in found]
    assert ready == sorted(ready)
    claims = read(kube, namespace, "pvc")["items"]
    assert {c["metadata"]["name"]: c["status"]["phase"] for c in claims} == {f"data-web-{index}": "Bound" for index in range(3)}
    kube("-n", namespace, "scale", "statefulset/web", "--replicas=1")
    wait_for(lambda: [pod["metadata"]["name"] for pod in pods(kube, namespace)] == ["web-0"], "only the first pod is left")
    assert len(read(kube, namespace, "pvc")["items"]) == 3


def test_a_job_completes_and_a_failing_one_fails(kube: Kubectl, namespace: str) -> None:
    def job(name: str, command: str) -> Object:
        container = {"name": "c", "image": "busybox", "command": ["sh", "-c", command]}
        spec = {
            "completions": 3,
            "parallelism": 3,
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    apply(kube, namespace, job("good", "echo done"), job("bad", "exit 3"))
    kube("-n", namespace, "wait", "--for=condition=Complete", "job/good", "--timeout=30s")
    kube("-n", namespace, "wait", "--for=condition=Failed", "job/bad", "--timeout=30s")
    assert read(kube, namespace, "job", "good")["status"]["succeeded"] == 3
    kube("-n", namespace, "delete", "job", "good", "bad", "--timeout=30s")
    wait_for(lambda: not pods(kube, namespace), "the pods are gone too")


def test_a_daemon_set_has_a_pod_on_every_node(kube: Kubectl, namespace: str) -> None:
    apply(kube, namespace, workload("DaemonSet"))
    kube("-n", namespace, "rollout", "status", "daemonset/web", "--timeout=30s")
    nodes = {node["metadata"]["name"] for node in read(kube, namespace, "nodes")["items"]}
    assert {pod["spec"]["nodeName"] for pod in pods(kube, namespace)} == nodes


def test_a_service_knows_its_ready_pods(kube: Kubectl, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    apply(kube, namespace, workload("Deployment", replicas=3), service)

    def addresses() -> set[str]:
        slices = read(kube, namespace, "endpointslices")["items"]
        return {endpoint["addresses"][0] for s in slices for endpoint in s["endpoints"] or () if endpoint["conditions"]["ready"]}

    wait_for(lambda: len(addresses()) == 3, "three endpoints are ready")
    assert addresses() == {pod["status"]["podIP"] for pod in pods(kube, namespace)}
    subset = read(kube, namespace, "endpoints", "web")["subsets"][0]
    assert {address["ip"] for address in subset["addresses"]} == addresses()
    kube("-n", namespace, "scale", "deployment/web", "--replicas=0")
    wait_for(lambda: not addresses(), "no endpoint is left")


def test_a_namespace_is_emptied_before_it_goes(kube: Kubectl, namespace: str) -> None:
    own = f"{namespace}-own"
    kube("create", "namespace", own)
    apply(kube, own, workload("Deployment", replicas=2), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    kube("-n", own, "rollout", "status", "deployment/web", "--timeout=30s")
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    apply(kube, own, held)
    kube("delete", "namespace", own, "--wait=false")

    def blocked_by() -> str:
        conditions = read(kube, own, "namespace", own)["status"].get("conditions") or []
        return "".join(c["message"] for c in conditions if c["type"] == "NamespaceFinalizersRemaining")

    wait_for(lambda: "example.com/hold in 1 resource instances" in blocked_by(), "the namespace tells what holds it")
    assert not pods(kube, own)
    kube("-n", own, "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    wait_for(lambda: not exists(kube, "default", "namespace", own), "the namespace is gone")


def test_every_namespace_has_its_account_and_root_ca(kube: Kubectl, namespace: str) -> None:
    wait_for(lambda: exists(kube, namespace, "serviceaccount", "default"), "the account is there")
    wait_for(lambda: exists(kube, namespace, "configmap", "kube-root-ca.crt"), "the root CA is there")
    assert read(kube, namespace, "configmap", "kube-root-ca.crt")["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")


def test_a_budget_refuses_the_eviction_it_cannot_afford(kube: Kubectl, namespace: str) -> None:
    selector = {"selector": {"matchLabels": {"app": "web"}}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {"minAvailable": 2, **selector}}
    apply(kube, namespace, workload("Deployment", replicas=2), budget)
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    wait_for(lambda: read(kube, namespace, "pdb", "b").get("status", {}).get("currentHealthy") == 2, "the budget has counted")
    name = pods(kube, namespace)[0]["metadata"]["name"]
    eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}})
    refused = kube("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", "-f", "-", stdin=eviction, check=False)
    assert "Cannot evict pod as it would violate the pod's disruption budget" in refused.stderr
    kube("-n", namespace, "scale", "deployment/web", "--replicas=3")
    wait_for(lambda: read(kube, namespace, "pdb", "b")["status"]["disruptionsAllowed"] == 1, "one may go")
    kube("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", "-f", "-", stdin=eviction)
    wait_for(lambda: not exists(kube, namespace, "pod", name), "the pod is gone")


def test_a_no_execute_taint_empties_a_node(kube: Kubectl, namespace: str) -> None:
    apply(kube, namespace, workload("Deployment", replicas=2))
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    node = pods(kube, namespace)[0]["spec"]["nodeName"]
    kube("taint", "node", node, "broken=yes:NoExecute")
    try:
        wait_for(
            lambda: (
                {pod["spec"].get("nodeName") for pod in pods(kube, namespace)} not in ({node}, set())
                and all(pod["spec"].get("nodeName") != node for pod in pods(kube, namespace))
            ),
            "all pods are elsewhere",
        )
    finally:
        kube("taint", "node", node, "broken-")


def test_a_rolling_update_under_requests_loses_none(kube: Kubectl, namespace: str) -> None:
    container = {"name": "c", "image": "nginx:1", "ports": [{"containerPort": 8080}]}
    body = workload("Deployment", replicas=20)
    body["spec"]["template"]["spec"]["containers"] = [container]
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
    }  # fmt: skip
    apply(kube, namespace, body, service)
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    url = f"http://{read(kube, namespace, 'service', 'web')['spec']['clusterIP']}:8080/"
    wait_for(lambda: _answers(url), "the Service answers")
    asked, failed, stop = 0, list[str](), threading.Event()

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            asked += 1
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    response.read()
            except OSError as error:
                failed.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        kube("-n", namespace, "set", "image", "deployment/web", "c=nginx:2")
        kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
        wait_for(lambda: images(kube, namespace) == {"nginx:2"}, "only new pods are left", 60)
    finally:
        stop.set()
        asking.join()
    assert asked > 20
    assert failed == []


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _parallel_set() -> Object:
    body = workload("StatefulSet", "set", podManagementPolicy="Parallel", replicas=5, serviceName="set")
    body["spec"]["selector"] = {"matchLabels": {"app": "set"}}
    body["spec"]["template"]["metadata"]["labels"] = {"app": "set"}
    return body


def test_a_controller_killed_in_the_middle_makes_no_pod_twice(cluster: RunningCluster, kube: Kubectl, namespace: str) -> None:
    apply(kube, namespace, workload("Deployment", replicas=40), _parallel_set())
    for _ in range(3):
        before = len(pods(kube, namespace))
        cluster.request("kill", "controller")
        wait_for(lambda before=before: len(pods(kube, namespace)) > before or before >= 45, "work goes on")  # type: ignore[misc]
    kube("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    kube("-n", namespace, "rollout", "status", "statefulset/set", "--timeout=60s")
    wait_for(lambda: len(pods(kube, namespace)) == 45, "as many pods as asked for")
    assert len(read(kube, namespace, "replicasets")["items"]) == 1

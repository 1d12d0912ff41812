"""The client libraries of the Python world, unchanged, against a real cluster."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.process,
    # what the libraries leave open, and what they think of the version, is theirs
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Kubernetes version"),
]

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "nginx:1.27", "ports": [{"containerPort": 8080}]}]},
        },
    },
}  # fmt: skip
WAIT_SECONDS = 30


@pytest.fixture
def namespace(cluster) -> str:
    """A namespace of the test's own."""
    name = f"clients-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    return name


@pytest.fixture(autouse=True)
def collect_their_garbage() -> Iterator[None]:
    """What a library forgot to close complains when it is collected: here, not in somebody else's test."""
    yield
    gc.collect()


def test_the_official_client_creates_watches_and_deletes(cluster, namespace: str) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    api_client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
    apps, core = kubernetes.client.AppsV1Api(api_client), kubernetes.client.CoreV1Api(api_client)
    apps.create_namespaced_deployment(namespace, DEPLOYMENT)
    watch = kubernetes.watch.Watch()
    for event in watch.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=WAIT_SECONDS):
        if event["object"].status.ready_replicas == 2:
            watch.stop()
    pods = core.list_namespaced_pod(namespace, label_selector="app=web").items
    assert [pod.status.phase for pod in pods] == ["Running", "Running"]
    assert all(condition.status == "True" for pod in pods for condition in pod.status.conditions)
    answer = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec, pods[0].metadata.name, namespace, command=["sh", "-c", "echo hello from $HOSTNAME"],
        stdout=True, stderr=True, stdin=False, tty=False,
    )  # fmt: skip
    assert answer.strip() == f"hello from {pods[0].metadata.name}"
    apps.delete_namespaced_deployment("web", namespace, propagation_policy="Foreground")
    api_client.close()


def test_the_official_dynamic_client_applies_server_side(cluster, namespace: str) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    api_client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
    configmaps = kubernetes.dynamic.DynamicClient(api_client).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    configmaps.server_side_apply(body=body, namespace=namespace, field_manager="one")
    with pytest.raises(kubernetes.client.exceptions.ApiException) as conflict:
        configmaps.server_side_apply(body={**body, "data": {"a": "2"}}, namespace=namespace, field_manager="two")
    assert conflict.value.status == 409
    forced = configmaps.server_side_apply(body={**body, "data": {"a": "2"}}, namespace=namespace, field_manager="two", force_conflicts=True)
    assert forced.data.a == "2"
    api_client.close()


def test_kubernetes_asyncio_lists_and_patches(cluster, namespace: str) -> None:
    kubernetes_asyncio = pytest.importorskip("kubernetes_asyncio")

    async def scenario() -> None:
        api_client = await kubernetes_asyncio.config.new_client_from_config(str(cluster.kubeconfig))
        async with api_client:
            core = kubernetes_asyncio.client.CoreV1Api(api_client)
            await core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}, "data": {"a": "1"}})
            await core.patch_namespaced_config_map("c", namespace, {"data": {"b": "2"}})
            found = await core.read_namespaced_config_map("c", namespace)
            assert found.data == {"a": "1", "b": "2"}

    asyncio.run(scenario())


def test_kr8s_scales_and_waits(cluster, namespace: str) -> None:
    kr8s = pytest.importorskip("kr8s")
    api = kr8s.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace)
    deployment = kr8s.objects.Deployment({**DEPLOYMENT, "metadata": {"name": "web", "namespace": namespace}}, api=api)
    deployment.create()
    deployment.wait("condition=Available", timeout=WAIT_SECONDS)
    deployment.scale(3)
    deployment.wait("jsonpath='{.status.readyReplicas}'=3", timeout=WAIT_SECONDS)
    pods = list(kr8s.get("pods", namespace=namespace, api=api))
    assert len(pods) == 3
    assert pods[0].exec(["echo", "hi"]).stdout.decode().strip() == "hi"


def test_lightkube_applies_and_waits(cluster, namespace: str) -> None:
    lightkube = pytest.importorskip("lightkube")
    from lightkube.resources.apps_v1 import Deployment

    config = lightkube.KubeConfig.from_file(str(cluster.kubeconfig))
    client = lightkube.Client(config=config, namespace=namespace, field_manager="lightkube-test")
    client.apply(Deployment.from_dict(DEPLOYMENT))
    ready = client.wait(Deployment, "web", for_conditions=["Available"])
    assert ready.status.availableReplicas == 2
    client.delete(Deployment, "web")


OPERATOR = '''
import kopf

@kopf.on.create("configmaps", labels={"kopf-test": "yes"})
def created(name, namespace, patch, **_):
    patch.metadata.annotations["handled-by"] = "kopf"

@kopf.on.delete("configmaps", labels={"kopf-test": "yes"})
def deleted(**_):
    pass
'''


def test_a_kopf_operator_handles_creation_and_deletion_with_its_finalizer(cluster, namespace: str, tmp_path: Path) -> None:
    pytest.importorskip("kopf")
    operator = tmp_path / "operator.py"
    operator.write_text(OPERATOR)
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", namespace, str(operator)]
    process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}, stderr=subprocess.DEVNULL)
    try:
        cluster.kubectl("-n", namespace, "create", "configmap", "c")
        cluster.kubectl("-n", namespace, "label", "configmap", "c", "kopf-test=yes")
        done = "jsonpath={.metadata.annotations.handled-by}=kopf"
        cluster.kubectl("-n", namespace, "wait", f"--for={done}", "configmap/c", f"--timeout={WAIT_SECONDS}s")
        finalizers = cluster.kubectl("-n", namespace, "get", "configmap", "c", "-o", "jsonpath={.metadata.finalizers}")
        assert "kopf" in finalizers
        cluster.kubectl("-n", namespace, "delete", "configmap", "c", f"--timeout={WAIT_SECONDS}s")
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


IN_CLUSTER = """
import sys, kubernetes
from kubernetes.config.incluster_config import InClusterConfigLoader
folder, host, port, namespace = sys.argv[1:]
environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
InClusterConfigLoader(folder + "/token", folder + "/ca.crt", environ=environ).load_and_set()
core = kubernetes.client.CoreV1Api()
print([pod.metadata.name for pod in core.list_namespaced_pod(namespace).items])
try:
    core.list_namespaced_secret(namespace)
except kubernetes.client.exceptions.ApiException as error:
    print(error.status)
"""


def test_the_official_client_in_a_pod_may_do_what_its_account_may(cluster, namespace: str, tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    cluster.kubectl("-n", namespace, "create", "rolebinding", "viewer", "--clusterrole=view", f"--serviceaccount={namespace}:default")
    (tmp_path / "token").write_text(cluster.kubectl("-n", namespace, "create", "token", "default"))
    (tmp_path / "ca.crt").write_bytes((cluster.paths.pki / "ca.crt").read_bytes())
    command = [sys.executable, "-W", "ignore", "-c", IN_CLUSTER, str(tmp_path), "127.0.0.1", str(cluster.spec.port), namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["[]", "403"], done.stderr

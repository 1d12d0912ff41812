"""A kubelet that hosts one node, with the identity of that node: the Node authorizer lets it do its work and no more."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kubecosm.cluster import kubeconfig, pki
from kubecosm.runtime.clock import RealClock
from tests.conftest import wait_for

pytestmark = pytest.mark.process
NODE = "solo"


@pytest.fixture(scope="module")
def own_config(cluster) -> str:
    """The kubeconfig of the node's kubelet."""
    pki.ensure(cluster.paths, cluster.spec, RealClock(), (NODE,))
    kubeconfig.write_all(cluster.paths, cluster.spec, nodes=(NODE,))
    return str(cluster.paths.component_kubeconfig(f"kubelet-{NODE}"))


@pytest.fixture(scope="module")
def kubelet(cluster, own_config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its log file, while it runs."""
    paths, spec, folder = cluster.paths, cluster.spec, tmp_path_factory.mktemp("solo")
    flags = {
        "kubeconfig": own_config, "nodes": "1", "hostname-override": NODE, "first-node": "20", "node-cidr": str(spec.slots.nodes),
        "cluster-cidr": str(spec.slots.pods), "cluster-dns": str(spec.slots.dns_service_ip), "root-dir": str(folder),
        "tls-cert-file": str(paths.cert(pki.KUBELET)), "tls-private-key-file": str(paths.key(pki.KUBELET)),
        "client-ca-file": str(paths.cert(pki.CA)),
    }  # fmt: skip
    log = folder / "kubelet.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "kubecosm.services.kubelet", *(f"--{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        cluster.kubectl("wait", "--for=create", f"node/{NODE}", "--timeout=30s")
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=30s")
        yield str(log)
    finally:
        process.terminate()
        process.wait(20)
        cluster.kubectl("delete", "node", NODE)


def pod(name: str) -> Any:
    containers = [{
        "name": "main", "image": "busybox", "command": ["sleep", "3600"],
        "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "word"}}}],
        "volumeMounts": [{"name": "s", "mountPath": "/secret"}],
    }]  # fmt: skip
    spec = {"nodeName": NODE, "containers": containers, "volumes": [{"name": "s", "secret": {"secretName": "mine"}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_its_pods_run_with_their_secrets_and_see_them_change(cluster, namespace: str, kubelet: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod("p")))
    cluster.kubectl("-n", namespace, "create", "secret", "generic", "mine", "--from-literal=word=hello")
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=30s")

    def read(*command: str) -> str:
        text: str = cluster.kubectl("-n", namespace, "exec", "p", "--", *command)
        return text.strip()

    assert (read("sh", "-c", "echo $WORD"), read("cat", "/secret/word")) == ("hello", "hello")
    assert len(read("cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").split(".")) == 3
    changed = base64.b64encode(b"bye").decode()
    cluster.kubectl("-n", namespace, "patch", "secret", "mine", "-p", json.dumps({"data": {"word": changed}}))
    wait_for(lambda: read("cat", "/secret/word") == "bye", "the volume shows the new secret")
    cluster.kubectl("-n", namespace, "delete", "pod", "p", "--now")
    with open(kubelet) as log:
        assert "forbidden" not in log.read()


def test_it_may_read_no_other_secret_and_no_other_node(cluster, namespace: str, own_config: str) -> None:
    cluster.kubectl("-n", namespace, "create", "secret", "generic", "theirs", "--from-literal=a=b")
    done = cluster.run_kubectl("-n", namespace, f"--kubeconfig={own_config}", "get", "secret", "theirs")
    who = f'User "system:node:solo" cannot get resource "secrets" in API group "" in the namespace "{namespace}"'
    why = "no relationship found between node 'solo' and this object"
    assert done.stderr.strip() == f'Error from server (Forbidden): secrets "theirs" is forbidden: {who}: {why}'
    done = cluster.run_kubectl(f"--kubeconfig={own_config}", "get", "node", "node-0")
    assert "node 'solo' cannot read 'node-0', only its own Node object" in done.stderr

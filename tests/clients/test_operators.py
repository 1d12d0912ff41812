"""A real operator with kopf: retries, timers, daemons, sub-resources, its own admission webhook, and what it leaves when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process
SECONDS_MAX = 30

OPERATOR = '''
import asyncio, kopf

@kopf.on.startup()
def configure(settings, **_):
    settings.persistence.finalizer = "operator.example/guard"
    settings.posting.enabled = True
    settings.watching.reconnect_backoff = 0.1

@kopf.on.create("GROUP", "v1", "sites", retries=5, backoff=0.2)
def created(name, namespace, spec, patch, retry, body, **_):
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.2)
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-child"}, "data": {"pages": str(spec["pages"])}}
    kopf.adopt(child)
    from kubernetes import client, config
    config.load_kube_config()
    client.CoreV1Api().create_namespaced_config_map(namespace, child)
    patch.status["retries"] = retry
    kopf.info(body, reason="Built", message="all pages")

@kopf.on.create("GROUP", "v1", "sites", field="spec.forbidden", value=True)
def refused(**_):
    raise kopf.PermanentError("never")

@kopf.on.field("GROUP", "v1", "sites", field="spec.pages")
def pages_changed(old, new, patch, **_):
    patch.status["pages"] = f"{old} to {new}"

@kopf.timer("GROUP", "v1", "sites", interval=0.3)
def tick(patch, status, **_):
    patch.status["ticks"] = min(3, status.get("ticks", 0) + 1)

@kopf.daemon("GROUP", "v1", "sites", cancellation_timeout=1)
async def follow(name, stopped, **_):
    print(f"following {name}", flush=True)
    await stopped.wait()
    print(f"leaving {name}", flush=True)

@kopf.on.delete("GROUP", "v1", "sites")
def deleted(name, namespace, **_):
    print(f"deleted {name}", flush=True)
'''

WEBHOOKS = '''
import kopf

@kopf.on.startup()
def configure(settings, **_):
    settings.admission.server = kopf.WebhookServer(certfile="CERT", pkeyfile="KEY", host="127.0.0.1", cadata=open("CERT", "rb").read())
    settings.admission.managed = "GROUP"

@kopf.on.validate("GROUP", "v1", "sites")
def few_pages(spec, warnings, **_):
    warnings.append("pages are counted")
    if spec.get("pages", 0) > 100:
        raise kopf.AdmissionError("too many pages", code=429)

@kopf.on.mutate("GROUP", "v1", "sites")
def default_title(spec, patch, **_):
    if "title" not in spec:
        patch.spec["title"] = "untitled"
'''


class Sites:
    """A custom resource of the test's own."""

    def __init__(self, cluster: ClusterUnderTest, namespace: str) -> None:
        self.cluster, self.namespace, self.group = cluster, namespace, f"{namespace}.example"

    def __call__(self, *arguments: str, stdin: Any = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=json.dumps(stdin) if stdin else "")

    def create(self, name: str, **spec: Any) -> subprocess.CompletedProcess[str]:
        meta = {"generateName" if name.endswith("-") else "name": name}
        site = {"apiVersion": f"{self.group}/v1", "kind": "Site", "metadata": meta, "spec": spec}
        return self.cluster.run_kubectl("-n", self.namespace, "create", "-f", "-", stdin=json.dumps(site))

    def get(self, name: str) -> Any:
        return json.loads(self("get", f"sites.{self.group}", name, "-o", "json"))

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get(name).get("status") or {}
        return status


@pytest.fixture
def sites(cluster: ClusterUnderTest, namespace: str) -> Iterator[Sites]:
    pytest.importorskip("kopf")
    sites = Sites(cluster, namespace)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    sites("create", "-f", "-", stdin={
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"sites.{sites.group}"},
        "spec": {"group": sites.group, "scope": "Namespaced", "names": {"plural": "sites", "kind": "Site"}, "versions": [version]},
    })  # fmt: skip
    yield sites
    kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    sites("delete", kinds, sites.group, "--ignore-not-found")
    sites("delete", f"crd/sites.{sites.group}", "--wait=false")


@contextmanager
def operating(sites: Sites, folder: Path, source: str) -> Iterator[subprocess.Popen[bytes]]:
    """The operator as a process; its output is in `folder/log`."""
    script = folder / "operator.py"
    script.write_text(source.replace("GROUP", sites.group))
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", sites.namespace, str(script)]
    environ = os.environ | {"KUBECONFIG": str(sites.cluster.kubeconfig), "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("ab") as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_an_operator_retries_follows_times_and_cleans_up(sites: Sites, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with operating(sites, tmp_path, OPERATOR) as operator:
        assert sites.create("one", pages=2).returncode == 0
        wait_for(lambda: sites.status("one").get("retries") == 2, "created after two retries", SECONDS_MAX)
        wait_for(lambda: sites.status("one").get("ticks") == 3, "the timer ticks", SECONDS_MAX)
        wait_for(lambda: "following one" in log.read_text(), "the daemon runs", SECONDS_MAX)
        assert sites.get("one")["metadata"]["finalizers"] == ["operator.example/guard"]
        child = json.loads(sites("get", "configmap", "one-child", "-o", "json"))
        assert child["metadata"]["ownerReferences"][0]["kind"] == "Site"
        wait_for(lambda: "all pages" in sites("get", "events"), "the operator's event is there", SECONDS_MAX)
        sites.create("refused", pages=1, forbidden=True)
        wait_for(lambda: "failed permanently: never" in log.read_text(), "a permanent error is not retried", SECONDS_MAX)
        sites("patch", f"sites.{sites.group}", "one", "--type=merge", "-p", '{"spec": {"pages": 5}}')
        wait_for(lambda: sites.status("one").get("pages") == "2 to 5", "the change of one field is told", SECONDS_MAX)
        operator.send_signal(signal.SIGKILL)
        operator.wait()
        sites("delete", f"sites.{sites.group}", "one", "--wait=false")
        assert "deletionTimestamp" in sites.get("one")["metadata"]
    with operating(sites, tmp_path, OPERATOR):
        wait_for(lambda: "deleted one" in log.read_text(), "the operator that came back has cleaned up")
        sites("wait", "--for=delete", f"sites.{sites.group}/one", f"--timeout={SECONDS_MAX}s")
        sites("wait", "--for=delete", "configmap/one-child", f"--timeout={SECONDS_MAX}s")
        sites("delete", f"sites.{sites.group}", "--all", f"--timeout={SECONDS_MAX}s")
    assert "leaving refused" in log.read_text()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate of its own for 127.0.0.1: (path of it, path of its key)."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (folder / "tls.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(key.private_bytes(*form))
    return str(folder / "tls.crt"), str(folder / "tls.key")


def test_an_operator_brings_its_own_admission_webhooks(sites: Sites, tmp_path: Path) -> None:
    path, key = certificate(tmp_path)
    with operating(sites, tmp_path, WEBHOOKS.replace("CERT", path).replace("KEY", key)):
        wait_for(lambda: "pages are counted" in sites.create("probe-", pages=1).stderr, "the webhook answers", SECONDS_MAX)
        made = sites.create("good", pages=3)
        assert (made.returncode, made.stderr.strip()) == (0, "Warning: pages are counted")
        assert sites.get("good")["spec"] == {"pages": 3, "title": "untitled"}
        refused = sites.create("bad", pages=1000)
        assert "too many pages" in refused.stderr
        assert "denied the request" in refused.stderr

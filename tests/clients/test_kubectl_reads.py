"""kubectl tells what is there: explain, get in all forms, watches, describe of every kind, events, dumps, proxies."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for

from .conftest import Kubectl

pytestmark = pytest.mark.process


@pytest.fixture
def gizmos(cluster, namespace: str) -> Iterator[str]:
    """A custom resource of the test's own; gives its group."""
    group = f"{namespace}.example"
    spec = {"n": {"type": "integer", "description": "How many are wanted."}}
    schema = {"type": "object", "description": "A gizmo.", "properties": {"spec": {"type": "object", "properties": spec}}}
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
        "additionalPrinterColumns": [{"name": "Wanted", "type": "integer", "jsonPath": ".spec.n"}],
    }  # fmt: skip
    crd: dict[str, Any] = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"gizmos.{group}"},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": [version],
            "names": {"plural": "gizmos", "kind": "Gizmo", "shortNames": ["gz"]},
        },
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/gizmos.{group}")
    yield group
    cluster.kubectl("delete", f"crd/gizmos.{group}")


def test_explain_describes_fields(each_kubectl: Kubectl) -> None:
    text = each_kubectl("explain", "pod.spec.containers.image")
    assert "image <string>" in text
    assert "Container image name." in text
    recursive = each_kubectl("explain", "deployments", "--recursive")
    assert re.search(r"^ +maxUnavailable\t<IntOrString>$", recursive, re.MULTILINE)
    older = each_kubectl("explain", "deployment.spec.replicas", "--api-version=apps/v1", "--output=plaintext-openapiv2")
    assert "replicas <integer>" in older


def test_explain_describes_custom_resources(each_kubectl: Kubectl, gizmos: str) -> None:
    text = each_kubectl("explain", "gizmos", f"--api-version={gizmos}/v1")
    assert f"GROUP:      {gizmos}" in text
    assert "A gizmo." in text
    assert "How many are wanted." in each_kubectl("explain", "gizmos.spec.n", f"--api-version={gizmos}/v1")


def test_custom_resources_are_listed_scaled_and_found_by_their_short_name(each_kubectl: Kubectl, gizmos: str) -> None:
    kubectl = each_kubectl
    kubectl("create", "-f", "-", stdin={"apiVersion": f"{gizmos}/v1", "kind": "Gizmo", "metadata": {"name": "g"}, "spec": {"n": 2}})
    kubectl("scale", f"gizmos.{gizmos}/g", "--replicas=4")
    assert kubectl("get", "gz", "g").split() == ["NAME", "WANTED", "g", "4"]
    assert "gizmos" in kubectl("api-resources", f"--api-group={gizmos}", "-o", "name")
    assert f"{gizmos}/v1" in kubectl("api-versions").split()
    wrong = {"apiVersion": f"{gizmos}/v1", "kind": "Gizmo", "metadata": {"name": "h"}, "spec": {"n": "many"}}
    assert 'spec.n in body must be of type integer: "string"' in kubectl.refused("create", "-f", "-", stdin=wrong)


def test_get_shows_objects_in_every_form(kubectl: Kubectl) -> None:
    for name in ("b", "a", "c"):
        kubectl("create", "configmap", name, f"--from-literal=k={name}")
    kubectl("label", "configmap/b", "tier=back")
    ours = "--field-selector=metadata.name!=kube-root-ca.crt"
    assert kubectl("get", "configmaps", ours, "--sort-by={.data.k}", "-o", "name").split() == [f"configmap/{name}" for name in "abc"]
    columns = ("--no-headers", "-o", "custom-columns=N:.metadata.name,K:.data.k")
    assert kubectl("get", "configmaps", ours, "--chunk-size=1", *columns).split() == list("aabbcc")
    assert kubectl("get", "configmaps", "-l", "tier in (back)", "-L", "tier").split()[-1] == "back"
    assert "tier=back" in kubectl("get", "configmap", "b", "--show-labels")
    assert kubectl("get", "configmap", "b", "-o", "go-template={{.data.k}}") == "b"
    assert "managedFields" not in kubectl("get", "configmap", "b", "-o", "yaml")
    assert "managedFields" in kubectl("get", "configmap", "b", "-o", "yaml", "--show-managed-fields")
    both = kubectl.run("get", "configmap", "a", "nope", "-o", "name")
    assert (both.stdout.strip(), both.returncode) == ("configmap/a", 1)
    assert both.stderr.strip() == 'Error from server (NotFound): configmaps "nope" not found'
    assert kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/configmaps/a").startswith('{"kind":"ConfigMap"')
    assert "[+]ping ok" in kubectl("get", "--raw", "/readyz?verbose")


def test_subresources_are_shown(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    shown = kubectl("get", "deployment/web", "--subresource=scale").split()
    assert shown[:7] == ["NAME", "DESIRED", "AVAILABLE", "AGE", "web", "2", "2"]
    assert kubectl("get", "deployment/web", "--subresource=status", "-o", "jsonpath={.status.readyReplicas}") == "2"


def test_a_watch_shows_what_happens_from_now_on(old_and_new_kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl = old_and_new_kubectl
    kubectl("create", "configmap", "before")
    seen = tmp_path / "seen"
    with seen.open("w") as target, subprocess.Popen([*kubectl.command, *WATCH], stdout=target) as watch:
        numbers = iter(range(1000))
        # what happens before the watch has begun is not shown: change until it is
        wait_for(lambda: _changed(kubectl, next(numbers)) and "MODIFIED" in seen.read_text(), "the watch tells")
        kubectl("delete", "configmap", "before")
        wait_for(lambda: "DELETED" in seen.read_text(), "the watch tells of the end")
        watch.terminate()
    assert "ADDED" not in seen.read_text()


WATCH = ("get", "configmaps", "--watch-only", "--output-watch-events", "--field-selector=metadata.name=before")


def _changed(kubectl: Kubectl, number: int) -> bool:
    return bool(kubectl("annotate", "configmap/before", f"n={number}", "--overwrite"))


def test_every_kind_can_be_listed_and_described(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=nginx")
    kubectl("expose", "deployment/web", "--port=80")
    kubectl("create", "ingress", "i", "--rule=a.example/=web:80")
    kubectl("autoscale", "deployment", "web", "--max=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    namespaced = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    cluster_wide = kubectl("api-resources", "--verbs=list", "--namespaced=false", "-o", "name").split()
    done = kubectl.run("get", ",".join(namespaced), "--ignore-not-found")
    described = [kubectl.run("describe", ",".join(kinds)) for kinds in (namespaced, cluster_wide)]
    for one in (done, *described):
        complaints = [line for line in one.stderr.splitlines() if not re.match(r"Warning: v1 \w+ is deprecated in ", line)]
        assert (one.returncode, complaints) == (0, [])
    for words in ("Replicas:", "ScalingReplicaSet", "Rules:", "Metrics:", "kube-api-access", "QoS Class:"):
        assert words in described[0].stdout
    for words in ("Allocatable:", "PodCIDR:", "PolicyRule:", "Provisioner:"):
        assert words in described[1].stdout


def test_events_are_those_of_the_object(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=bad.invalid/x")
    wait_for(lambda: "Failed" in kubectl("events", "--types=Warning"), "the image cannot be pulled")
    lines = kubectl("events", "--for=deployment/web", "--no-headers").splitlines()
    assert all("Deployment/web" in line and "ScalingReplicaSet" in line for line in lines)


def test_the_cluster_can_be_dumped(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("run", "p", "--image=busybox", "--restart=Never", "--", "sh", "-c", "echo of the dump")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", "--timeout=30s")
    kubectl("cluster-info", "dump", f"--namespaces={kubectl.namespace}", f"--output-directory={tmp_path}/dump")
    folder = tmp_path / "dump" / kubectl.namespace
    assert "of the dump" in (folder / "p" / "logs.txt").read_text()
    assert [pod["metadata"]["name"] for pod in json.loads((folder / "pods.json").read_text())["items"]] == ["p"]


@contextmanager
def proxied(kubectl: Kubectl) -> Iterator[str]:
    with subprocess.Popen([*kubectl.command, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://{process.stdout.readline().split()[-1]}/api/v1/namespaces/{kubectl.namespace}"
        finally:
            process.terminate()


def test_a_proxy_reaches_pods_and_services(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("run", "web", "--image=nginx", "--port=80", "--expose")
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    with proxied(kubectl) as url:
        for path in ("services/web:80/proxy/", "pods/web/proxy/"):
            with urllib.request.urlopen(f"{url}/{path}") as answer:
                assert b"Welcome to nginx!" in answer.read()

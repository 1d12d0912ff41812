"""Namespaces: their life, and the order in which their content goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.wire import APPLY, MERGE, Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

NAMESPACES = "/api/v1/namespaces"
CONTAINERS = [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]


@pytest.fixture
def name(wire: Wire) -> Iterator[str]:
    """A namespace that the test may do away with."""
    made = wire.create(NAMESPACES, {"metadata": {"generateName": "nsdelete-"}})["metadata"]["name"]
    yield made
    if wire.exists(f"{NAMESPACES}/{made}"):
        wire.delete(f"{NAMESPACES}/{made}")


def create_pod(wire: Wire, namespace: str, **metadata: Any) -> None:
    account = f"{NAMESPACES}/{namespace}/serviceaccounts/default"
    wait_for(lambda: wire.exists(account), "the namespace has its default account")
    wire.create(f"{NAMESPACES}/{namespace}/pods", {"metadata": {"name": "pod", **metadata}, "spec": {"containers": CONTAINERS}})


def delete_and_wait(wire: Wire, name: str) -> None:
    wire.delete(f"{NAMESPACES}/{name}")
    wait_for(lambda: not wire.exists(f"{NAMESPACES}/{name}"), "the namespace is gone")


@promise("Namespaces should ensure that all pods are removed when a namespace is deleted")
def test_pods_go_with_their_namespace(wire: Wire, name: str) -> None:
    create_pod(wire, name)
    delete_and_wait(wire, name)
    wire.create(NAMESPACES, {"metadata": {"name": name}})
    assert wire.get(f"{NAMESPACES}/{name}/pods")["items"] == []


@promise("Namespaces should ensure that all services are removed when a namespace is deleted")
def test_services_go_with_their_namespace(wire: Wire, name: str) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    wire.create(f"{NAMESPACES}/{name}/services", {"metadata": {"name": "web"}, "spec": spec})
    delete_and_wait(wire, name)
    wire.create(NAMESPACES, {"metadata": {"name": name}})
    assert wire.get(f"{NAMESPACES}/{name}/services")["items"] == []


@promise("Namespaces should patch a Namespace")
def test_a_namespace_can_be_patched(wire: Wire, name: str) -> None:
    patched = wire.patch(f"{NAMESPACES}/{name}", {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert patched["metadata"]["labels"] == {"kubernetes.io/metadata.name": name, "testLabel": "testValue"}


@promise("Namespaces should apply changes to a namespace status")
def test_the_status_of_a_namespace_can_be_patched_and_updated(wire: Wire, name: str) -> None:
    path = f"{NAMESPACES}/{name}/status"
    assert wire.get(path)["status"] == {"phase": "Active"}
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"}
    patched = wire.patch(path, {"metadata": {"annotations": {"patched": "yes"}}, "status": {"conditions": [condition]}})
    assert [c["type"] for c in patched["status"]["conditions"]] == ["StatusPatch"]
    updated = dict(patched)
    updated["status"] = patched["status"] | {"conditions": [{**condition, "type": "StatusUpdate", "message": "Updated by an e2e test"}]}
    assert [c["type"] for c in wire.put(path, updated)["status"]["conditions"]] == ["StatusUpdate"]


@promise("Namespaces should apply an update to a Namespace")
def test_a_namespace_can_be_updated(wire: Wire, name: str) -> None:
    namespace = wire.get(f"{NAMESPACES}/{name}")
    namespace["metadata"]["labels"]["e2e"] = "updated"
    assert wire.put(f"{NAMESPACES}/{name}", namespace)["metadata"]["labels"]["e2e"] == "updated"


@promise("Namespaces should apply a finalizer to a Namespace")
def test_a_namespace_takes_finalizers_of_others_by_its_finalize_subresource(wire: Wire, name: str) -> None:
    path, fake = f"{NAMESPACES}/{name}/finalize", "e2e.example.com/fake-finalizer"
    namespace = wire.get(f"{NAMESPACES}/{name}")
    namespace["spec"]["finalizers"].append(fake)
    assert wire.put(path, namespace)["spec"]["finalizers"] == ["kubernetes", fake]
    namespace = wire.get(f"{NAMESPACES}/{name}")
    namespace["spec"]["finalizers"].remove(fake)
    assert wire.put(path, namespace)["spec"]["finalizers"] == ["kubernetes"]


@promise("OrderedNamespaceDeletion namespace deletion should delete pod first")
def test_pods_are_deleted_before_everything_else(wire: Wire, name: str) -> None:
    """A pod that is held by a finalizer keeps the ConfigMap of its namespace from being touched."""
    pod, config_map = f"{NAMESPACES}/{name}/pods/pod", f"{NAMESPACES}/{name}/configmaps/held"
    create_pod(wire, name, finalizers=["e2e.example.com/finalizer"])
    wire.create(f"{NAMESPACES}/{name}/configmaps", {"metadata": {"name": "held"}})
    wire.delete(f"{NAMESPACES}/{name}")
    wait_for(lambda: wire.get(pod)["metadata"].get("deletionTimestamp"), "the pod is asked to go")

    def blocked() -> bool:
        conditions = {c["type"]: c for c in wire.get(f"{NAMESPACES}/{name}")["status"].get("conditions", ())}
        remaining = conditions.get("NamespaceFinalizersRemaining", {})
        return remaining.get("status") == "True" and "e2e.example.com/finalizer" in remaining.get("message", "")

    wait_for(blocked, "the namespace says what holds it")
    assert "deletionTimestamp" not in wire.get(config_map)["metadata"]
    wire.patch(pod, {"metadata": {"finalizers": None}}, MERGE)
    wait_for(lambda: not wire.exists(f"{NAMESPACES}/{name}"), "the namespace is gone")


def test_nothing_can_be_created_in_a_namespace_that_goes(wire: Wire, name: str) -> None:
    create_pod(wire, name, finalizers=["e2e.example.com/finalizer"])
    wire.delete(f"{NAMESPACES}/{name}")
    refused = wire.send("POST", f"{NAMESPACES}/{name}/configmaps", {"metadata": {"name": "late"}})
    assert refused.status == 403
    assert refused.json["message"] == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {name} because it is being terminated'
    )
    assert refused.json["details"]["causes"] == [
        {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated", "field": "metadata.namespace"}
    ]
    wire.patch(f"{NAMESPACES}/{name}/pods/pod", {"metadata": {"finalizers": None}})


def test_a_namespace_can_be_applied(wire: Wire, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"a": "b"}}}
    applied = wire.patch(f"{NAMESPACES}/{name}", body, APPLY, fieldManager="test")
    assert applied["metadata"]["labels"]["a"] == "b"

"""Discovery: what the server says it serves, group by group and all in one document."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.wire import Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FALLBACKS = f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
BUILT_IN = {
    ("", "v1"): {"configmaps", "events", "namespaces", "nodes", "pods", "secrets", "services", "serviceaccounts"},
    ("apps", "v1"): {"controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"},
    ("apiextensions.k8s.io", "v1"): {"customresourcedefinitions"},
    ("apiregistration.k8s.io", "v1"): {"apiservices"},
    ("admissionregistration.k8s.io", "v1"): {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"},
    ("batch", "v1"): {"cronjobs", "jobs"},
    ("rbac.authorization.k8s.io", "v1"): {"clusterrolebindings", "clusterroles", "rolebindings", "roles"},
    ("networking.k8s.io", "v1"): {"ingresses", "networkpolicies"},
}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def group(wire: Wire) -> Iterator[str]:
    """The group of a custom resource `foos` that exists during the test."""
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    names = {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    wire.create(CRDS, {"metadata": {"name": f"foos.{group}"}, "spec": spec})
    yield group
    wire.delete(f"{CRDS}/foos.{group}")


def aggregated(wire: Wire, path: str, accept: str = AGGREGATED) -> dict[tuple[str, str], set[str]]:
    """(group, version) → resources, as one aggregated document tells them."""
    reply = wire.send("GET", path, headers={"Accept": accept})
    assert reply.status == 200
    assert reply.headers["Content-Type"] == AGGREGATED
    document = reply.json
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    return {
        (group["metadata"].get("name", ""), version["version"]): {resource["resource"] for resource in version["resources"]}
        for group in document["items"]
        for version in group["versions"]
    }


def everything(wire: Wire, accept: str = AGGREGATED) -> dict[tuple[str, str], set[str]]:
    return aggregated(wire, "/api", accept) | aggregated(wire, "/apis", accept)


@promise(
    "AggregatedDiscovery should support aggregated discovery interface",
    "AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers",
)
@pytest.mark.parametrize("accept", [AGGREGATED, FALLBACKS])
def test_all_built_in_resources_stand_in_the_aggregated_documents(wire: Wire, accept: str) -> None:
    found = everything(wire, accept)
    for version, resources in BUILT_IN.items():
        assert resources <= found[version]


@promise(
    "AggregatedDiscovery should support aggregated discovery interface for CRDs",
    "AggregatedDiscovery should support raw aggregated discovery request for CRDs",
)
def test_a_custom_resource_joins_the_aggregated_document(wire: Wire, group: str) -> None:
    wait_for(lambda: everything(wire).get((group, "v1")) == {"foos"}, "the custom resource is in the document")


@promise("Discovery should validate PreferredVersion for each APIGroup")
def test_every_group_prefers_a_version_that_it_has(wire: Wire) -> None:
    groups = [group for group in wire.get("/apis")["groups"] if not group["name"].endswith("example.com")]  # tests', which come and go
    assert groups
    for group in groups:
        alone = wire.get(f"/apis/{group['name']}")
        assert alone["preferredVersion"] == group["preferredVersion"]
        assert group["preferredVersion"] in group["versions"]
        assert group["preferredVersion"]["groupVersion"].startswith(f"{group['name']}/")


@promise("Discovery should locate the groupVersion and a resource within each APIGroup")
@pytest.mark.parametrize(
    ("group", "version", "resource"),
    [
        ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "v1", "apiservices"),
        ("apps", "v1", "deployments"),
        ("authentication.k8s.io", "v1", "tokenreviews"),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
        ("autoscaling", "v1", "horizontalpodautoscalers"),
        ("autoscaling", "v2", "horizontalpodautoscalers"),
        ("batch", "v1", "jobs"),
        ("certificates.k8s.io", "v1", "certificatesigningrequests"),
        ("coordination.k8s.io", "v1", "leases"),
        ("discovery.k8s.io", "v1", "endpointslices"),
        ("events.k8s.io", "v1", "events"),
        ("networking.k8s.io", "v1", "ingresses"),
        ("node.k8s.io", "v1", "runtimeclasses"),
        ("policy", "v1", "poddisruptionbudgets"),
        ("scheduling.k8s.io", "v1", "priorityclasses"),
        ("storage.k8s.io", "v1", "csinodes"),
    ],
)
def test_each_group_has_its_version_and_its_resource(wire: Wire, group: str, version: str, resource: str) -> None:
    assert group in {found["name"] for found in wire.get("/apis")["groups"]}
    assert f"{group}/{version}" in {found["groupVersion"] for found in wire.get(f"/apis/{group}")["versions"]}
    listed: dict[str, Any] = wire.get(f"/apis/{group}/{version}")
    assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", f"{group}/{version}")
    assert resource in {found["name"] for found in listed["resources"]}

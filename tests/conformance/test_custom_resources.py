"""CustomResourceDefinitions: their own life, defaults, and the schemas they publish."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conformance.customs import ANYTHING, CRDS, custom, definition, is_established
from tests.conformance.wire import JSON_PATCH, Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

TYPED: dict[str, Any] = {
    "type": "object",
    "properties": {"spec": {"type": "object", "description": "What is wanted", "properties": {"bars": {"type": "integer"}}}},
}


def published(wire: Wire, group: str, version: str = "v1", kind: str = "Foo") -> dict[str, Any] | None:
    """The schema of a kind in the OpenAPI v3 document of its group and version; None when there is none."""
    paths = wire.get("/openapi/v3")["paths"]
    if f"apis/{group}/{version}" not in paths:
        return None
    schemas = wire.get(f"/openapi/v3/apis/{group}/{version}")["components"]["schemas"]
    wanted = {"group": group, "version": version, "kind": kind}
    return next((s for s in schemas.values() if wanted in s.get("x-kubernetes-group-version-kind", ())), None)


def wait_published(wire: Wire, group: str, version: str = "v1", kind: str = "Foo") -> dict[str, Any]:
    wait_for(lambda: published(wire, group, version, kind), f"{group}/{version} {kind} is published")
    found = published(wire, group, version, kind)
    assert found is not None
    return found


@promise("CustomResourceDefinition resources Simple CustomResourceDefinition creating/deleting custom resource definition objects works")
def test_a_definition_can_be_created_and_deleted(wire: Wire) -> None:
    made = wire.create(CRDS, definition(ANYTHING))
    path = f"{CRDS}/{made['metadata']['name']}"
    wait_for(lambda: is_established(wire.get(path)), "the definition is served")
    wire.delete(path)
    wait_for(lambda: not wire.exists(path), "the definition is gone")


@promise("CustomResourceDefinition resources Simple CustomResourceDefinition listing custom resource definition objects works")
def test_definitions_are_listed_and_deleted_by_label(wire: Wire) -> None:
    label = f"e2e={uuid.uuid4().hex[:8]}"
    key, _, value = label.partition("=")
    with custom(wire, definition(ANYTHING)) as other:
        for number in range(10):
            wanted = definition(ANYTHING, kind=f"Foo{number}")
            wanted["metadata"]["labels"] = {key: value}
            wire.create(CRDS, wanted)
        assert len(wire.get(CRDS, labelSelector=label)["items"]) == 10
        wire.delete(CRDS, labelSelector=label)
        wait_for(lambda: not wire.get(CRDS, labelSelector=label)["items"], "the labelled definitions are gone")
        assert wire.exists(other.path)


@promise(
    "CustomResourceDefinition resources Simple CustomResourceDefinition "
    "getting/updating/patching custom resource definition status sub-resource works"
)
def test_the_status_of_a_definition_can_be_read_updated_and_patched(wire: Wire) -> None:
    with custom(wire, definition(ANYTHING)) as foos:
        path = f"{foos.path}/status"
        read = wire.get(path)
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
        read["status"]["conditions"].append(condition)
        updated = wire.put(path, read)
        assert "StatusUpdate" in {c["type"] for c in updated["status"]["conditions"]}
        patch = [{"op": "add", "path": "/status/conditions/-", "value": {**condition, "type": "StatusPatched"}}]
        wire.patch(path, patch, JSON_PATCH)
        assert {"StatusUpdate", "StatusPatched"} <= {c["type"] for c in wire.get(foos.path)["status"]["conditions"]}


@promise("CustomResourceDefinition resources should include custom resource definition resources in discovery documents")
def test_definitions_stand_in_discovery(wire: Wire) -> None:
    assert "apiextensions.k8s.io" in {group["name"] for group in wire.get("/apis")["groups"]}
    assert "apiextensions.k8s.io/v1" in {v["groupVersion"] for v in wire.get("/apis/apiextensions.k8s.io")["versions"]}
    assert "customresourcedefinitions" in {r["name"] for r in wire.get("/apis/apiextensions.k8s.io/v1")["resources"]}


@promise("CustomResourceDefinition resources custom resource defaulting for requests and from storage works")
def test_defaults_come_to_requests_and_to_what_is_stored(wire: Wire, namespace: str) -> None:
    def schema(**defaults: str) -> list[dict[str, Any]]:
        properties = {name: {"type": "string"} | ({"default": defaults[name]} if name in defaults else {}) for name in ("a", "b")}
        return [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties", "value": properties}]

    with custom(wire, definition({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}})) as foos:
        path = foos.collection(namespace)
        wire.create(path, foos.object("old"))
        assert "a" not in wire.get(f"{path}/old")
        wire.patch(foos.path, schema(a="A"), JSON_PATCH)
        wait_for(lambda: wire.get(f"{path}/old").get("a") == "A", "the default comes to what is stored")
        assert wire.create(path, foos.object("new"))["a"] == "A"
        wire.patch(foos.path, schema(b="B"), JSON_PATCH)
        wait_for(lambda: wire.get(f"{path}/new").get("b") == "B", "the other default comes")
        assert wire.get(f"{path}/new")["a"] == "A"  # was written with it
        assert "a" not in wire.get(f"{path}/old")


@promise("CustomResourceDefinition Watch CustomResourceDefinition Watch watch on custom resource definition objects")
def test_the_life_of_custom_resources_can_be_watched(wire: Wire, namespace: str) -> None:
    with custom(wire, definition(ANYTHING)) as foos:
        path = foos.collection(namespace)
        with wire.watch(path) as watching:
            for name in ("a", "b"):
                wire.create(path, foos.object(name))
                wire.patch(f"{path}/{name}", {"num": {"num2": 999}})
                wire.delete(f"{path}/{name}")
                assert watching.take(3) == [("ADDED", name), ("MODIFIED", name), ("DELETED", name)]


@promise("CustomResourcePublishOpenAPI works for CRD with validation schema")
def test_a_schema_is_published(wire: Wire) -> None:
    with custom(wire, definition(TYPED)) as foos:
        found = wait_published(wire, foos.group)
        assert found["properties"]["spec"]["properties"]["bars"] == {"type": "integer"}
        assert found["properties"]["spec"]["description"] == "What is wanted"
        assert found["properties"]["metadata"]


@promise("CustomResourcePublishOpenAPI works for CRD without validation schema")
def test_the_absence_of_a_schema_is_published_as_anything(wire: Wire) -> None:
    with custom(wire, definition(ANYTHING)) as foos:
        assert wait_published(wire, foos.group)["x-kubernetes-preserve-unknown-fields"] is True


@promise("CustomResourcePublishOpenAPI works for CRD preserving unknown fields at the schema root")
def test_that_unknown_fields_are_kept_at_the_root_is_published(wire: Wire) -> None:
    with custom(wire, definition({**TYPED, "x-kubernetes-preserve-unknown-fields": True})) as foos:
        found = wait_published(wire, foos.group)
        assert found["x-kubernetes-preserve-unknown-fields"] is True
        assert found["properties"]["spec"]["properties"]["bars"] == {"type": "integer"}


@promise("CustomResourcePublishOpenAPI works for CRD preserving unknown fields in an embedded object")
def test_that_unknown_fields_are_kept_in_an_object_is_published(wire: Wire) -> None:
    with custom(wire, definition({"type": "object", "properties": {"spec": ANYTHING}})) as foos:
        assert wait_published(wire, foos.group)["properties"]["spec"] == ANYTHING


@promise("CustomResourcePublishOpenAPI works for multiple CRDs of different groups")
def test_definitions_of_different_groups_are_published_apart(wire: Wire) -> None:
    with custom(wire, definition(TYPED)) as foos, custom(wire, definition(ANYTHING)) as others:
        assert "spec" in wait_published(wire, foos.group)["properties"]
        assert "spec" not in wait_published(wire, others.group).get("properties", {})


@promise("CustomResourcePublishOpenAPI works for multiple CRDs of same group but different versions")
def test_versions_of_one_group_are_published_apart(wire: Wire) -> None:
    with ExitStack() as stack:
        foos = stack.enter_context(custom(wire, definition(TYPED, "v1", "v2")))
        stack.enter_context(custom(wire, definition(ANYTHING, "v3", group=foos.group, kind="Bar")))
        for version, kind in (("v1", "Foo"), ("v2", "Foo"), ("v3", "Bar")):
            assert wait_published(wire, foos.group, version, kind)
        assert published(wire, foos.group, "v3", "Foo") is None


@promise("CustomResourcePublishOpenAPI works for multiple CRDs of same group and version but different kinds")
def test_kinds_of_one_version_are_published_together(wire: Wire) -> None:
    with custom(wire, definition(TYPED)) as foos, custom(wire, definition(ANYTHING, group=foos.group, kind="Bar")):
        assert "spec" in wait_published(wire, foos.group)["properties"]
        assert wait_published(wire, foos.group, kind="Bar")["x-kubernetes-preserve-unknown-fields"] is True


@promise("CustomResourcePublishOpenAPI updates the published spec when one version gets renamed")
def test_a_renamed_version_is_published_under_its_new_name(wire: Wire) -> None:
    with custom(wire, definition(TYPED, "v2", "v3")) as foos:
        wait_published(wire, foos.group, "v3")
        wire.patch(foos.path, [{"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}], JSON_PATCH)
        wait_published(wire, foos.group, "v4")
        wait_for(lambda: published(wire, foos.group, "v3") is None, "the old name is gone")
        assert published(wire, foos.group, "v2")


@promise("CustomResourcePublishOpenAPI removes definition from spec when one version gets changed to not be served")
def test_a_version_that_is_not_served_is_not_published(wire: Wire) -> None:
    with custom(wire, definition(TYPED, "v5", "v6alpha1")) as foos:
        wait_published(wire, foos.group, "v6alpha1")
        wire.patch(foos.path, [{"op": "replace", "path": "/spec/versions/1/served", "value": False}], JSON_PATCH)
        wait_for(lambda: published(wire, foos.group, "v6alpha1") is None, "the version is gone")
        assert published(wire, foos.group, "v5")

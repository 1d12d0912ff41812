"""The whole life of objects by every verb: create, get, list, watch, patch, update, status, delete, deletecollection."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.conformance.wire import APPLY, MERGE, STRATEGIC, Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

POD = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def check_discovered(wire: Wire, group: str, version: str, *resources: str) -> None:
    assert f"{group}/{version}" in {found["groupVersion"] for found in wire.get(f"/apis/{group}")["versions"]}
    assert set(resources) <= {found["name"] for found in wire.get(f"/apis/{group}/{version}")["resources"]}


def run_through(wire: Wire, path: str, body: dict[str, Any], *, status: bool = False, mutable: bool = True) -> None:
    """Three objects of one kind through all that can be done to them; they share a label of this test's own."""
    label = f"e2e={uuid.uuid4().hex[:10]}"
    labels = dict([label.split("=")])

    def named() -> dict[str, Any]:
        return {**body, "metadata": {"name": f"e2e-{uuid.uuid4().hex[:8]}", "labels": labels, **body.get("metadata", {})}}

    with wire.watch(path, labelSelector=label) as watching:
        first = wire.create(path, named())
        name, kind, version = first["metadata"]["name"], first["kind"], first["apiVersion"]
        place = f"{path}/{name}"
        assert wire.get(place)["metadata"]["uid"] == first["metadata"]["uid"]
        wire.create(path, named())
        wire.create(path, named())
        listed = wire.get(path, labelSelector=label)
        assert len(listed["items"]) == 3
        assert listed["kind"] == f"{kind}List"
        patched = wire.patch(place, {"metadata": {"annotations": {"patched": "true"}}}, STRATEGIC)
        assert patched["metadata"]["annotations"]["patched"] == "true"
        applied = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "annotations": {"applied": "true"}}}
        wire.patch(place, applied, APPLY, fieldManager="e2e", force="true") if mutable else None

        def update() -> bool:
            """Kubernetes' own controllers may write in between."""
            newest = wire.get(place)
            newest["metadata"].setdefault("annotations", {})["updated"] = "true"
            return wire.send("PUT", place, newest).status == 200

        wait_for(update, "the update meets no other write")
        wait_for_event(watching, "MODIFIED", lambda found: found["metadata"].get("annotations", {}).get("updated") == "true")
        if status:
            check_status(wire, place)
        wire.delete(place)
        wait_for_event(watching, "DELETED", lambda found: found["metadata"]["name"] == name)
        assert not wire.exists(place)
        wire.delete(path, labelSelector=label)
        wait_for(lambda: not wire.get(path, labelSelector=label)["items"], "the collection is gone")


def wait_for_event(watching: Any, kind: str, matches: Any) -> None:
    while True:
        event = watching.next()
        if event["type"] == kind and matches(event["object"]):
            return


def check_status(wire: Wire, place: str) -> None:
    """The status subresource: read, patch, update; and writes of the whole do not touch it."""
    condition = {"type": "E2E", "status": "True", "reason": "Test", "message": "a test", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patched = wire.patch(f"{place}/status", {"status": {"conditions": [condition]}}, MERGE)
    assert [c["type"] for c in patched["status"]["conditions"]] == ["E2E"]

    def update() -> bool:
        newest = wire.get(f"{place}/status")
        newest["status"]["conditions"] = [{**condition, "message": "updated"}]
        newest["metadata"].setdefault("annotations", {})["through-status"] = "yes"
        return wire.send("PUT", f"{place}/status", newest).status == 200

    wait_for(update, "the update of the status meets no other write")
    found = wire.get(place)
    assert any(c["message"] == "updated" for c in found["status"]["conditions"])


@promise("API priority and fairness should support FlowSchema API operations")
def test_flow_schemas_have_all_operations(wire: Wire) -> None:
    check_discovered(wire, "flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "flowschemas/status")
    subject = {"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}
    rule = {"subjects": [subject], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}
    spec = {"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"}, "rules": [rule]}
    run_through(wire, "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", {"spec": spec}, status=True)


@promise("API priority and fairness should support PriorityLevelConfiguration API operations")
def test_priority_levels_have_all_operations(wire: Wire) -> None:
    check_discovered(
        wire, "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "prioritylevelconfigurations/status"
    )  # fmt: skip
    spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
    run_through(wire, "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", {"spec": spec}, status=True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/namespaces/{}/configmaps", {"data": {"a": "b"}}),
        ("/api/v1/namespaces/{}/secrets", {"stringData": {"a": "b"}}),
        ("/api/v1/namespaces/{}/podtemplates", {"template": POD}),
        ("/api/v1/namespaces/{}/serviceaccounts", {}),
        ("/api/v1/namespaces/{}/limitranges", {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}}),
        ("/api/v1/namespaces/{}/resourcequotas", {"spec": {"hard": {"pods": "5"}}}),
        ("/api/v1/namespaces/{}/endpoints", {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        ("/apis/coordination.k8s.io/v1/namespaces/{}/leases", {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30}}),
        ("/apis/apps/v1/namespaces/{}/controllerrevisions", {"revision": 1, "data": {"a": 1}}),
        ("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        ("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", {"spec": {"podSelector": {}}}),
        ("/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
         {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 1}}}}}),
        ("/apis/networking.k8s.io/v1/ingressclasses", {"spec": {"controller": "example.com/controller"}}),
        ("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}),
        ("/apis/node.k8s.io/v1/runtimeclasses", {"handler": "test"}),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", {"value": 10}),
        ("/apis/storage.k8s.io/v1/storageclasses", {"provisioner": "example.com/none"}),
        ("/apis/storage.k8s.io/v1/csidrivers", {"spec": {"attachRequired": False}}),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles", {"rules": []}),
        ("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
         {"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}}}),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)  # fmt: skip
def test_every_kind_goes_through_its_whole_life(wire: Wire, namespace: str, path: str, body: dict[str, Any]) -> None:
    run_through(wire, path.format(namespace), body)


@pytest.mark.parametrize("api", ["/api/v1", "/apis/events.k8s.io/v1"])
def test_events_go_through_their_whole_life_in_both_apis(wire: Wire, namespace: str, api: str) -> None:
    regarding = {"kind": "Pod", "namespace": namespace, "name": "p"}
    if api == "/api/v1":
        body: dict[str, Any] = {"involvedObject": regarding, "reason": "Test", "message": "This is a test event", "type": "Normal"}
    else:
        body = {"regarding": regarding, "reason": "Test", "note": "This is a test event", "type": "Normal", "action": "Do",
                "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "test", "reportingInstance": "test-node"}  # fmt: skip
    run_through(wire, f"{api}/namespaces/{namespace}/events", body)


def test_openapi_v3_names_every_group_and_gives_its_paths(wire: Wire) -> None:
    paths = wire.get("/openapi/v3")["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/batch/v1"} <= paths.keys()
    document = wire.get(paths["apis/apps/v1"]["serverRelativeURL"])
    assert document["openapi"].startswith("3.0")
    operation = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]

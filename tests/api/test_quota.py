"""What objects use of quotas: pure functions that admission and the controller share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubecosm.api.quota import Scope, evaluator_for, scopes_of
from kubecosm.api.quota.scopes import claim_matches, pod_matches
from kubecosm.api.resources import EVENTS, NODES, PERSISTENTVOLUMECLAIMS, PODS, SERVICES, CustomResource, Object, Resource, builtin
from kubecosm.api.times import format_time

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RESOURCE_CLAIMS = builtin("resource.k8s.io", "v1", "resourceclaims")


def used(resource: Resource, obj: Object) -> dict[str, str]:
    evaluator = evaluator_for(resource)
    assert evaluator is not None
    return {name: str(value) for name, value in evaluator.usage({"metadata": {}, **obj}, NOW).items() if value}


def container(name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **fields: Any) -> Object:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **fields}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {}, "spec": {"containers": list(containers), **spec}}


def test_a_pod_uses_what_it_may_need_at_once() -> None:
    first = [container("sidecar", {"cpu": "100m"}, restartPolicy="Always"), container("init", {"cpu": "1", "memory": "1Gi"})]
    main = [container("a", {"cpu": "300m", "memory": "100Mi"}, {"cpu": "500m"}), container("b", {"cpu": "200m"})]
    assert used(PODS, pod(*main, initContainers=first, overhead={"cpu": "10m", "memory": "1Mi"})) == {
        "count/pods": "1", "pods": "1", "cpu": "1110m", "requests.cpu": "1110m", "memory": "1025Mi", "requests.memory": "1025Mi",
        "limits.cpu": "510m",
    }  # fmt: skip


def test_pod_level_resources_count_instead_of_those_of_containers() -> None:
    found = used(PODS, pod(container("a", {"cpu": "5"}), resources={"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}))
    assert (found["requests.cpu"], found["limits.cpu"]) == ("2", "3")


def test_devices_and_huge_pages_are_counted_as_requests() -> None:
    found = used(PODS, pod(container("a", {"example.com/gpu": "2", "hugepages-2Mi": "4Mi", "kubernetes.io/own": "1"})))
    assert found == {
        "count/pods": "1", "pods": "1", "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi"
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": {"phase": "Succeeded"}}, id="ended"),
        pytest.param(
            {"metadata": {"deletionTimestamp": format_time(NOW - timedelta(seconds=40)), "deletionGracePeriodSeconds": 30}}, id="overdue"
        ),
    ],
)
def test_a_pod_that_is_no_more_counts_only_as_an_object(changes: Object) -> None:
    assert used(PODS, pod(container("a", {"cpu": "1"})) | changes) == {"count/pods": "1"}


def test_a_resized_pod_counts_with_the_most_of_what_is_wanted_allocated_and_in_effect() -> None:
    obj = pod(container("a", {"cpu": "1"}))
    statuses = [{"name": "a", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1500m"}}}]
    assert used(PODS, obj | {"status": {"containerStatuses": statuses}})["cpu"] == "2"
    infeasible = [{"type": "PodResizePending", "reason": "Infeasible"}]
    wanted = pod(container("a", {"cpu": "9"})) | {"status": {"containerStatuses": statuses, "conditions": infeasible}}
    assert used(PODS, wanted)["cpu"] == "2"


def test_services_count_the_ports_they_want() -> None:
    ports = [{"port": 1}, {"port": 2, "nodePort": 30001}]
    assert used(SERVICES, {"spec": {"type": "ClusterIP", "ports": ports}}) == {"services": "1", "count/services": "1"}
    assert used(SERVICES, {"spec": {"type": "NodePort", "ports": ports}})["services.nodeports"] == "2"
    balanced = {"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": False}
    found = used(SERVICES, {"spec": balanced})
    assert (found["services.nodeports"], found["services.loadbalancers"]) == ("1", "1")


def test_claims_count_the_larger_of_what_is_wanted_and_allocated() -> None:
    spec = {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}
    found = used(PERSISTENTVOLUMECLAIMS, {"spec": spec})
    assert found["requests.storage"] == found["gold.storageclass.storage.k8s.io/requests.storage"] == "2"
    grown = used(PERSISTENTVOLUMECLAIMS, {"spec": spec, "status": {"allocatedResources": {"storage": "3Gi"}}})
    assert grown["requests.storage"] == "3Gi"


def test_resource_claims_count_devices_of_the_greediest_alternative() -> None:
    requests = [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 2}},
        {"name": "b", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}},
        {"name": "c", "firstAvailable": [{"deviceClassName": "nic", "count": 3}, {"deviceClassName": "nic"}, {"deviceClassName": "gpu"}]},
    ]
    assert used(RESOURCE_CLAIMS, {"spec": {"devices": {"requests": requests}}}) == {
        "count/resourceclaims.resource.k8s.io": "1",
        "gpu.deviceclass.resource.k8s.io/devices": "35",
        "nic.deviceclass.resource.k8s.io/devices": "3",
    }


def test_anything_with_a_namespace_is_counted_but_events() -> None:
    widgets = CustomResource("example.com", "v1", "Widget", "widgets", "widget", True)
    assert used(widgets, {}) == {"count/widgets.example.com": "1"}
    assert evaluator_for(EVENTS) is None
    assert evaluator_for(NODES) is None


SCOPES = {
    "a deadline": (Scope("Terminating"), {"activeDeadlineSeconds": 0}, True),
    "no deadline": (Scope("NotTerminating"), {}, True),
    "a class among these": (Scope("PriorityClass", "In", ("a", "b")), {"priorityClassName": "b"}, True),
    "no class among these": (Scope("PriorityClass", "In", ("a",)), {}, False),
    "no class is none of these": (Scope("PriorityClass", "NotIn", ("a",)), {}, True),
    "no class": (Scope("PriorityClass", "DoesNotExist"), {}, True),
    "something else": (Scope("VolumeAttributesClass"), {}, False),
}


@pytest.mark.parametrize(("scope", "spec", "matches"), SCOPES.values(), ids=SCOPES.keys())
def test_scopes_are_about_pods(scope: Scope, spec: Object, matches: bool) -> None:
    assert pod_matches(scope, pod(container("a"), **spec)) is matches


def test_best_effort_is_about_cpu_and_memory_only() -> None:
    assert pod_matches(Scope("BestEffort"), pod(container("a", {"example.com/gpu": "1"})))
    assert pod_matches(Scope("NotBestEffort"), pod(container("a"), initContainers=[container("i", {"cpu": "1"})]))


def test_a_claim_is_of_every_class_it_has_or_will_have() -> None:
    claim = {"spec": {"volumeAttributesClassName": "a"}, "status": {"currentVolumeAttributesClassName": "b"}}
    assert [claim_matches(Scope("VolumeAttributesClass", "In", (name,)), claim) for name in "abc"] == [True, True, False]
    quota = {"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["a"]}]}}}
    assert scopes_of(quota) == [Scope("VolumeAttributesClass", "In", ("a",))]

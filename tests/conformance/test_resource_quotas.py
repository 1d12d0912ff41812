"""ResourceQuotas: counted when they come, charged when objects do, relieved when they go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.wire import MERGE, Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

Object = dict[str, Any]
HARD = {
    "pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", "requests.example.com/dongle": "3", "services": "10",
    "services.nodeports": "1", "services.loadbalancers": "1", "replicationcontrollers": "10", "resourcequotas": "1", "configmaps": "10",
    "secrets": "10", "persistentvolumeclaims": "10", "requests.storage": "10Gi", "count/replicasets.apps": "5",
}  # fmt: skip


class Quotas:
    """The quotas of a namespace."""

    def __init__(self, wire: Wire, namespace: str) -> None:
        self.wire = wire
        self.core = f"/api/v1/namespaces/{namespace}"
        self.apps = f"/apis/apps/v1/namespaces/{namespace}"
        self.path = f"{self.core}/resourcequotas"

    def create(self, name: str, hard: dict[str, str], **spec: Any) -> Object:
        """A quota, once it has been counted."""
        made = self.wire.create(self.path, {"metadata": {"name": name}, "spec": {"hard": hard, **spec}})
        wait_for(lambda: set(self.used(name)) == set(hard), f"{name} is counted")
        return dict(made)

    def status(self, name: str = "q") -> Object:
        status: Object = self.wire.get(f"{self.path}/{name}")["status"]
        return status

    def used(self, name: str = "q") -> dict[str, str]:
        used: dict[str, str] = self.status(name).get("used") or {}
        return used

    def wait_used(self, name: str = "q", **wanted: str) -> None:
        """Names of resources with `_` for `.`."""
        expected = {key.replace("_", "."): value for key, value in wanted.items()}
        wait_for(lambda: expected.items() <= self.used(name).items(), f"{name} uses {expected}, not {self.used(name)}")

    def live_and_die(self, path: str, body: Object, name: str, resource: str) -> None:
        """An object of which one more is used while it is there."""
        before = int(self.used()[resource])
        self.wire.create(path, body)
        assert self.used()[resource] == str(before + 1), "charged before it was stored"
        self.wire.delete(f"{path}/{name}")
        self.wait_used(**{resource.replace(".", "_"): str(before)})


@pytest.fixture
def quotas(wire: Wire, namespace: str) -> Quotas:
    return Quotas(wire, namespace)


def pod(name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **spec: Any) -> Object:
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
    containers = [{"name": "c", "image": "registry.k8s.io/pause:3.10", "resources": resources}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 0, **spec}}


@promise("ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated.")
def test_a_new_quota_is_counted_promptly(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    status = quotas.status()
    assert status["hard"] == HARD
    assert status["used"]["resourcequotas"] == "1"
    assert {status["used"][name] for name in ("pods", "services", "secrets", "count/replicasets.apps")} == {"0"}


@promise("ResourceQuota should create a ResourceQuota and capture the life of a configMap.")
def test_a_config_map_is_counted_while_it_lives(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    quotas.live_and_die(f"{quotas.core}/configmaps", {"metadata": {"name": "c"}}, "c", "configmaps")


@promise("ResourceQuota should create a ResourceQuota and capture the life of a secret.")
def test_a_secret_is_counted_while_it_lives(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    quotas.live_and_die(f"{quotas.core}/secrets", {"metadata": {"name": "s"}}, "s", "secrets")


@promise("ResourceQuota should create a ResourceQuota and capture the life of a service.")
def test_services_are_counted_by_type_while_they_live(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    path = f"{quotas.core}/services"

    def service(name: str, kind: str) -> Object:
        return {"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}}

    quotas.wire.create(path, service("cluster", "ClusterIP"))
    quotas.wire.create(path, service("node", "NodePort"))
    quotas.wait_used(services="2", services_nodeports="1", services_loadbalancers="0")
    refused = quotas.wire.expect(403, "POST", path, service("balanced", "LoadBalancer"))
    assert "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1" in refused["message"]
    for name in ("cluster", "node"):
        quotas.wire.delete(f"{path}/{name}")
    quotas.wait_used(services="0", services_nodeports="0", services_loadbalancers="0")


@promise("ResourceQuota should create a ResourceQuota and capture the life of a replication controller.")
def test_a_replication_controller_is_counted_while_it_lives(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    labels = {"app": "x"}
    spec = {"replicas": 0, "selector": labels, "template": {"metadata": {"labels": labels}, "spec": pod("p")["spec"]}}
    spec["template"]["spec"].pop("terminationGracePeriodSeconds")  # type: ignore[index]
    path = f"{quotas.core}/replicationcontrollers"
    quotas.live_and_die(path, {"metadata": {"name": "rc"}, "spec": spec}, "rc", "replicationcontrollers")


@promise("ResourceQuota should create a ResourceQuota and capture the life of a replica set.")
def test_a_replica_set_is_counted_while_it_lives(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    quotas.live_and_die(f"{quotas.apps}/replicasets", {"metadata": {"name": "rs"}, "spec": spec}, "rs", "count/replicasets.apps")


@promise("ResourceQuota should create a ResourceQuota and capture the life of a pod.")
def test_a_pod_is_counted_by_all_it_requests(quotas: Quotas) -> None:
    quotas.create("q", HARD)
    path = f"{quotas.core}/pods"
    device = {"example.com/dongle": "2"}
    quotas.wire.create(path, pod("p", {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", **device}, device))
    used = {"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"}
    assert used.items() <= quotas.used().items()
    refused = quotas.wire.expect(403, "POST", path, pod("much", {"cpu": "600m", "memory": "100Mi"}))
    assert refused["message"] == 'pods "much" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1'
    devices = pod("devices", {"cpu": "100m", "memory": "100Mi", **device}, device)
    assert "requested: requests.example.com/dongle=2" in quotas.wire.expect(403, "POST", path, devices)["message"]
    assert "must specify memory for: c" in quotas.wire.expect(403, "POST", path, pod("silent", {"cpu": "100m"}))["message"]
    more = {"spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": {"cpu": "100m"}}}]}}
    quotas.wire.expect(422, "PATCH", f"{path}/p", more, headers={"Content-Type": MERGE})
    assert used.items() <= quotas.used().items()
    quotas.wire.delete(f"{path}/p", gracePeriodSeconds=0)
    quotas.wait_used(pods="0", cpu="0", memory="0")


@promise("ResourceQuota should verify ResourceQuota with terminating scopes.")
def test_quotas_tell_pods_with_a_deadline_from_those_without(quotas: Quotas) -> None:
    hard = {"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"}
    for scope in ("Terminating", "NotTerminating"):
        quotas.create(scope.lower(), hard, scopes=[scope])
    asked = ({"cpu": "500m", "memory": "200Mi"}, {"cpu": "1", "memory": "400Mi"})
    counted = {"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi"}
    _lives_in(quotas, pod("lasting", *asked), "notterminating", "terminating", counted)
    _lives_in(quotas, pod("ending", *asked, activeDeadlineSeconds=3600), "terminating", "notterminating", counted)


@promise("ResourceQuota should verify ResourceQuota with best effort scope.")
def test_quotas_tell_best_effort_pods_from_others(quotas: Quotas) -> None:
    for scope in ("BestEffort", "NotBestEffort"):
        quotas.create(scope.lower(), {"pods": "5"}, scopes=[scope])
    _lives_in(quotas, pod("modest"), "besteffort", "notbesteffort", {"pods": "1"})
    burstable = pod("asking", {"cpu": "100m", "memory": "50Mi"}, {"cpu": "200m", "memory": "100Mi"})
    _lives_in(quotas, burstable, "notbesteffort", "besteffort", {"pods": "1"})


def _lives_in(quotas: Quotas, body: Object, counting: str, other: str, counted: dict[str, str]) -> None:
    """A pod that one quota counts and another does not."""
    nothing = quotas.used(other)
    quotas.wire.create(f"{quotas.core}/pods", body)
    assert quotas.used(counting) == counted
    assert quotas.used(other) == nothing
    quotas.wire.delete(f"{quotas.core}/pods/{body['metadata']['name']}", gracePeriodSeconds=0)
    wait_for(lambda: set(quotas.used(counting).values()) == {"0"}, f"{counting} counts nothing")


@promise("ResourceQuota should be able to update and delete ResourceQuota.")
def test_a_quota_is_updated_and_deleted(quotas: Quotas) -> None:
    made = quotas.create("q", {"cpu": "1", "memory": "500Mi"})
    hard = {"cpu": "2", "memory": "1Gi"}
    updated = quotas.wire.put(f"{quotas.path}/q", quotas.wire.get(f"{quotas.path}/q") | {"spec": made["spec"] | {"hard": hard}})
    assert updated["spec"]["hard"] == hard == quotas.wire.get(f"{quotas.path}/q")["spec"]["hard"]
    quotas.wire.delete(f"{quotas.path}/q")
    assert not quotas.wire.exists(f"{quotas.path}/q")


@promise("ResourceQuota should manage the lifecycle of a ResourceQuota")
def test_quotas_are_listed_patched_and_deleted_by_label(quotas: Quotas) -> None:
    quotas.create("q", {"cpu": "1", "memory": "500Mi"})
    label = {"life": quotas.core.rpartition("/")[2]}
    patch = {"metadata": {"labels": label}, "spec": {"hard": {"memory": "750Mi"}}}
    assert quotas.wire.patch(f"{quotas.path}/q", patch)["spec"]["hard"] == {"cpu": "1", "memory": "750Mi"}
    selector = f"life={label['life']}"
    found = quotas.wire.get("/api/v1/resourcequotas", labelSelector=selector)["items"]
    assert [item["spec"]["hard"]["memory"] for item in found] == ["750Mi"]
    quotas.wire.delete(quotas.path, labelSelector=selector)
    wait_for(lambda: not quotas.wire.get("/api/v1/resourcequotas", labelSelector=selector)["items"], "the collection is gone")


@promise("ResourceQuota should apply changes to a resourcequota status")
def test_the_status_of_a_quota_changes_apart_from_its_spec(quotas: Quotas) -> None:
    hard = {"cpu": "500m", "memory": "500Mi"}
    quotas.create("q", hard)
    changed = quotas.wire.get(f"{quotas.path}/q")
    more = {"cpu": "1", "memory": "1Gi"}
    updated = quotas.wire.put(f"{quotas.path}/q/status", changed | {"status": changed["status"] | {"hard": more}})
    assert updated["status"]["hard"] == more
    assert updated["spec"]["hard"] == hard
    patched = quotas.wire.patch(f"{quotas.path}/q", {"spec": {"hard": {"cpu": "2", "memory": "2Gi"}}})
    assert patched["spec"]["hard"] == {"cpu": "2", "memory": "2Gi"}
    wait_for(lambda: quotas.status()["hard"] == patched["spec"]["hard"], "the status tells the spec's limits")
    status = quotas.wire.patch(f"{quotas.path}/q/status", {"status": {"hard": {"cpu": "3"}}, "spec": {"hard": {"cpu": "9"}}})
    assert status["status"]["hard"]["cpu"] == "3"
    assert quotas.wire.get(f"{quotas.path}/q/status")["spec"]["hard"] == patched["spec"]["hard"]

"""Services get addresses and ports, keep them, give them back, and are refused in the words of Kubernetes."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import SERVICES, Object
from kubecosm.services.apiserver.registry.strategy import Strategy, strategy_for

from .kinds import NAME_PART, SETTINGS, SUBDOMAIN, causes, created, strategy, update_causes, updated


def service(ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}] if ports is None else ports, **spec}}


def fresh() -> Strategy:
    found = strategy_for(SERVICES)
    found.start(SETTINGS, random.Random(7), [])
    return found


def begun(kind: Strategy, name: str, dry_run: bool = False, **spec: Any) -> Object:
    """A Service that was defaulted and allocated, as the store does."""
    obj = {"metadata": {"name": name, "namespace": "default"}, **service(**spec)}
    kind.default(obj)
    kind.begin_create(obj, dry_run=dry_run)(not dry_run)
    return obj


def test_a_small_service_gets_its_defaults_and_an_address():
    spec = created(SERVICES, service())["spec"]
    address = spec.pop("clusterIP")
    assert ip_address(address) in ip_network(SETTINGS.service_cluster_ip_range)
    assert spec == {
        "clusterIPs": [address], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"}, "sessionAffinity": "None",
        "type": "ClusterIP",
    }  # fmt: skip


def test_headless_services_get_no_address():
    spec = created(SERVICES, service(clusterIP="None"))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == ("None", ["None"], ["IPv4"])


def test_external_names_get_nothing():
    spec = created(SERVICES, {"spec": {"type": "ExternalName", "externalName": "example.com"}})["spec"]
    assert spec == {"externalName": "example.com", "sessionAffinity": "None", "type": "ExternalName"}


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_node_ports_come_from_the_range(kind):
    spec = created(SERVICES, service(type=kind))["spec"]
    low, high = SETTINGS.service_node_port_range
    assert low <= spec["ports"][0]["nodePort"] <= high
    assert spec["externalTrafficPolicy"] == "Cluster"
    assert spec.get("allocateLoadBalancerNodePorts") == (True if kind == "LoadBalancer" else None)


def test_one_number_may_serve_two_protocols_on_the_node():
    kind = fresh()
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]
    first, second = begun(kind, "dns", type="NodePort", ports=ports)["spec"]["ports"]
    assert first["nodePort"] == second["nodePort"]


def test_client_affinity_lasts_three_hours():
    spec = created(SERVICES, service(sessionAffinity="ClientIP"))["spec"]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_an_address_belongs_to_one_service_until_it_is_deleted():
    kind = fresh()
    first = begun(kind, "a", clusterIP="10.96.3.4")
    with pytest.raises(ApiError) as caught:
        begun(kind, "b", clusterIP="10.96.3.4")
    why = "failed to allocate IP 10.96.3.4: provided IP is already allocated"
    assert caught.value.message == f'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.3.4"]: {why}'
    kind.after_delete(first)
    assert begun(kind, "b", clusterIP="10.96.3.4")["spec"]["clusterIPs"] == ["10.96.3.4"]


def test_a_node_port_belongs_to_one_service_until_it_is_deleted():
    kind = fresh()
    ports = [{"port": 80, "nodePort": 30123}]
    first = begun(kind, "a", type="NodePort", ports=ports)
    with pytest.raises(ApiError) as caught:
        begun(kind, "b", type="NodePort", ports=[dict(ports[0])])
    why = "spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated"
    assert caught.value.message == f'Service "b" is invalid: {why}'
    kind.after_delete(first)
    begun(kind, "b", type="NodePort", ports=[dict(ports[0])])


def test_dry_runs_and_failed_creates_keep_nothing():
    kind = fresh()
    begun(kind, "a", dry_run=True, clusterIP="10.96.3.4")
    obj = {"metadata": {"name": "a", "namespace": "default"}, **service(clusterIP="10.96.3.5")}
    kind.default(obj)
    kind.begin_create(obj, dry_run=False)(False)
    begun(kind, "b", clusterIP="10.96.3.4")
    begun(kind, "c", clusterIP="10.96.3.5")


def test_what_is_stored_is_taken_when_the_server_starts():
    stored = begun(fresh(), "a", type="NodePort", ports=[{"port": 80, "nodePort": 30200}], clusterIP="10.96.9.9")
    kind = strategy_for(SERVICES)
    kind.start(SETTINGS, random.Random(7), [stored])
    with pytest.raises(ApiError):
        begun(kind, "b", clusterIP="10.96.9.9")
    with pytest.raises(ApiError):
        begun(kind, "b", type="NodePort", ports=[{"port": 80, "nodePort": 30200}])


def test_an_update_that_leaves_addresses_out_keeps_them():
    old = created(SERVICES, service(type="NodePort"))
    new = updated(SERVICES, old, {"spec": {"clusterIP": None, "clusterIPs": None, "ports": [{"port": 80}], "selector": {"a": "c"}}})
    assert new["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert new["spec"]["ports"][0]["nodePort"] == old["spec"]["ports"][0]["nodePort"]


def test_turning_into_an_external_name_gives_everything_up():
    kind = fresh()
    old = begun(kind, "a", clusterIP="10.96.3.4")
    change = {"type": "ExternalName", "externalName": "example.com", "clusterIP": None, "clusterIPs": None, "ipFamilies": None}
    new = {**old, "spec": {name: value for name, value in (old["spec"] | change).items() if value is not None}}
    kind.default(new)
    kind.begin_update(new, old, dry_run=False)(True)
    assert "clusterIP" not in new["spec"]
    begun(kind, "b", clusterIP="10.96.3.4")


_PORT_NAME = "spec.ports[0].name: Required value"
BAD = [
    (service(ports=[]), ["spec.ports: Required value"]),
    (service(ports=[{"port": 80}, {"port": 81, "name": "x"}]), [_PORT_NAME]),
    (service(ports=[{"port": 0, "targetPort": 1}]), ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
    (service(ports=[{"port": 1, "protocol": "X"}]),
     ['spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"']),
    (service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]), ['spec.ports[1].name: Duplicate value: "a"']),
    (service(type="Magic"),
     ['spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"']),
    (service(ports=[{"port": 80, "nodePort": 30000}]),
     ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
    (service(externalTrafficPolicy="Local"),
     ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services']),
    (service(sessionAffinity="Mine"), ['spec.sessionAffinity: Unsupported value: "Mine": supported values: "ClientIP", "None"']),
    ({"spec": {"type": "ExternalName", "externalName": ""}}, ["spec.externalName: Required value"]),
    ({"spec": {"type": "ExternalName", "externalName": "A"}},
     [f'spec.externalName: Invalid value: "A": {SUBDOMAIN}']),
    (service(selector={"a b": "c"}),
     [f'spec.selector: Invalid value: "a b": {NAME_PART}']),
    (service(type="LoadBalancer", clusterIP="None"),
     ['spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for LoadBalancer services']),
    (service(externalIPs=["0.0.0.0"]), ['spec.externalIPs[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)']),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "expected"), BAD)
def test_bad_services_are_refused(obj, expected):
    assert causes(SERVICES, obj) == expected


def test_names_of_services_are_labels_and_may_start_with_a_digit():
    assert not causes(SERVICES, {"metadata": {"name": "9a"}, **service()})
    assert causes(SERVICES, {"metadata": {"name": "a.b"}, **service()}) == ['metadata.name: Invalid value: "a.b": must not contain dots']


def test_an_address_may_not_change():
    old = created(SERVICES, service())
    found = update_causes(SERVICES, old, {"spec": {"clusterIP": "10.96.200.200", "clusterIPs": ["10.96.200.200"]}})
    assert found == ['spec.clusterIPs[0]: Invalid value: ["10.96.200.200"]: may not change once set']


def test_status_is_changed_apart():
    old = created(SERVICES, service(type="LoadBalancer"))
    change = {"spec": {"selector": None}, "status": {"loadBalancer": {"ingress": [{"ip": "10.1.1.1"}]}}}
    new = updated(SERVICES, old, change, "status")
    assert new["spec"] == old["spec"]
    assert new["status"]["loadBalancer"]["ingress"] == [{"ip": "10.1.1.1", "ipMode": "VIP"}]
    assert updated(SERVICES, new, {"status": None})["status"] == new["status"]


def test_field_selectors_see_type_and_address():
    new = created(SERVICES, service(clusterIP="None"))
    assert strategy(SERVICES).selectable_fields(new) == {"spec.clusterIP": "None", "spec.type": "ClusterIP"}

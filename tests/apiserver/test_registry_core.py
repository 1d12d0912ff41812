"""Configuration, volumes, nodes, namespaces and the other core kinds keep to the rules of Kubernetes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kubecosm.api.resources import (
    CONFIGMAPS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    LEASES,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICEACCOUNTS,
    STORAGECLASSES,
)
from kubecosm.testing.virtualtime import VirtualClock

from .kinds import CREATED, LABEL, NAME_PART, SUBDOMAIN, causes, created, resource_of, strategy, update_causes, updated

CSI_NODES = resource_of("storage.k8s.io/v1", "csinodes")
CSI_DRIVERS = resource_of("storage.k8s.io/v1", "csidrivers")
ATTACHMENTS = resource_of("storage.k8s.io/v1", "volumeattachments")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def claim(**spec: Any) -> dict[str, Any]:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}}


def volume(**spec: Any) -> dict[str, Any]:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, **spec}}


DEFAULTS = [
    (SECRETS, {}, "type", "Opaque"),
    (NAMESPACES, {"metadata": {"name": "n"}}, "spec", {"finalizers": ["kubernetes"]}),
    (NAMESPACES, {"metadata": {"name": "n"}}, "status", {"phase": "Active"}),
    (PERSISTENTVOLUMECLAIMS, claim(), "status", {"phase": "Pending"}),
    (PERSISTENTVOLUMES, volume(), "status", {"lastPhaseTransitionTime": CREATED, "phase": "Pending"}),
    (STORAGECLASSES, {"provisioner": "p"}, "reclaimPolicy", "Delete"),
    (STORAGECLASSES, {"provisioner": "p"}, "volumeBindingMode", "Immediate"),
    (LIMITRANGES, {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}, "spec",
     {"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"}}]}),
    (ENDPOINTS, {"subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80}]}]}, "subsets",
     [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]),
    (ENDPOINTSLICES, {"addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}]}, "ports",
     [{"name": "", "port": 80, "protocol": "TCP"}]),
    (CSI_DRIVERS, {"metadata": {"name": "d"}, "spec": {}}, "spec", {
        "attachRequired": True, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": False, "requiresRepublish": False,
        "seLinuxMount": False, "storageCapacity": False, "volumeLifecycleModes": ["Persistent"],
    }),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "field", "expected"), DEFAULTS)
def test_kinds_get_their_defaults(resource, obj, field, expected):
    assert created(resource, obj)[field] == expected


def test_namespaces_carry_their_name_as_a_label():
    assert created(NAMESPACES, {"metadata": {"name": "n"}})["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}


def test_secrets_take_text_and_keep_bytes():
    new = created(SECRETS, {"stringData": {"a": "x", "b": "y"}, "data": {"a": encoded("old")}})
    assert "stringData" not in new
    assert new["data"] == {"a": encoded("x"), "b": encoded("y")}


_KEYS = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
_KEYS += "regex used for validation is '[-._a-zA-Z0-9]+')"
BAD = [
    (CONFIGMAPS, {"data": {"a b": ""}}, [f'data[a b]: Invalid value: "a b": {_KEYS}']),
    (CONFIGMAPS, {"data": {"a": ""}, "binaryData": {"a": "YQ=="}}, ['data[a]: Invalid value: "a": duplicate of key present in binaryData']),
    (CONFIGMAPS, {"data": {"a": "x" * 1048577}}, [": Too long: may not be more than 1048576 bytes"]),
    (CONFIGMAPS, {"metadata": {"name": "A"}}, [f'metadata.name: Invalid value: "A": {SUBDOMAIN}']),
    (CONFIGMAPS, {"metadata": {"name": "a", "labels": {"a b": "c"}}},
     [f'metadata.labels: Invalid value: "a b": {NAME_PART}']),
    (NAMESPACES, {"metadata": {"name": "A.b"}}, [f'metadata.name: Invalid value: "A.b": {LABEL}']),
    (SECRETS, {"type": "kubernetes.io/tls"}, ["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
    (SECRETS, {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded("{")}},
     ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": unexpected end of JSON input']),
    (SECRETS, {"type": "kubernetes.io/service-account-token"},
     ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]),
    (PERSISTENTVOLUMECLAIMS, claim(accessModes=[]), ["spec.accessModes: Required value: at least 1 access mode is required"]),
    (PERSISTENTVOLUMECLAIMS, claim(accessModes=["Any"]),
     ['spec.accessModes: Unsupported value: "Any": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", '
      '"ReadWriteOncePod"']),
    (PERSISTENTVOLUMECLAIMS, claim(resources={}), ["spec.resources[storage]: Required value"]),
    (PERSISTENTVOLUMECLAIMS, claim(resources={"requests": {"storage": "0"}}),
     ['spec.resources[storage]: Invalid value: "0": must be greater than zero']),
    (PERSISTENTVOLUMES, volume(capacity={}),
     ["spec.capacity: Required value", 'spec.capacity: Unsupported value: {}: supported values: "storage"']),
    (PERSISTENTVOLUMES, volume(hostPath=None), ["spec: Required value: must specify a volume type"]),
    (PERSISTENTVOLUMES, volume(hostPath={"path": "/a/../b"}), ['spec.hostPath.path: Invalid value: "/a/../b": must not contain \'..\'']),
    (PERSISTENTVOLUMES, volume(persistentVolumeReclaimPolicy="Maybe"),
     ['spec.persistentVolumeReclaimPolicy: Unsupported value: "Maybe": supported values: "Delete", "Recycle", "Retain"']),
    (STORAGECLASSES, {}, ["provisioner: Required value"]),
    (STORAGECLASSES, {"provisioner": "p", "volumeBindingMode": "Later"},
     ['volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"']),
    (RESOURCEQUOTAS, {"spec": {"hard": {"cpu": "-1"}}}, ['spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    (RESOURCEQUOTAS, {"spec": {"hard": {"pods": "1.5"}}}, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
    (LIMITRANGES, {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}},
     ['spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1']),
    (ENDPOINTS, {"subsets": [{"addresses": [{"ip": "x"}], "ports": [{"port": 80}]}]},
     ['subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
      'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address']),
    (ENDPOINTSLICES, {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]},
     ['endpoints[0].addresses[0]: Invalid value: "::1": must be a valid IPv4 address']),
    (ENDPOINTSLICES, {"addressType": "Tin", "endpoints": []},
     ['addressType: Unsupported value: "Tin": supported values: "FQDN", "IPv4", "IPv6"']),
    (LEASES, {"spec": {"leaseDurationSeconds": 0}}, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
    (EVENTS, {"involvedObject": {"namespace": "other"}},
     ['involvedObject.namespace: Invalid value: "other": does not match event.namespace']),
    (NODES, {"spec": {"taints": [{"key": "k", "effect": "Nope"}]}},
     ['metadata.taints[0].effect: Unsupported value: "Nope": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"']),
    (ATTACHMENTS, {"spec": {"attacher": "a", "nodeName": "n", "source": {}}},
     ["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"]),
    (CSI_NODES, {"spec": {"drivers": [{"name": "d", "nodeID": ""}]}}, ["spec.drivers[0].nodeID: Required value"]),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "obj", "expected"), BAD)
def test_bad_objects_are_refused(resource, obj, expected):
    assert causes(resource, obj) == expected


def test_immutable_data_stays():
    for resource in (CONFIGMAPS, SECRETS):
        old = created(resource, {"data": {"a": "YQ=="}, "immutable": True})
        assert update_causes(resource, old, {"data": {"a": "Yg=="}}) == ["data: Forbidden: field is immutable when `immutable` is set"]
        assert update_causes(resource, old, {"immutable": None}) == ["immutable: Forbidden: field is immutable when `immutable` is set"]
        assert updated(resource, old, {"metadata": {"labels": {"a": "b"}}})["metadata"]["labels"] == {"a": "b"}


def test_the_type_of_a_secret_stays():
    assert update_causes(SECRETS, created(SECRETS, {}), {"type": "other"}) == ['type: Invalid value: "other": field is immutable']


def test_claims_change_only_in_what_they_request():
    old = created(PERSISTENTVOLUMECLAIMS, claim(storageClassName="s", volumeName="v"))
    bound = updated(PERSISTENTVOLUMECLAIMS, old, {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}, "status")
    assert updated(PERSISTENTVOLUMECLAIMS, bound, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    (cause,) = update_causes(PERSISTENTVOLUMECLAIMS, bound, {"spec": {"storageClassName": "t"}})
    assert cause.startswith("spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName")
    assert '\n- "StorageClassName": "s",\n+ "StorageClassName": "t",\n' in cause


def test_claims_do_not_shrink():
    old = created(PERSISTENTVOLUMECLAIMS, claim(volumeName="v"))
    bound = updated(PERSISTENTVOLUMECLAIMS, old, {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}, "status")
    assert update_causes(PERSISTENTVOLUMECLAIMS, bound, {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]


def test_the_source_of_a_volume_stays():
    old = created(PERSISTENTVOLUMES, volume())
    (cause,) = update_causes(PERSISTENTVOLUMES, old, {"spec": {"hostPath": {"path": "/y"}}})
    assert cause.startswith("spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation")


def test_storage_classes_stay_but_for_metadata():
    old = created(STORAGECLASSES, {"provisioner": "p"})
    assert update_causes(STORAGECLASSES, old, {"provisioner": "q"}) == ["provisioner: Forbidden: updates to provisioner are forbidden."]
    assert update_causes(STORAGECLASSES, old, {"parameters": {"a": "b"}}) == ["parameters: Forbidden: updates to parameters are forbidden."]
    assert updated(STORAGECLASSES, old, {"allowVolumeExpansion": True})["allowVolumeExpansion"]


def test_nodes_change_in_few_fields():
    old = created(NODES, {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "providerID": "p"}})
    assert updated(NODES, old, {"spec": {"unschedulable": True}})["spec"]["unschedulable"]
    found = update_causes(NODES, old, {"spec": {"providerID": "q"}})
    assert found == ["spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"]


def test_finalizers_of_namespaces_have_a_subresource_of_their_own():
    old = created(NAMESPACES, {"metadata": {"name": "n"}})
    assert updated(NAMESPACES, old, {"spec": {"finalizers": []}})["spec"] == old["spec"]
    assert not updated(NAMESPACES, old, {"spec": {"finalizers": []}}, "finalize")["spec"].get("finalizers")


def test_field_selectors_know_the_fields_of_each_kind():
    expected = [
        (NAMESPACES, {"metadata": {"name": "n"}}, {"name": "n", "status.phase": "Active"}), (SECRETS, {}, {"type": "Opaque"}),
        (NODES, {}, {"spec.unschedulable": "false"}),
    ]  # fmt: skip
    for resource, obj, fields in expected:
        assert strategy(resource).selectable_fields(created(resource, obj)) == fields
    event = created(EVENTS, {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "type": "Normal"})
    fields = strategy(EVENTS).selectable_fields(event)
    assert (fields["involvedObject.kind"], fields["reason"], fields["type"]) == ("Pod", "R", "Normal")


def test_accounts_keep_their_secrets():
    old = created(SERVICEACCOUNTS, {"secrets": [{"name": "s"}]})
    assert updated(SERVICEACCOUNTS, old, {"imagePullSecrets": [{"name": "i"}]})["secrets"] == [{"name": "s"}]


def test_the_server_notes_when_the_phase_of_a_volume_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strategy(PERSISTENTVOLUMES, "status"), "clock", VirtualClock())
    old = created(PERSISTENTVOLUMES, volume())
    assert updated(PERSISTENTVOLUMES, old, {"status": {"phase": "Pending"}}, "status")["status"] == old["status"]
    told = {"phase": "Released", "lastPhaseTransitionTime": "2020-01-01T00:00:00Z"}
    assert updated(PERSISTENTVOLUMES, old, {"status": told}, "status")["status"] == told
    old["status"]["lastPhaseTransitionTime"] = "2020-01-01T00:00:00Z"
    changed = updated(PERSISTENTVOLUMES, old, {"status": {"phase": "Available"}}, "status")["status"]
    assert changed["phase"] == "Available"
    assert changed["lastPhaseTransitionTime"] > "2020-01-01T00:00:00Z"

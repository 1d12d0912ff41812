"""Dynamic resource allocation: claims, classes and slices keep to the rules of Kubernetes, in all their versions."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.cel.devices import most_cost
from kubecosm.services.apiserver.rest.devices import CONVERSIONS
from kubecosm.testing.virtualtime import VirtualClock

from .kinds import causes, created, resource_of, strategy, update_causes, updated

CLAIMS = resource_of("resource.k8s.io/v1", "resourceclaims")
TEMPLATES = resource_of("resource.k8s.io/v1", "resourceclaimtemplates")
CLASSES = resource_of("resource.k8s.io/v1", "deviceclasses")
SLICES = resource_of("resource.k8s.io/v1", "resourceslices")
OLD_CLAIMS = resource_of("resource.k8s.io/v1beta1", "resourceclaims")


def claim(**exactly: Any) -> dict[str, Any]:
    return {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", **exactly}}]}}}


def devices(*found: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": "p", "resourceSliceCount": 1}
    return {"spec": {"driver": "d.example.com", "pool": pool, "nodeName": "n", "devices": list(found), **spec}}


def test_claims_ask_for_one_device():
    (request,) = created(CLAIMS, claim())["spec"]["devices"]["requests"]
    assert request == {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}
    template = created(TEMPLATES, {"spec": {"spec": claim(allocationMode="All")["spec"]}})
    assert template["spec"]["spec"]["devices"]["requests"][0]["exactly"] == {"deviceClassName": "c", "allocationMode": "All"}


def selector(expression):
    return {"cel": {"expression": expression}}


_PATH = "spec.devices.requests[0]"
BAD_CLAIMS = [
    ({"spec": {"devices": {"requests": [{"name": "r"}]}}},
     [f"{_PATH}: Required value: exactly one of `exactly` or `firstAvailable` is required"]),
    (claim(deviceClassName=""), [f"{_PATH}.exactly.deviceClassName: Required value"]),
    (claim(allocationMode="Some"),
     [f'{_PATH}.exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"']),
    (claim(allocationMode="All", count=2),
     [f"{_PATH}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"]),
    (claim(selectors=[{}]), [f"{_PATH}.exactly.selectors[0].cel: Required value"]),
    (claim(selectors=[selector("device.driver == 'x'"), selector("device.driver")]),
     [f'{_PATH}.exactly.selectors[1].cel.expression: Invalid value: "device.driver": '
      "must evaluate to bool or the unknown type, not string"]),
    (claim(selectors=[selector("device.nope")]),
     [f'{_PATH}.exactly.selectors[0].cel.expression: Invalid value: "device.nope": compilation failed: '
      "ERROR: <input>:1:7: undefined field 'nope'\n | device.nope\n | ......^"]),
    ({"spec": {"devices": {**claim()["spec"]["devices"], "constraints": [{"requests": ["other"], "matchAttribute": "x"}]}}},
     ['spec.devices.constraints[0].requests[0]: Invalid value: "other": must be the name of a request in the claim or the name of a '
      "request and a subrequest separated by '/'",
      'spec.devices.constraints[0].matchAttribute: Invalid value: "x": must include a domain']),
    ({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}] * 2}}},
     ['spec.devices.requests[1].name: Duplicate value: "r"']),
]  # fmt: skip


def test_classes_select_by_expressions_that_compile():
    created(CLASSES, {"spec": {"selectors": [selector("cel.bind(own, device.attributes['x.example.com'], own.a && own.b)")]}})
    (cause,) = causes(CLASSES, {"spec": {"selectors": [selector("1")]}})
    assert cause == 'spec.selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int'


def test_selectors_that_may_cost_too_much_are_refused():
    loops = "true"
    for name in "abcd":
        loops = f"device.attributes.all({name}, {loops})"
    (cause,) = causes(CLASSES, {"spec": {"selectors": [selector(loops)]}})
    assert cause == "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"


@pytest.mark.parametrize(
    ("expression", "most"),
    [
        ("true", 0), ('device.driver == ""', 2), ('device.driver == "dra.example.com"', 4), ('"no-such-domain" in device.attributes', 3),
        ('device.attributes["dra.example.com"].name', 4), ('device.attributes["dra.example.com"]["name"]', 4),
        ('device.attributes["dra.example.com"].name == "fish"', 5), ('device.attributes["dra.example.com"].name > 0', 5),
        ('device.attributes["no-such-domain"].noSuchAttr.isGreaterThan(quantity("0"))', 6),
        ('cel.bind(dra, device.attributes["dra.example.com"], dra.name)', 15),
    ],
)  # fmt: skip
def test_the_most_that_selectors_may_cost_is_estimated_as_kubernetes_does(expression, most):
    assert most_cost(expression) == most


@pytest.mark.parametrize(("obj", "expected"), BAD_CLAIMS)
def test_bad_claims_are_refused(obj, expected):
    assert causes(CLAIMS, obj) == expected


BAD_SLICES = [
    (devices(nodeName=None),
     ["spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"]),
    (devices(allNodes=True),
     ['spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is '
      "required, but multiple fields are set"]),
    (devices(pool={"name": "p"}), ["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"]),
    (devices({"name": "a"}, {"name": "a"}), ['spec.devices[1].name: Duplicate value: "a"']),
    (devices({"name": "a", "attributes": {"v": {"version": "1"}}}),
     ['spec.devices[0].attributes[v].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0']),
    (devices({"name": "a", "attributes": {"v": {}}}),
     ["spec.devices[0].attributes[v]: Required value: exactly one value must be specified"]),
    (devices({"name": "a", "taints": [{"key": "k"}]}), ["spec.devices[0].taints[0].effect: Required value"]),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "expected"), BAD_SLICES)
def test_bad_slices_are_refused(obj, expected):
    assert causes(SLICES, obj) == expected


def test_what_is_claimed_stays():
    old = created(CLAIMS, claim())
    (cause,) = update_causes(CLAIMS, old, {"spec": claim(count=2)["spec"]})
    assert cause.startswith("spec: Invalid value: {")
    assert cause.endswith(": field is immutable")


def test_the_driver_and_pool_of_a_slice_stay():
    old = created(SLICES, devices())
    assert update_causes(SLICES, old, {"spec": {"driver": "other", "pool": {"name": "q"}}}) == [
        'spec.pool.name: Invalid value: "q": field is immutable', 'spec.driver: Invalid value: "other": field is immutable',
    ]  # fmt: skip
    assert updated(SLICES, old, {"spec": {"pool": {"generation": 1}}})["metadata"]["generation"] == 2
    assert strategy(SLICES).selectable_fields(old) == {"spec.nodeName": "n", "spec.driver": "d.example.com"}


def test_reservations_need_an_allocation():
    old = created(CLAIMS, claim())
    consumer = {"resource": "pods", "name": "p", "uid": "1"}
    assert update_causes(CLAIMS, old, {"status": {"reservedFor": [consumer]}}, "status") == [
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    ]


def test_classes_may_carry_configuration_for_drivers():
    config = [{"opaque": {"driver": "d", "parameters": {"a": 1}}}]
    assert created(CLASSES, {"spec": {"config": config}})["metadata"]["generation"] == 1
    assert causes(CLASSES, {"spec": {"config": [{"opaque": {"driver": "d", "parameters": [1]}}]}}) == [
        'spec.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object'
    ]


def test_old_versions_say_the_same_in_another_shape():
    flat = {"spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "c"}, {"name": "s", "firstAvailable": [{"name": "t"}]}]}}}
    strategy(OLD_CLAIMS).default(flat)
    to_new, to_old = CONVERSIONS["resourceclaims"]
    new = to_new({"apiVersion": "resource.k8s.io/v1beta1", **flat})
    first, second = new["spec"]["devices"]["requests"]
    assert first == {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}
    assert "exactly" not in second
    assert to_old(new) == {"apiVersion": "resource.k8s.io/v1beta1", **flat}


def test_old_slices_keep_what_a_device_is_in_basic():
    to_new, to_old = CONVERSIONS["resourceslices"]
    old = {"apiVersion": "resource.k8s.io/v1beta1", "spec": {"devices": [{"name": "a", "basic": {"attributes": {"x": {"int": 1}}}}]}}
    new = to_new(old)
    assert new["spec"]["devices"] == [{"name": "a", "attributes": {"x": {"int": 1}}}]
    assert to_old(new) == old


def test_the_server_notes_when_a_taint_of_a_device_was_added(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strategy(SLICES), "clock", VirtualClock())
    taints = [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "None", "timeAdded": "2020-01-01T00:00:00Z"}]
    made = created(SLICES, devices({"name": "d", "taints": taints}))
    first, second = (taint["timeAdded"] for taint in made["spec"]["devices"][0]["taints"])
    assert first > second == "2020-01-01T00:00:00Z"

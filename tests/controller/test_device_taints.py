"""Pods leave devices with NoExecute taints as they tolerate them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import EVENTS, PODS, RESOURCECLAIMS, RESOURCESLICES, Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.services.controller.workloads.device_taint_eviction import DeviceTaintEviction, plan_eviction, taints_of_pool

from .fake_api import FakeApi
from .harness import controllers, run, settle, wait_for

DRIVER, POOL = "gpu.example.com", "pool"
NOW = parse_time("2026-01-01T00:00:00Z")
TAINT = {"key": "broken", "value": "yes", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}

TOLERATIONS = [
    ([], 0.0),
    ([{"operator": "Exists", "effect": "NoExecute"}], None),
    ([{"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}], 60.0),
    ([{"key": "broken", "value": "yes", "effect": "NoExecute", "tolerationSeconds": -5}], 0.0),
    ([{"key": "broken", "operator": "Exists", "effect": "NoSchedule"}], 0.0),
    ([{"key": "broken", "value": "no", "effect": "NoExecute"}], 0.0),
    ([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": s} for s in (90, 30)], 30.0),
]


def a_slice(taints: list[Object], generation: int = 1, name: str = "s") -> Object:
    pool = {"name": POOL, "generation": generation, "resourceSliceCount": 1}
    return {"metadata": {"name": name}, "spec": {"driver": DRIVER, "pool": pool, "devices": [{"name": "d", "taints": taints}]}}


def a_claim(uid: str = "", **result: Any) -> Object:
    results = [{"request": "r", "driver": DRIVER, "pool": POOL, "device": "d", **result}]
    users = [{"resource": "pods", "name": "p", "uid": uid}]
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": users}
    return {"metadata": {"name": "c", "namespace": "default"}, "spec": {}, "status": status}


def a_pod() -> Object:
    spec = {"containers": [], "nodeName": "n", "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": spec, "status": {"phase": "Running"}}


@pytest.mark.parametrize(("tolerations", "seconds"), TOLERATIONS)
def test_the_shortest_toleration_decides(tolerations: list[Object], seconds: float | None) -> None:
    end = plan_eviction(a_claim(tolerations=tolerations), {f"{DRIVER}/{POOL}": {"d": [TAINT]}}, NOW)
    assert (None if end is None else (end - NOW).total_seconds()) == seconds


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    assert taints_of_pool([a_slice([TAINT]), a_slice([], 2)]) == {}
    assert taints_of_pool([a_slice([{**TAINT, "effect": "NoSchedule"}, TAINT])]) == {"d": [TAINT]}


def test_a_pod_leaves_its_tainted_device_and_is_told_why() -> None:
    async def test(api: FakeApi) -> None:
        pod = api.put(PODS, a_pod())
        api.put(RESOURCECLAIMS, a_claim(pod["metadata"]["uid"]))
        published = api.put(RESOURCESLICES, a_slice([{**TAINT, "effect": "NoSchedule"}]))
        async with controllers(api, DeviceTaintEviction()):
            await settle()
            assert not api.count("delete", "pods")
            api.put(RESOURCESLICES, {**published, "spec": a_slice([TAINT])["spec"]})
            await wait_for(lambda: api.count("delete", "pods"))
        for left in api.all(PODS):
            condition = get_condition(left, "DisruptionTarget")
            assert condition is not None
            assert (condition["status"], condition["reason"]) == ("True", "DeletionByDeviceTaintManager")
        [event] = api.all(EVENTS)
        assert (event["type"], event["reason"], event["message"]) == ("Normal", "DeviceTaintManagerEviction", "Marking for deletion")

    run(test)


def test_a_pod_may_stay_when_the_taint_goes_in_time() -> None:
    async def test(api: FakeApi) -> None:
        pod = api.put(PODS, a_pod())
        patience = [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
        api.put(RESOURCECLAIMS, a_claim(pod["metadata"]["uid"], tolerations=patience))
        published = api.put(RESOURCESLICES, a_slice([{**TAINT, "timeAdded": format_time(api.clock.now())}]))
        async with controllers(api, DeviceTaintEviction()):
            await settle(30)
            api.put(RESOURCESLICES, {**published, "spec": a_slice([])["spec"]})
            await settle(60)
        assert not api.count("delete", "pods")
        assert [event["message"] for event in api.all(EVENTS)] == ["Cancelling deletion"]

    run(test)

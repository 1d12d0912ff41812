"""Zone hints in proportion to the CPUs of zones (topology-mode: Auto), as pure plans and in virtual time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kubecosm.api.meta import Key
from kubecosm.api.names import ANNOTATION_TOPOLOGY_HINTS, ANNOTATION_TOPOLOGY_MODE, LABEL_NODE_ROLE_CONTROL_PLANE, LABEL_ZONE
from kubecosm.api.resources import ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES, Object
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.network import endpointslice
from kubecosm.services.controller.network.topology import Topology
from kubecosm.services.controller.network.zone_hints import (
    Draft,
    Share,
    is_overloaded,
    plan_hints,
    plan_moves,
    plan_shares,
    wants_hints,
)

from .fake_api import FakeApi
from .harness import controllers, node, run, settle, wait_for


def endpoint(address: str, zone: str, *, ready: bool = True, hint: str = "") -> Object:
    one: Object = {"addresses": [address], "conditions": {"ready": ready}, "zone": zone}
    return {**one, "hints": {"forZones": [{"name": hint}]}} if hint else one


def hints_of(*slices: Object) -> Counter[str]:
    return Counter(e["hints"]["forZones"][0]["name"] for s in slices for e in s["endpoints"] if "hints" in e)


@pytest.mark.parametrize(
    ("ratios", "endpoints", "found"),
    [
        pytest.param({"a": 0.5, "b": 0.5}, 4, {"a": Share(2, 2, 2.0), "b": Share(2, 2, 2.0)}, id="even"),
        pytest.param({"a": 0.75, "b": 0.25}, 6, {"a": Share(4, 4, 4.5), "b": Share(2, 2, 2.0)}, id="by CPU"),
        pytest.param({"a": 0.5, "b": 0.5}, 12, {"a": Share(5, 7, 6.0), "b": Share(5, 7, 6.0)}, id="some to spare"),
        pytest.param({"a": 0.5, "b": 0.5}, 1, "Insufficient number of endpoints (1 endpoints, 2 zones)", id="too few"),
        pytest.param(
            {"a": 0.34, "b": 0.33, "c": 0.33}, 4,
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (4 endpoints, 3 zones)",
            id="overload",
        ),
        pytest.param(
            None, 4, "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes", id="unknown nodes"
        ),
    ],
)  # fmt: skip
def test_zones_share_endpoints_as_they_share_cpus(ratios: Any, endpoints: int, found: Any) -> None:
    assert plan_shares(ratios, endpoints) == found


def test_a_zone_with_too_many_endpoints_gives_some_to_those_with_too_few() -> None:
    shares = {"a": Share(2, 2, 2.0), "b": Share(2, 2, 2.0)}
    assert plan_moves(shares, {"a": 4}) == ({"a": 2}, {"b": 2})
    one_and_a_half = {"a": Share(1, 2, 1.5), "b": Share(1, 2, 1.5)}
    assert plan_moves(one_and_a_half, {"a": 2, "b": 1}) == ({}, {})  # half an endpoint each: nothing is gained


def test_new_slices_get_hints_in_proportion() -> None:
    new = {"addressType": "IPv4", "endpoints": [endpoint(f"1.1.1.{i}", "a") for i in range(3)] + [endpoint("1.1.2.0", "b")]}
    draft, counts = plan_hints({"a": 0.5, "b": 0.5}, Draft([new], [], []))
    assert hints_of(*draft.create) == {"a": 2, "b": 2} == counts
    assert draft.create[0]["endpoints"][3]["hints"]["forZones"][0]["name"] == "b"
    assert "hints" not in new["endpoints"][0], "what was given is not changed"


def test_a_slice_whose_hints_still_fit_is_left_alone_and_another_makes_up_for_it() -> None:
    old = {"metadata": {"name": "old"}, "endpoints": [endpoint("1.1.1.1", "a", hint="b"), endpoint("1.1.1.2", "a", hint="a")]}
    new = {"endpoints": [endpoint("1.1.1.3", "a"), endpoint("1.1.1.4", "b")]}
    draft, counts = plan_hints({"a": 0.5, "b": 0.5}, Draft([new], [], [old]))
    assert (draft.unchanged, draft.update, counts) == ([old], [], {"a": 2, "b": 2})


@pytest.mark.parametrize("hint", [pytest.param("gone", id="zone without nodes"), pytest.param("", id="no hint")])
def test_a_slice_whose_hints_fit_no_longer_is_written_over(hint: str) -> None:
    old = {"metadata": {"name": "old"}, "endpoints": [endpoint("1.1.1.1", "a", hint=hint), endpoint("1.1.1.2", "b", hint="b")]}
    draft, _ = plan_hints({"a": 0.5, "b": 0.5}, Draft([], [], [old]))
    assert draft.unchanged == []
    assert hints_of(*draft.update) == {"a": 1, "b": 1}


def test_an_endpoint_without_a_zone_takes_the_hints_from_all() -> None:
    old = {"metadata": {"name": "old"}, "endpoints": [endpoint("1.1.1.1", "a", hint="a"), endpoint("1.1.1.2", "b", hint="b")]}
    new = {"endpoints": [endpoint("1.1.1.3", ""), endpoint("1.1.1.4", "a")]}
    draft, found = plan_hints({"a": 0.5, "b": 0.5}, Draft([new], [], [old]))
    assert found == "One or more endpoints do not have a zone specified"
    assert hints_of(*draft.update, *draft.create) == {}
    assert len(draft.update) == 1


def test_endpoints_that_are_not_ready_get_no_hint_and_are_not_counted() -> None:
    new = {"endpoints": [endpoint("1.1.1.1", "a"), endpoint("1.1.1.2", "b"), endpoint("1.1.1.3", "b", ready=False)]}
    draft, counts = plan_hints({"a": 0.5, "b": 0.5}, Draft([new], [], []))
    assert counts == {"a": 1, "b": 1}
    assert "hints" not in draft.create[0]["endpoints"][2]


@pytest.mark.parametrize(
    ("annotations", "wanted"),
    [
        pytest.param({ANNOTATION_TOPOLOGY_MODE: "Auto"}, True, id="Auto"),
        pytest.param({ANNOTATION_TOPOLOGY_MODE: "Disabled"}, False, id="Disabled"),
        pytest.param({ANNOTATION_TOPOLOGY_HINTS: "auto"}, True, id="older name"),
        pytest.param({ANNOTATION_TOPOLOGY_HINTS: "disabled", ANNOTATION_TOPOLOGY_MODE: "Auto"}, False, id="the older one wins"),
        pytest.param({}, False, id="none"),
    ],
)
def test_an_annotation_asks_for_hints(annotations: dict[str, str], wanted: bool) -> None:
    assert wants_hints({"metadata": {"annotations": annotations}}) is wanted


def test_a_service_is_overloaded_when_a_zone_lacks_endpoints() -> None:
    ratios = {"a": 0.5, "b": 0.5}
    assert not is_overloaded({"a": 5, "b": 5}, ratios)
    assert not is_overloaded({"a": 6, "b": 5}, ratios)
    assert is_overloaded({"a": 8, "b": 2}, ratios)
    assert is_overloaded({"a": 8}, ratios)
    assert is_overloaded({"a": 1}, None)
    assert not is_overloaded({}, None)


def cpu_node(name: str, zone: str, cpu: str = "4", *, ready: bool = True, **labels: str) -> Object:
    body = node(name, **({LABEL_ZONE: zone} if zone else {}), **labels)
    body["status"] = {"conditions": [{"type": "Ready", "status": str(ready)}], "allocatable": {"cpu": cpu}}
    return body


def test_shares_follow_the_nodes_one_by_one() -> None:
    topology = Topology()
    topology.learn([cpu_node("n0", "a"), cpu_node("n1", "b"), cpu_node("n2", "b", "8"), cpu_node("n3", "c", ready=False)])
    assert topology.ratios == {"a": 0.25, "b": 0.75}
    topology.node_changed("n2", None)
    assert topology.ratios == {"a": 0.5, "b": 0.5}
    topology.node_changed("n4", cpu_node("n4", ""))
    assert topology.ratios is None, "a node without a zone: nothing is known"
    topology.node_changed("n4", cpu_node("n4", "a", "4000m"))
    assert topology.ratios == {"a": 8 / 12, "b": 4 / 12}
    topology.node_changed("n4", cpu_node("n4", "a", **{LABEL_NODE_ROLE_CONTROL_PLANE: ""}))
    assert topology.ratios == {"a": 0.5, "b": 0.5}
    topology.node_changed("n1", None)
    assert topology.ratios is None, "one zone alone"


def auto_service(**annotations: str) -> Object:
    meta = {"name": "web", "namespace": "default", "annotations": {ANNOTATION_TOPOLOGY_MODE: "Auto", **annotations}}
    return {"metadata": meta, "spec": {"selector": {"app": "web"}, "clusterIP": "127.32.0.5", "ports": [{"port": 80}]}}


def pod(index: int, node_name: str) -> Object:
    return {
        "metadata": {"name": f"web-{index}", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node_name, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": f"127.64.0.{index}", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def served_hints(api: FakeApi) -> Counter[str]:
    return hints_of(*api.all(ENDPOINTSLICES))


def told(api: FakeApi) -> list[tuple[str, str]]:
    return [(e["reason"], e["message"]) for e in api.all(EVENTS)]


def test_hints_come_with_the_annotation_move_with_the_nodes_and_go_with_it() -> None:
    async def test(api: FakeApi) -> None:
        for name, zone in (("n0", "a"), ("n1", "b")):
            api.put(NODES, cpu_node(name, zone))
        for index in range(6):
            api.put(PODS, pod(index, "n0" if index < 5 else "n1"))
        async with controllers(api, endpointslice.build(Config())):
            await api.create(SERVICES, auto_service())
            await wait_for(lambda: served_hints(api) == {"a": 3, "b": 3})
            api.put(NODES, cpu_node("n2", "a", "8"))
            await wait_for(lambda: served_hints(api) == {"a": 4, "b": 2})
            found = api.objects[SERVICES][Key("default", "web")]
            api.put(SERVICES, {**found, "metadata": {**found["metadata"], "annotations": {}}})
            await wait_for(lambda: not served_hints(api))
            await settle()
        assert told(api) == [
            ("TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled, addressType: IPv4"),
            ("TopologyAwareHintsDisabled", "Topology Aware Hints has been disabled, addressType: IPv4"),
        ]
        assert api.all(EVENTS)[0]["source"]["component"] == "endpoint-slice-controller"

    run(test)


def test_hints_are_withdrawn_when_the_last_node_of_a_zone_goes() -> None:
    async def test(api: FakeApi) -> None:
        for name, zone in (("n0", "a"), ("n1", "b")):
            api.put(NODES, cpu_node(name, zone))
        for index in range(4):
            api.put(PODS, pod(index, f"n{index % 2}"))
        async with controllers(api, endpointslice.build(Config())):
            await api.create(SERVICES, auto_service())
            await wait_for(lambda: served_hints(api) == {"a": 2, "b": 2})
            api.put(NODES, cpu_node("n1", "b", ready=False))
            await wait_for(lambda: not served_hints(api))
            await settle()
        assert "Insufficient Node information" in told(api)[-1][1]

    run(test)


def test_a_pod_whose_node_is_gone_is_no_endpoint() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("n0"))
        api.put(PODS, pod(1, "n0"))
        api.put(PODS, pod(2, "gone"))
        async with controllers(api, endpointslice.build(Config())):
            await api.create(SERVICES, auto_service())
            await wait_for(lambda: api.all(ENDPOINTSLICES) and api.all(EVENTS))
            assert [e["addresses"] for e in api.all(ENDPOINTSLICES)[0]["endpoints"]] == [["127.64.0.1"]]
            await settle()
        failure = ("FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service default/web: "
                   "skipping Pod web-2 for Service default/web: Node gone Not Found")  # fmt: skip
        assert failure in told(api)

    run(test)

"""Which range of pod addresses a node gets."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import EVENTS, NODES, Object
from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.services.controller.cluster.node_ipam import NodeIpam, Ranges

from .fake_api import FakeApi
from .harness import controllers, node, run, settle, wait_for


def ranges_of(api: FakeApi) -> dict[str, str | None]:
    return {found["metadata"]["name"]: found["spec"].get("podCIDR") for found in api.all(NODES)}


def held(name: str, cidr: str) -> Object:
    return {**node(name), "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}


def test_ranges_in_use_of_any_size_and_those_of_services_are_not_given() -> None:
    ranges = Ranges("10.0.0.0/21", 24, service_cidr="10.0.1.0/24")
    ranges.occupy("10.0.0.128/25", "half")
    ranges.occupy("10.0.2.0/23", "double")
    ranges.occupy("192.0.2.0/24", "elsewhere")
    assert [ranges.allocate(name) for name in "abcd"] == ["10.0.4.0/24", "10.0.5.0/24", "10.0.6.0/24", "10.0.7.0/24"]
    assert ranges.allocate("e") is None
    assert ranges.allocate("b") == "10.0.5.0/24", "once and for all"
    assert ranges.release("double")
    assert ranges.allocate("e") == "10.0.2.0/24"
    assert not ranges.release("elsewhere")


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ranges of /16 do not fit into 10\.0\.0\.0/24"):
        Ranges("10.0.0.0/24", 16)


def test_a_new_node_gets_the_next_range_and_one_without_any_left_is_told() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, held("a", "10.0.0.0/24"))
        async with controllers(api, NodeIpam(Ranges("10.0.0.0/23", 24))):
            api.put(NODES, node("b"))
            await wait_for(lambda: ranges_of(api)["b"] == "10.0.1.0/24")
            api.put(NODES, node("c"))
            await wait_for(lambda: api.all(EVENTS))
            event = api.all(EVENTS)[0]
            assert (event["reason"], event["message"]) == ("CIDRNotAvailable", "Node c status is now: CIDRNotAvailable")
            await api.delete(NODES, "a")
            await wait_for(lambda: ranges_of(api)["c"] == "10.0.0.0/24")

    run(test)


def test_metrics_count_every_range_that_becomes_taken_or_free() -> None:
    registry = CollectorRegistry()

    def metered(name: str) -> float | None:
        return registry.get_sample_value(f"node_ipam_controller_{name}", {"clusterCIDR": "10.0.0.0/21"})

    async def test(api: FakeApi) -> None:
        api.put(NODES, held("a", "10.0.0.0/23"))
        async with controllers(api, NodeIpam(Ranges("10.0.0.0/21", 24, "10.0.2.0/24")), metrics=PrometheusClientMetrics(registry)):
            api.put(NODES, node("b"))
            await wait_for(lambda: ranges_of(api)["b"] == "10.0.3.0/24")
            api.put(NODES, held("c", "10.0.4.0/24"))
            await settle()
            assert [metered("cidrset_cidrs_allocations_total"), metered("cidrset_usage_cidrs")] == [5, 5 / 8]
            assert [metered("cidrset_allocation_tries_per_request_sum"), metered("cidrset_allocation_tries_per_request_count")] == [3, 1]
            await api.delete(NODES, "a")
            await wait_for(lambda: metered("cidrset_usage_cidrs") == 3 / 8)
            assert [metered("cidrset_cidrs_releases_total"), metered("cirdset_max_cidrs")] == [2, 8]

    run(test)


def test_a_range_that_cannot_be_written_is_told_and_given_again() -> None:
    async def test(api: FakeApi) -> None:
        for _ in range(3):
            api.answer_with(Forbidden("no"), "patch", "nodes")
        async with controllers(api, NodeIpam(Ranges("10.0.0.0/24", 24))):
            api.put(NODES, node("a"))
            await wait_for(lambda: ranges_of(api)["a"] == "10.0.0.0/24")
            await settle(1)
        (event,) = api.all(EVENTS)
        assert (event["reason"], event["message"]) == ("CIDRAssignmentFailed", "Node a status is now: CIDRAssignmentFailed")

    run(test)

"""Which address a Service of type LoadBalancer gets, and what is told of it."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from kubecosm.api.names import FINALIZER_LOAD_BALANCER
from kubecosm.api.resources import Object
from kubecosm.services.proxy.loadbalancer import NoAddress, choose_address, hosts_of, needs_cleanup, wants_balancer
from kubecosm.services.proxy.loadbalancerchanges import notices_of

from .objects import service

NETWORK = IPv4Network("127.48.0.0/29")


def balanced(name: str, ip: str = "", **spec: Any) -> Object:
    obj = service(name, **({"type": "LoadBalancer"} | spec))
    if ip:
        obj["status"] = {"loadBalancer": {"ingress": [{"ip": ip}]}}
    return obj


def test_a_service_gets_the_lowest_free_address_and_keeps_what_it_has() -> None:
    assert choose_address(balanced("b"), {"127.48.0.1"}, NETWORK) == "127.48.0.2"
    assert choose_address(balanced("a", "127.48.0.4"), set(), NETWORK) == "127.48.0.4"


def test_an_address_that_is_asked_for_is_given_if_it_is_free_and_ours() -> None:
    assert choose_address(balanced("a", "127.48.0.4", loadBalancerIP="127.48.0.5"), set(), NETWORK) == "127.48.0.5"
    for asked, taken, why in (
        ("127.48.0.5", {"127.48.0.5"}, "requested address 127.48.0.5 is in use"),
        ("192.0.2.1", set(), "requested address 192.0.2.1 is not in 127.48.0.0/29"),
        ("fd00::1", set(), "requested address fd00::1 is not in 127.48.0.0/29"),
    ):
        with pytest.raises(NoAddress) as refused:
            choose_address(balanced("a", loadBalancerIP=asked), taken, NETWORK)
        assert str(refused.value) == why


def test_a_full_range_leaves_the_rest_pending() -> None:
    with pytest.raises(NoAddress, match=r"no address of 127\.48\.0\.0/29 is free"):
        choose_address(balanced("a"), {str(ip) for ip in NETWORK.hosts()}, NETWORK)


def test_what_is_left_of_a_load_balancer_is_cleaned_up() -> None:
    kept = {"finalizers": [FINALIZER_LOAD_BALANCER]}
    changed, going = balanced("a", "127.48.0.1", type="ClusterIP"), balanced("b", "127.48.0.2")
    assert needs_cleanup(changed, NETWORK), "from before there were finalizers"
    assert not needs_cleanup(going, NETWORK)
    changed["metadata"] |= kept
    going["metadata"] |= kept | {"deletionTimestamp": "2026-01-02T03:04:05Z"}
    assert needs_cleanup(changed, NETWORK)
    assert needs_cleanup(going, NETWORK)


def test_foreign_classes_and_other_types_are_left_alone() -> None:
    foreign = balanced("a", "192.0.2.9", loadBalancerClass="example.com/lb")
    assert not wants_balancer(foreign)
    assert not wants_balancer(service("b"))
    assert not needs_cleanup(foreign, NETWORK)


def test_nodes_that_are_excluded_or_about_to_go_take_no_traffic() -> None:
    def node(name: str, *taints: str, **labels: str) -> Object:
        return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": [{"key": key} for key in taints]}}

    excluded = node("b", **{"node.kubernetes.io/exclude-from-external-load-balancers": ""})
    assert hosts_of([node("a"), excluded, node("c", "ToBeDeletedByClusterAutoscaler")]) == {"a"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param({}, {"clusterIP": "10.0.0.9"}, None, id="what it does not follow"),
        pytest.param({"type": "ClusterIP"}, {}, [("Type", "ClusterIP -> LoadBalancer")], id="it becomes one"),
        pytest.param(
            {}, {"loadBalancerSourceRanges": ["10.0.0.0/8", "192.0.2.0/24"]},
            [("LoadBalancerSourceRanges", "[] -> [10.0.0.0/8 192.0.2.0/24]")], id="ranges",
        ),
        pytest.param({}, {"ports": [{"port": 81}]}, [], id="ports, silently"),
        pytest.param({}, {"loadBalancerIP": "127.48.0.3"}, [("LoadbalancerIP", " -> 127.48.0.3")], id="address asked for"),
        pytest.param({}, {"externalIPs": ["192.0.2.1"]}, [("ExternalIP", "Count: 0 -> 1")], id="one more external address"),
        pytest.param(
            {"externalIPs": ["192.0.2.1"]}, {"externalIPs": ["192.0.2.2"]}, [("ExternalIP", "Added: 192.0.2.2")], id="another one"
        ),
        pytest.param(
            {"externalTrafficPolicy": "Cluster"}, {"externalTrafficPolicy": "Local"}, [("ExternalTrafficPolicy", "Cluster -> Local")],
            id="policy",
        ),
        pytest.param({}, {"healthCheckNodePort": 31000}, [("HealthCheckNodePort", "0 -> 31000")], id="port of the health check"),
    ],
)  # fmt: skip
def test_changes_that_a_load_balancer_follows_are_told(before: Object, after: Object, told: list[tuple[str, str]] | None) -> None:
    old, new = balanced("a", **before), balanced("a", **after)
    found = notices_of(old, new, wants_balancer(old), wants_balancer(new))
    assert (None if found is None else [(notice.reason, notice.message) for notice in found]) == told

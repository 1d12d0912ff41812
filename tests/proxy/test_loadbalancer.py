"""Which address a Service of type LoadBalancer gets."""

from ipaddress import IPv4Network
from typing import Any

from kubecosm.api.meta import Key
from kubecosm.api.resources import Object
from kubecosm.services.proxy.loadbalancer import plan_addresses

from .objects import service

NETWORK = IPv4Network("127.48.0.0/29")


def balanced(name: str, ip: str = "", **spec: Any) -> Object:
    obj = service(name, **({"type": "LoadBalancer"} | spec))
    if ip:
        obj["status"] = {"loadBalancer": {"ingress": [{"ip": ip}]}}
    return obj


def plan(*services: Object) -> dict[str, str | None]:
    return {key.name: ip for key, ip in plan_addresses(services, NETWORK).items() if isinstance(key, Key)}


def test_each_service_gets_the_lowest_free_address_and_keeps_what_it_has() -> None:
    assert plan(balanced("a", "127.48.0.1"), balanced("b"), balanced("c")) == {"b": "127.48.0.2", "c": "127.48.0.3"}


def test_an_address_that_is_asked_for_is_given_if_it_is_free_and_ours() -> None:
    assert plan(balanced("a", loadBalancerIP="127.48.0.5")) == {"a": "127.48.0.5"}
    assert plan(balanced("a", "127.48.0.5"), balanced("b", loadBalancerIP="127.48.0.5")) == {}
    assert plan(balanced("a", loadBalancerIP="192.0.2.1")) == {}


def test_a_service_that_is_no_load_balancer_any_more_loses_its_address() -> None:
    assert plan(balanced("a", "127.48.0.1", type="ClusterIP")) == {"a": None}


def test_foreign_classes_and_other_types_are_left_alone() -> None:
    assert plan(balanced("a", loadBalancerClass="example.com/lb"), service("b")) == {}


def test_a_full_range_leaves_the_rest_pending() -> None:
    services = [balanced(f"s{i}") for i in range(8)]
    assert len(plan(*services)) == 6

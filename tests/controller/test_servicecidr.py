"""ServiceCIDRs: ready when they are there, kept while addresses need them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import IPADDRESSES, SERVICECIDRS, Object
from kubecosm.services.controller.network import servicecidr
from kubecosm.services.controller.network.servicecidr import BLOCKED_MESSAGE, is_blocked

from .fake_api import FakeApi
from .harness import controllers, run, settle, wait_for


def cidr(*cidrs: str, name: str = "more") -> Object:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def address(name: str) -> Object:
    reference = {"group": "", "resource": "services", "namespace": "default", "name": "web"}
    return {"metadata": {"name": name}, "spec": {"parentRef": reference}}


def ready(api: FakeApi) -> list[Any]:
    return [(c["status"], c.get("reason"), c["message"]) for c in (api.all(SERVICECIDRS)[0].get("status") or {}).get("conditions") or ()]


def test_a_range_gets_its_finalizer_and_becomes_ready() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, servicecidr):
            await api.create(SERVICECIDRS, cidr("10.1.0.0/24"))
            await wait_for(lambda: ready(api) == [("True", "", "Kubernetes Service CIDR is ready")])
        assert api.all(SERVICECIDRS)[0]["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]

    run(test)


def test_a_range_goes_only_after_its_addresses() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, servicecidr):
            await api.create(SERVICECIDRS, cidr("10.1.0.0/24"))
            await wait_for(lambda: bool(ready(api)))
            await api.create(IPADDRESSES, address("10.1.0.7"))
            await api.delete(SERVICECIDRS, "more")
            await wait_for(lambda: ready(api) == [("False", "Terminating", BLOCKED_MESSAGE)])
            await settle()
            assert is_deleting(api.all(SERVICECIDRS)[0])
            await api.delete(IPADDRESSES, "10.1.0.7")
            await wait_for(lambda: not api.all(SERVICECIDRS))

    run(test)


@pytest.mark.parametrize(
    ("others", "addresses", "blocked"),
    [
        ([], ["10.1.0.7"], True),
        ([], ["10.2.0.7"], False),
        ([cidr("10.0.0.0/8")], ["10.1.0.7"], False),
        ([cidr("10.1.0.0/29")], ["10.1.0.7"], False),
        ([cidr("10.1.0.0/29")], ["10.1.0.7", "10.1.0.8"], True),
        ([cidr("fd00::/64")], ["10.1.0.7", "fd00::1"], True),
    ],
)
def test_an_address_needs_some_range(others: list[Object], addresses: list[str], blocked: bool) -> None:
    assert is_blocked(cidr("10.1.0.0/24"), others, addresses) is blocked

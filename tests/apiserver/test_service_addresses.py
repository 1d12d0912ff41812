"""Every ClusterIP has an IPAddress, addresses come from the ranges of ServiceCIDRs, ports and addresses from their dynamic bands first."""

from __future__ import annotations

import asyncio
import random
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.apiserver.registry.core.service_alloc import Allocator
from kubecosm.services.apiserver.registry.core.service_ranges import ADDRESS_BAND, PORT_BAND, AddressRange, Ranges, static_band
from kubecosm.services.apiserver.registry.strategy import Settings
from kubecosm.services.apiserver.serviceips.records import new_record, repair

from .harness import Api, with_api

SERVICES = "/api/v1/namespaces/default/services"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"
RANGES = "/apis/networking.k8s.io/v1/servicecidrs"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def ip_address(name: str, parent: str = "foo") -> dict[str, Any]:
    reference = {"resource": "things", "group": "example.com", "name": parent}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": name}, "spec": {"parentRef": reference}}


def service_cidr(name: str, *cidrs: str) -> dict[str, Any]:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


async def set_ready(api: Api, name: str, status: str = "True") -> None:
    condition = {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "", "message": ""}
    await api.merge(f"{RANGES}/{name}/status", {"status": {"conditions": [condition]}})


async def until(api: Api, path: str, code: int) -> None:
    async with asyncio.timeout(5):
        while (await api.raw("GET", path)).status != code:
            pass


def test_an_address_and_its_record_come_and_go_together(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        created = await api.create(SERVICES, service("web"))
        address = created["spec"]["clusterIP"]
        record = await api.get(f"{ADDRESSES}/{address}")
        assert record["spec"]["parentRef"] == {"group": "", "resource": "services", "namespace": "default", "name": "web"}
        assert record["metadata"]["labels"] == {
            "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }  # fmt: skip
        await api.get(f"{ADDRESSES}/127.32.0.1")  # that of the Service `kubernetes`
        await api.delete(f"{SERVICES}/web")
        await until(api, f"{ADDRESSES}/{address}", 404)
        again = await api.create(SERVICES, service("web", clusterIP=address))
        assert again["spec"]["clusterIP"] == address
        await until(api, f"{ADDRESSES}/{address}", 200)

    with_api(tmp_path, test)


def test_a_record_that_somebody_removed_comes_back_and_one_without_a_service_goes(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        address = (await api.create(SERVICES, service("web")))["spec"]["clusterIP"]
        await api.delete(f"{ADDRESSES}/{address}")
        await until(api, f"{ADDRESSES}/{address}", 200)
        stray = new_record("127.32.9.9", ("default", "gone"))
        await api.create(ADDRESSES, stray)
        await until(api, f"{ADDRESSES}/127.32.9.9", 404)

    with_api(tmp_path, test)


def test_addresses_that_others_have_taken_are_not_given_out(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ADDRESSES, ip_address("127.32.0.77"))
        status, answer = await api.call("POST", SERVICES, service("web", clusterIP="127.32.0.77"))
        assert (status, answer["message"].partition("failed")[2]) == (
            422, " to allocate IP 127.32.0.77: provided IP is already allocated",
        )  # fmt: skip
        await api.delete(f"{ADDRESSES}/127.32.0.77")
        await api.create(SERVICES, service("web", clusterIP="127.32.0.77"))

    with_api(tmp_path, test)


def test_addresses_come_from_every_service_cidr_that_is_ready(tmp_path: Path) -> None:
    """sig-network: ServiceCIDR and IPAddress API should support ServiceCIDR API operations."""
    async def test(api: Api) -> None:
        default = await api.get(f"{RANGES}/kubernetes")
        assert default["spec"]["cidrs"] == ["127.40.0.0/29"]
        async with api.watch(f"{RANGES}?watch=1&fieldSelector=metadata.name=kubernetes") as watch:
            while not (found := (await watch.next())["object"].get("status")):
                pass
            assert found["conditions"][0]["message"] == "Kubernetes default Service CIDR is ready"
        for number in range(5):
            await api.create(SERVICES, service(f"s{number}"))
        status, answer = await api.call("POST", SERVICES, service("one-too-many"))
        assert (status, answer["message"]) == (500, "failed to allocate a serviceIP: range is full")
        await api.create(RANGES, service_cidr("more", "127.41.0.0/24"))
        assert (await api.call("POST", SERVICES, service("not-yet")))[0] == 500
        await set_ready(api, "more")
        assert (await api.create(SERVICES, service("more")))["spec"]["clusterIP"].startswith("127.41.0.")
        assert (await api.create(SERVICES, service("wanted", clusterIP="127.41.0.9")))["spec"]["clusterIP"] == "127.41.0.9"
        await set_ready(api, "more", "False")
        assert (await api.call("POST", SERVICES, service("no-more")))[0] == 500
        await api.delete(f"{SERVICES}/s0")
        assert (await api.create(SERVICES, service("again")))["spec"]["clusterIP"].startswith("127.40.0.")
        status, answer = await api.call("POST", RANGES, service_cidr("bad", "127.41.0.1/24"))
        assert status == 422
        listed = await api.get(f"{RANGES}")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["kubernetes", "more"]
        patched = await api.merge(f"{RANGES}/more", {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        await api.delete(f"{RANGES}/more")

    with_api(tmp_path, test, service_cluster_ip_range="127.40.0.0/29")


def test_ip_addresses_are_objects_like_others(tmp_path: Path) -> None:
    """sig-network: ServiceCIDR and IPAddress API should support IPAddress API operations."""
    async def test(api: Api) -> None:
        created = await api.create(ADDRESSES, ip_address("192.168.1.1") | {"metadata": {"name": "192.168.1.1", "labels": {"t": "e"}}})
        async with api.watch(f"{ADDRESSES}?watch=1&labelSelector=t=e&resourceVersion={created['metadata']['resourceVersion']}") as watch:
            await api.merge(f"{ADDRESSES}/192.168.1.1", {"metadata": {"annotations": {"a": "b"}}})
            assert (await watch.next())["type"] == "MODIFIED"
            found = await api.get(f"{ADDRESSES}?labelSelector=t=e")
            assert [item["metadata"]["name"] for item in found["items"]] == ["192.168.1.1"]
            status, answer = await api.call(
                "PATCH", f"{ADDRESSES}/192.168.1.1", {"spec": {"parentRef": {"name": "bar"}}}, Content_Type="application/merge-patch+json"
            )
            assert (status, answer["reason"]) == (422, "Invalid")
            await api.delete(f"{ADDRESSES}?labelSelector=t=e")
            assert (await watch.next())["type"] == "DELETED"
        assert (await api.call("POST", ADDRESSES, ip_address("192.168.001.1")))[0] == 422

    with_api(tmp_path, test)


@pytest.mark.parametrize(
    ("size", "shape", "band"),
    [(16, ADDRESS_BAND, 0), (32, ADDRESS_BAND, 16), (4096, ADDRESS_BAND, 256), (1 << 20, ADDRESS_BAND, 256), (2768, PORT_BAND, 86),
     (16, PORT_BAND, 0), (100, PORT_BAND, 16), (60000, PORT_BAND, 128)],
)  # fmt: skip
def test_a_static_band_is_a_fraction_of_its_range_within_bounds(size: int, shape: tuple[int, int], band: int) -> None:
    assert static_band(size, shape) == band


def test_the_static_bands_are_given_out_last() -> None:
    rng, taken = random.Random(3), set[str]()
    addresses = AddressRange(ip_network("10.0.0.0/26"))
    given = []
    while (address := addresses.free(taken.__contains__, rng)) is not None:
        taken.add(address)
        given.append(int(address.rpartition(".")[2]))
    assert (len(given), len(set(given)), addresses.is_full) == (62, 62, True)
    assert min(given[:46]) == 17
    assert set(given[46:]) == set(range(1, 17))


def test_node_ports_come_from_above_the_static_band_while_there_are_any() -> None:
    allocator = Allocator(Settings(service_node_port_range=(30000, 30039)), random.Random(5))
    given = []
    for number in range(40):
        obj = service(f"s{number}", type="NodePort", ports=[{"port": 80, "protocol": "TCP"}])
        allocator.allocate(obj, None, dry_run=False)(True)
        given.append(obj["spec"]["ports"][0]["nodePort"])
    assert min(given[:24]) >= 30016
    assert sorted(given) == list(range(30000, 30040))


def test_ranges_of_another_family_are_left_out() -> None:
    ranges = Ranges(ip_network("10.0.0.0/28"))
    ranges.set_further([ip_network("fd00::/112"), ip_network("10.1.0.0/24")])
    assert not ranges.holds("fd00::5")
    assert ranges.holds("10.1.0.5")
    ranges.set_further([])
    assert not ranges.holds("10.1.0.5")


def test_what_a_record_needs() -> None:
    record = new_record("10.0.0.1", ("a", "b"))
    assert repair(None, ("a", "b")) == "create"
    assert repair(record, ("a", "b")) == ""
    assert repair(record, ("a", "c")) == "replace"
    assert repair(record, None) == "delete"
    assert repair(ip_address("10.0.0.1"), None) == ""

"""EndpointSlices, Endpoints and mirroring in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubecosm.api.errors import modified_conflict
from kubecosm.api.meta import Key, controller_of, labels_of
from kubecosm.api.names import LABEL_ENDPOINTSLICE_MANAGED_BY, LABEL_SERVICE_NAME, LABEL_ZONE
from kubecosm.api.resources import ENDPOINTS, ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES, Object
from kubecosm.api.times import parse_time
from kubecosm.runtime.flags import Duration
from kubecosm.services.controller.common import portorder
from kubecosm.services.controller.common.slices import SliceFrame, Wanted, plan_slices
from kubecosm.services.controller.common.triggers import TriggerTimes
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.network import endpoints, endpointslice, endpointslice_mirroring

from . import harness
from .fake_api import FakeApi
from .harness import controllers, node, settle, wait_for


def run(test: Callable[[FakeApi], Coroutine[Any, Any, None]]) -> None:
    """With the node that the pods are on."""

    async def with_node(api: FakeApi) -> None:
        api.put(NODES, node("node-0"))
        await test(api)

    harness.run(with_node)


def service(**spec: Any) -> Object:
    body = {"selector": {"app": "web"}, "clusterIP": "127.32.0.5", "ports": [{"name": "http", "port": 80, "targetPort": "web"}], **spec}
    return {"metadata": {"name": "web", "namespace": "default", "labels": {"team": "a"}}, "spec": body}


def pod(index: int, *, ready: bool = True, port: int = 8080, **meta: Any) -> Object:
    stamp = "2026-01-02T03:04:05Z"
    return {
        "metadata": {"name": f"web-{index}", "namespace": "default", "labels": {"app": "web", "tier": "front"}, **meta},
        "spec": {"nodeName": "node-0", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {
            "phase": "Running", "podIP": f"127.64.{index // 256}.{index % 256}",
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": stamp}],
        },
    }  # fmt: skip


SLICES = endpointslice.build(Config())
ENDPOINTS_CONTROLLER = endpoints.build(Config())
MIRROR = endpointslice_mirroring.build(Config())


def ready_addresses(api: FakeApi) -> list[str]:
    found = [e for s in api.all(ENDPOINTSLICES) for e in s["endpoints"] if e["conditions"]["ready"]]
    return sorted(e["addresses"][0] for e in found)


def test_a_slice_tells_addresses_ports_conditions_node_and_zone() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("node-0", **{LABEL_ZONE: "z1"}))
        api.put(PODS, pod(1))
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: ready_addresses(api) == ["127.64.0.1"])
        found = api.all(ENDPOINTSLICES)[0]
        assert found["metadata"]["name"].startswith("web-")
        assert labels_of(found) == {
            "team": "a", LABEL_SERVICE_NAME: "web", LABEL_ENDPOINTSLICE_MANAGED_BY: "endpointslice-controller.k8s.io",
        }  # fmt: skip
        assert controller_of(found)["kind"] == "Service"  # type: ignore[index]
        assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
        (endpoint,) = found["endpoints"]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert (endpoint["nodeName"], endpoint["zone"], endpoint["targetRef"]["name"]) == ("node-0", "z1", "web-1")

    run(test)


def test_a_terminating_pod_serves_but_is_not_ready_and_leaves_the_endpoints_object() -> None:
    async def test(api: FakeApi) -> None:
        for index in (1, 2):
            api.put(PODS, pod(index))
        async with controllers(api, SLICES, ENDPOINTS_CONTROLLER):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(ready_addresses(api)) == 2)
            await api.delete(PODS, "web-1", "default")
            await wait_for(lambda: ready_addresses(api) == ["127.64.0.2"])
            leaving = next(e for e in api.all(ENDPOINTSLICES)[0]["endpoints"] if e["targetRef"]["name"] == "web-1")
            assert leaving["conditions"] == {"ready": False, "serving": True, "terminating": True}
            await wait_for(lambda: [a["ip"] for a in api.all(ENDPOINTS)[0]["subsets"][0]["addresses"]] == ["127.64.0.2"])

    run(test)


def test_a_service_without_pods_has_an_empty_slice_and_gets_it_back_when_they_go() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(api.all(ENDPOINTSLICES)) == 1)
            assert api.all(ENDPOINTSLICES)[0]["endpoints"] == []
            created = api.put(PODS, pod(1))
            await wait_for(lambda: ready_addresses(api) == ["127.64.0.1"])
            api.remove(PODS, created)
            await wait_for(lambda: ready_addresses(api) == [])
            await settle()
            assert len(api.all(ENDPOINTSLICES)) == 1

    run(test)


def test_a_service_that_lingers_keeps_its_slices_true_but_gets_no_new_ones() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, pod(1))
        async with controllers(api, SLICES):
            wanted = service()
            wanted["metadata"]["finalizers"] = ["example.com/balancer"]
            await api.create(SERVICES, wanted)
            await wait_for(lambda: ready_addresses(api) == ["127.64.0.1"])
            await api.delete(SERVICES, "web", "default")
            api.put(PODS, pod(2))
            await wait_for(lambda: ready_addresses(api) == ["127.64.0.1", "127.64.0.2"])
            await api.delete(ENDPOINTSLICES, api.all(ENDPOINTSLICES)[0]["metadata"]["name"], "default")
            await settle()
            assert api.all(ENDPOINTSLICES) == []

    run(test)


def test_a_thousand_pods_fill_few_slices_and_are_written_in_batches() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, SLICES, ENDPOINTS_CONTROLLER):
            await api.create(SERVICES, service())
            await settle()
            for index in range(1000):
                api.put(PODS, pod(index))
                await api.clock.sleep(0.001)
            await wait_for(lambda: len(ready_addresses(api)) == 1000)
            await settle()
        sizes = [len(s["endpoints"]) for s in api.all(ENDPOINTSLICES)]
        assert 10 <= len(sizes) <= 13  # a few are not full: filling them would have cost more writes
        assert max(sizes) == 100
        assert api.count("update", "endpointslices") < 150
        assert api.count("update", "endpoints") < 40
        assert len(api.all(ENDPOINTS)[0]["subsets"][0]["addresses"]) == 1000

    run(test)


def test_pods_with_different_ports_go_to_different_slices() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, pod(1, port=8080))
        api.put(PODS, pod(2, port=9090))
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(ready_addresses(api)) == 2)
        assert sorted(s["ports"][0]["port"] for s in api.all(ENDPOINTSLICES)) == [8080, 9090]

    run(test)


def test_a_headless_service_names_its_pods() -> None:
    async def test(api: FakeApi) -> None:
        body = pod(1)
        body["spec"] |= {"hostname": "web-1", "subdomain": "web"}
        api.put(PODS, body)
        async with controllers(api, SLICES, ENDPOINTS_CONTROLLER):
            await api.create(SERVICES, service(clusterIP="None", ports=[]))
            await wait_for(lambda: len(ready_addresses(api)) == 1 and api.all(ENDPOINTS) and api.all(ENDPOINTS)[0]["subsets"])
        assert api.all(ENDPOINTSLICES)[0]["endpoints"][0]["hostname"] == "web-1"
        assert "service.kubernetes.io/headless" in labels_of(api.all(ENDPOINTSLICES)[0])
        assert api.all(ENDPOINTS)[0]["subsets"][0]["addresses"][0]["hostname"] == "web-1"

    run(test)


def test_a_pod_whose_labels_stop_matching_leaves() -> None:
    async def test(api: FakeApi) -> None:
        created = api.put(PODS, pod(1))
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(ready_addresses(api)) == 1)
            api.put(PODS, {**created, "metadata": {**created["metadata"], "labels": {"app": "other"}}})
            await wait_for(lambda: ready_addresses(api) == [])

    run(test)


def test_user_written_endpoints_are_mirrored_and_their_mirror_goes_with_them() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, SLICES, MIRROR):
            await api.create(SERVICES, service(selector=None))
            subset = {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}
            await api.create(ENDPOINTS, {"metadata": {"name": "web", "namespace": "default"}, "subsets": [subset]})
            await wait_for(lambda: ready_addresses(api) == ["10.0.0.1"])
            found = api.all(ENDPOINTSLICES)[0]
            assert labels_of(found)[LABEL_ENDPOINTSLICE_MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
            assert len(found["endpoints"]) == 2
            await api.delete(ENDPOINTS, "web", "default")
            await wait_for(lambda: not api.all(ENDPOINTSLICES))

    run(test)


def test_a_slice_that_cannot_be_written_is_told_and_tried_again() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, pod(1))
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(ready_addresses(api)) == 1)
            name = api.all(ENDPOINTSLICES)[0]["metadata"]["name"]
            api.answer_with(modified_conflict(ENDPOINTSLICES, name), "update", "endpointslices")
            api.put(PODS, pod(2))
            await wait_for(lambda: len(ready_addresses(api)) == 2 and api.all(EVENTS))
        (event,) = api.all(EVENTS)
        assert event["reason"] == "FailedToUpdateEndpointSlices"
        assert event["message"] == (
            f"Error updating Endpoint Slices for Service default/web: failed to update {name} EndpointSlice for Service default/web: "
            f'Operation cannot be fulfilled on endpointslices.discovery.k8s.io "{name}": '
            "the object has been modified; please apply your changes to the latest version and try again"
        )

    run(test)


def test_mirrored_subsets_are_repacked_and_no_more_than_a_thousand_addresses_each() -> None:
    http, dns = ({"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", 80), ("dns", 53)))
    both = [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]
    subsets = [
        {"addresses": both, "ports": [http]}, {"addresses": both, "ports": [dns]},
        {"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [dns, http]}, {"addresses": [{"ip": "fd00::1"}], "ports": [http, dns]},
    ]  # fmt: skip
    groups, skipped = endpointslice_mirroring.plan_groups({"subsets": subsets})
    assert [(group.address_type, group.ports, [endpoint["addresses"] for endpoint in group.endpoints]) for group in groups] == [
        ("IPv4", [dns, http], [["10.0.0.1"], ["10.0.0.2"]]), ("IPv6", [dns, http], [["fd00::1"]])
    ]  # fmt: skip
    assert [endpoint["conditions"]["ready"] for endpoint in groups[0].endpoints] == [True, False]
    assert skipped == 0

    async def test(api: FakeApi) -> None:
        async with controllers(api, MIRROR):
            await api.create(SERVICES, service(selector=None))
            many = {"addresses": [{"ip": f"10.0.{index // 250}.{index % 250 + 1}"} for index in range(1003)]}
            await api.create(ENDPOINTS, {"metadata": {"name": "web", "namespace": "default"}, "subsets": [many]})
            await wait_for(lambda: len(ready_addresses(api)) == 1000 and api.all(EVENTS))
        (event,) = api.all(EVENTS)
        assert event["reason"] == "TooManyAddressesToMirror"
        assert event["message"] == (
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped"
        )

    run(test)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        pytest.param([(300, 300), (300, 100)], [(300, 300), (300, 100)], id="room for all"),
        pytest.param([(300, 300), (300, 300)], [(300, 200), (300, 200)], id="those not ready share what is left"),
        pytest.param([(900, 5), (600, 0)], [(600, 0), (400, 0)], id="ready ones in proportion, the others not at all"),
        pytest.param([(1000, 0), (0, 3)], [(1000, 0)], id="no room for those not ready"),
        pytest.param([(501, 0), (501, 0), (1, 0)], [(500, 0), (500, 0)], id="rounding up takes from the last"),
    ],
)
def test_endpoints_keep_a_thousand_addresses(sizes: list[tuple[int, int]], kept: list[tuple[int, int]]) -> None:
    names = ("addresses", "notReadyAddresses")
    subsets = [{name: [{"ip": str(n)} for n in range(size)] for name, size in zip(names, pair, strict=True) if size} for pair in sizes]
    found, truncated = endpoints.plan_truncation(subsets)
    assert [tuple(len(subset.get(name, ())) for name in names) for subset in found] == kept
    assert truncated is (sizes != kept)


def test_changes_of_pods_wait_for_more_as_long_as_the_batch_period_says() -> None:
    config = Config(
        endpoint_updates_batch_period=Duration(10), endpointslice_updates_batch_period=Duration(18),
        mirroring_endpointslice_updates_batch_period=Duration(30),
    )  # fmt: skip
    working = [module.build(config) for module in (endpoints, endpointslice, endpointslice_mirroring)]

    def counted(api: FakeApi) -> list[int]:
        mirrored = [one for one in api.all(ENDPOINTSLICES) if one["metadata"]["labels"][LABEL_SERVICE_NAME] == "own"]
        subsets = [subset for one in api.all(ENDPOINTS) if one["metadata"]["name"] == "web" for subset in one["subsets"]]
        return [sum(len(subset["addresses"]) for subset in subsets), len(ready_addresses(api)) - len(mirrored), len(mirrored)]

    async def test(api: FakeApi) -> None:
        await api.create(SERVICES, service())
        await api.create(SERVICES, service(selector=None) | {"metadata": {"name": "own", "namespace": "default"}})
        async with controllers(api, *working):
            await api.clock.sleep(60)
            await api.create(ENDPOINTS, {"metadata": {"name": "own", "namespace": "default"}, "subsets": [
                {"addresses": [{"ip": "127.0.0.9"}], "ports": [{"port": 80, "protocol": "TCP"}]}]})  # fmt: skip
            for index, expected in enumerate(([0, 0, 0], [0, 0, 0], [3, 0, 0], [3, 0, 0], [3, 5, 0], [6, 5, 0], [6, 5, 1])):
                if index < 6:
                    api.put(PODS, pod(index + 1))
                await api.clock.sleep(4 if index < 6 else 10)
                seen.append((expected, counted(api)))

    seen: list[tuple[list[int], list[int]]] = []
    run(test)
    assert [got for _, got in seen] == [want for want, _ in seen]


def test_a_deleted_service_takes_its_endpoints_along() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, pod(1))
        async with controllers(api, ENDPOINTS_CONTROLLER):
            await api.create(SERVICES, service())
            await wait_for(lambda: api.all(ENDPOINTS))
            await api.delete(SERVICES, "web", "default")
            await wait_for(lambda: not api.all(ENDPOINTS))

    run(test)


def test_endpoints_that_a_user_wrote_go_with_their_service_and_stay_without_one() -> None:
    async def test(api: FakeApi) -> None:
        for name in ("web", "alone"):
            api.put(ENDPOINTS, {"metadata": {"name": name, "namespace": "default"}, "subsets": []})
        async with controllers(api, ENDPOINTS_CONTROLLER):
            await api.create(SERVICES, service(selector=None))
            await settle()
            assert len(api.all(ENDPOINTS)) == 2
            await api.delete(SERVICES, "web", "default")
            await wait_for(lambda: [found["metadata"]["name"] for found in api.all(ENDPOINTS)] == ["alone"])
            await settle()
        assert len(api.all(ENDPOINTS)) == 1

    run(test)


def endpoint(index: int, *, ready: bool = True) -> Object:
    return {"addresses": [f"127.64.0.{index}"], "conditions": {"ready": ready}, "targetRef": {"uid": f"u{index}"}}


def a_slice(name: str, *indices: int) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {}, "annotations": {}}, "addressType": "IPv4", "ports": [],
        "endpoints": [endpoint(index) for index in indices],
    }  # fmt: skip


FRAME = SliceFrame("web", "default", {"uid": "s"}, {}, {}, endpoints_max=3)


@pytest.mark.parametrize(
    ("existing", "wanted", "writes"),
    [
        pytest.param([a_slice("a", 1, 2)], [1, 2], (0, 0, 0), id="nothing to do"),
        pytest.param([a_slice("a", 1, 2)], [1, 2, 3], (0, 1, 0), id="a new one fits"),
        pytest.param([a_slice("a", 1, 2, 3)], [1, 2, 3, 4], (1, 0, 0), id="a new one does not fit"),
        pytest.param([a_slice("a", 1, 2, 3), a_slice("b", 4)], [1, 2, 3], (0, 0, 1), id="an emptied slice goes"),
        pytest.param([a_slice("a", 1, 2), a_slice("b", 3, 4)], [1, 5, 3, 4], (0, 1, 0), id="a changed slice takes the new one"),
        pytest.param([a_slice("a", 1)], [], (0, 1, 0), id="the last endpoint leaves its slice"),
        pytest.param([a_slice("a"), a_slice("b", 1, 2)], [1, 2, 3], (0, 1, 1), id="the fullest slice that has room takes it"),
        pytest.param([a_slice("a", 1)], [1, 2, 3, 4, 5, 6], (1, 1, 0), id="what is left of many fills an old slice"),
    ],
)
def test_slices_change_with_few_writes(existing: list[Object], wanted: list[int], writes: tuple[int, int, int]) -> None:
    plan = plan_slices(FRAME, [Wanted("IPv4", [], [endpoint(index) for index in wanted])], existing, None)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == writes


SPREAD = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "metrics", "port": 9153}]


def names_of(ports: list[Object]) -> list[str]:
    return [port["name"] for port in ports]


def test_ports_are_listed_in_the_order_that_kubernetes_hashes_give_them() -> None:
    """Known from clusters before 1.35, when MD5 was taken over the same texts: 9153,53,53 in slices; dns-tcp, dns, metrics in Endpoints."""
    ports = [portorder.Port.of(port) for port in SPREAD]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portorder, "fnv128a", lambda data: hashlib.md5(data).digest())
        assert [port.name for port in sorted(ports, key=portorder.place_in_slice.__wrapped__)] == ["metrics", "dns", "dns-tcp"]
        assert [port.name for port in sorted(ports, key=portorder.place_in_endpoints.__wrapped__)] == ["dns-tcp", "dns", "metrics"]
    assert f"{portorder.fnv128a(b'foobar'):032x}" == "343e1662793c64bf6f0d3597ba446f18"
    assert names_of(portorder.sorted_for_slice(reversed(SPREAD))) == ["dns", "dns-tcp", "metrics"]


def test_a_port_that_some_pods_lack_has_a_subset_of_its_own() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "admin", "port": 81, "targetPort": 9000}]
    with_port, without = pod(1), pod(2)
    for number, body in enumerate((with_port, without)):
        body["metadata"]["uid"] = f"u{number}"
    without["spec"] = {**without["spec"], "containers": [{"name": "c"}]}
    subsets = endpoints.plan_subsets(service(ports=ports), [with_port, without])
    found = {tuple(names_of(subset["ports"])): [address["ip"] for address in subset["addresses"]] for subset in subsets}
    assert found == {("http",): ["127.64.0.1"], ("admin",): ["127.64.0.1", "127.64.0.2"]}


def test_endpoints_are_of_the_first_family_of_their_service() -> None:
    body = pod(1)
    body["metadata"]["uid"] = "u1"
    body["status"]["podIPs"] = [{"ip": "127.64.0.1"}, {"ip": "fd00::1"}]
    for families, ip in ((["IPv6", "IPv4"], "fd00::1"), (["IPv4"], "127.64.0.1")):
        (subset,) = endpoints.plan_subsets(service(ipFamilies=families), [body])
        assert [address["ip"] for address in subset["addresses"]] == [ip]
    assert endpoints.plan_subsets(service(ipFamilies=["IPv6"]), [pod(1)]) == []


def test_the_trigger_time_is_the_oldest_change_since_the_last_sync() -> None:
    def ready(name: str, second: int) -> Object:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": f"2026-01-02T03:04:{second:02}Z"}
        return {"metadata": {"name": name}, "status": {"conditions": [condition]}}

    key, body = Key("default", "web"), service()
    body["metadata"]["creationTimestamp"] = "2026-01-02T03:00:00Z"
    triggers = TriggerTimes()
    seen = [triggers.changed(key, body, pods) for pods in (
        [ready("a", 5)], [ready("a", 5)], [ready("a", 9), ready("b", 7), ready("c", 8)], [ready("a", 9)],
    )]  # fmt: skip
    assert [moment and moment.strftime("%M:%S") for moment in seen] == ["00:00", None, "04:07", None]
    triggers.forget(key)
    assert triggers.changed(key, body, []) == parse_time("2026-01-02T03:00:00Z")


def test_slices_of_a_service_that_had_the_same_name_are_deleted_and_not_written_over() -> None:
    async def test(api: FakeApi) -> None:
        old = a_slice("web-old", 5)
        old["metadata"]["labels"] = {LABEL_SERVICE_NAME: "web", LABEL_ENDPOINTSLICE_MANAGED_BY: "endpointslice-controller.k8s.io"}
        old["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "gone", "controller": True}]
        api.put(ENDPOINTSLICES, old)
        api.put(PODS, pod(1))
        async with controllers(api, SLICES):
            await api.create(SERVICES, service())
            await wait_for(lambda: len(api.all(ENDPOINTSLICES)) == 1 and ready_addresses(api) == ["127.64.0.1"])
        assert api.all(ENDPOINTSLICES)[0]["metadata"]["name"] != "web-old"
        assert api.count("update", "endpointslices") == 0

    run(test)

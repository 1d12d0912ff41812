"""Resource claims: which devices they get, where their pods go, and what is written about it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.dra.allocator import Constraint, Search, needs_of
from kubecosm.services.scheduler.dra.devices import Device, Pools
from kubecosm.services.scheduler.dra.room import NOTHING_USED, Room, Usage

from .helpers import Cluster, node, pod

DRIVER = "gpu.example.com"
CLASS: Object = {
    "metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]},
}  # fmt: skip


def device(name: str, **attributes: Any) -> Object:
    kinds: dict[type, str] = {str: "string", int: "int", bool: "bool"}
    return {"name": name, "attributes": {key: {kinds[type(value)]: value} for key, value in attributes.items()}}


def resource_slice(name: str, *devices: Object, generation: int = 1, count: int = 1, pool: str = "", **where: Any) -> Object:
    version = {"name": pool or name, "generation": generation, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "pool": version, "devices": list(devices), **(where or {"nodeName": name})}
    return {"metadata": {"name": name}, "spec": spec}


def request(name: str = "r", **more: Any) -> Object:
    selectors = [{"cel": {"expression": text}} for text in more.pop("selectors", ())]
    return {"name": name, "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1, "selectors": selectors, **more}}


def claim(name: str, *requests: Object, **devices: Any) -> Object:
    meta = {"namespace": "default", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"devices": {"requests": list(requests or (request(),)), **devices}}}


def user(name: str, *claims: str, **more: Any) -> Object:
    return pod(name, resourceClaims=[{"name": f"c{index}", "resourceClaimName": one} for index, one in enumerate(claims)], **more)


def with_devices(*slices: Object, claims: tuple[Object, ...] = (), nodes: tuple[str, ...] = ("a", "b")) -> Cluster:
    cluster = Cluster(*(node(name) for name in nodes))
    devices = cluster.scheduler.handle.devices
    devices.set_class(CLASS)
    for one in slices:
        devices.pools.set_slice(one)
    for one in claims:
        devices.set_claim(one)
        cluster.api.resource_claims[f"default/{one['metadata']['name']}"] = one
    return cluster


def attempt(cluster: Cluster, one: Object) -> str:
    """Try a pod; what the informers then hear of claims."""
    [placed] = cluster.schedule(one)
    heard(cluster)
    return placed


def heard(cluster: Cluster) -> None:
    for one in cluster.api.resource_claims.values():
        cluster.scheduler.handle.devices.set_claim(one)


def results(cluster: Cluster, name: str) -> list[str]:
    status = cluster.api.resource_claims[f"default/{name}"].get("status") or {}
    return [result["device"] for result in ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()]


def test_a_pod_goes_where_its_claim_finds_a_device() -> None:
    cluster = with_devices(resource_slice("b", device("gpu-0")), claims=(claim("mine"),))
    assert attempt(cluster, user("p", "mine")) == "b"
    written = cluster.api.resource_claims["default/mine"]
    assert written["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
    assert written["status"] == {
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "uid-default-p"}],
        "allocation": {
            "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "b", "device": "gpu-0"}]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]},
            "allocationTimestamp": "2026-01-01T00:00:00Z",
        },
    }  # fmt: skip


def test_a_device_belongs_to_one_claim() -> None:
    cluster = with_devices(resource_slice("a", device("gpu-0")), claims=(claim("first"), claim("second")))
    assert attempt(cluster, user("p", "first")) == "a"
    assert attempt(cluster, user("q", "second")) == ""
    assert cluster.message("default/q").startswith("0/2 nodes are available: 2 cannot allocate all claims.")


def test_pods_share_a_claim_and_go_to_its_node() -> None:
    cluster = with_devices(resource_slice("b", device("gpu-0")), claims=(claim("shared"),))
    assert [attempt(cluster, user(name, "shared")) for name in ("p", "q")] == ["b", "b"]
    reserved = cluster.api.resource_claims["default/shared"]["status"]["reservedFor"]
    assert [one["name"] for one in reserved] == ["p", "q"]


def test_selectors_of_the_request_choose_the_device() -> None:
    mine = claim("mine", request(selectors=[f"device.attributes['{DRIVER}'].model == 'H100'"]))
    cluster = with_devices(resource_slice("a", device("gpu-0", model="A100"), device("gpu-1", model="H100")), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == "a"
    assert results(cluster, "mine") == ["gpu-1"]


def test_a_selector_that_fails_is_told() -> None:
    mine = claim("mine", request(selectors=["device.attributes['x.example.com'].model == 'H100'"]))
    cluster = with_devices(resource_slice("a", device("gpu-0")), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == ""
    assert "CEL runtime error: no such key: model" in cluster.message("default/p")


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([device("0", numa=0), device("1", numa=1), device("2", numa=1)], ["1", "2"]),
        ([device("0", numa=0), device("1", numa=1)], []),
        ([device("0"), device("1")], []),
    ],
    ids=["two match", "none match", "attribute missing"],
)
def test_devices_match_each_other(devices: list[Object], expected: list[str]) -> None:
    mine = claim("mine", request(count=2), constraints=[{"requests": [], "matchAttribute": f"{DRIVER}/numa"}])
    cluster = with_devices(resource_slice("a", *devices), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == ("a" if expected else "")
    assert results(cluster, "mine") == expected


def test_the_first_alternative_that_can_be_had_is_taken() -> None:
    alternatives = [
        {"name": "best", **request(selectors=[f"device.attributes['{DRIVER}'].best"])["exactly"]},
        {"name": "any", "deviceClassName": "gpu", "count": 2},
    ]
    mine = claim("mine", {"name": "r", "firstAvailable": alternatives})
    cluster = with_devices(resource_slice("a", device("0", best=False), device("1", best=False)), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == "a"
    given = cluster.api.resource_claims["default/mine"]["status"]["allocation"]["devices"]["results"]
    assert [(one["request"], one["device"]) for one in given] == [("r/any", "0"), ("r/any", "1")]


@pytest.mark.parametrize("best_on", ["a", "b"])
def test_a_node_with_the_preferred_alternative_is_preferred(best_on: str) -> None:
    alternatives = [
        {"name": "best", **request(selectors=[f"device.attributes['{DRIVER}'].best"])["exactly"]},
        {"name": "any", "deviceClassName": "gpu"},
    ]
    mine = claim("mine", {"name": "r", "firstAvailable": alternatives})
    cluster = with_devices(*(resource_slice(name, device("0", best=name == best_on)) for name in ("a", "b")), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == best_on


def test_all_means_every_device_of_the_node_and_all_of_them_free() -> None:
    mine, other = claim("mine", request(allocationMode="All", count=0)), claim("other")
    cluster = with_devices(
        resource_slice("a", device("0"), device("1")), resource_slice("b", device("0"), device("1"), device("2")), claims=(other, mine)
    )
    first = attempt(cluster, user("p", "other"))
    assert attempt(cluster, user("q", "mine")) == {"a": "b", "b": "a"}[first]
    assert len(results(cluster, "mine")) == {"a": 3, "b": 2}[first]


def test_an_administrator_looks_at_devices_that_others_have() -> None:
    mine, watcher = claim("mine"), claim("watcher", request(adminAccess=True))
    cluster = with_devices(resource_slice("a", device("0")), claims=(mine, watcher))
    assert [attempt(cluster, user("p", "mine")), attempt(cluster, user("q", "watcher"))] == ["a", "a"]
    third = claim("third")
    cluster.api.resource_claims["default/third"] = third
    heard(cluster)
    assert attempt(cluster, user("r", "third")) == ""


def test_tainted_devices_need_a_toleration() -> None:
    broken = {**device("0"), "taints": [{"key": "broken", "effect": "NoSchedule"}]}
    brave = claim("brave", request(tolerations=[{"operator": "Exists"}]))
    cluster = with_devices(resource_slice("a", broken), claims=(claim("mine"), brave))
    assert [attempt(cluster, user("p", "mine")), attempt(cluster, user("q", "brave"))] == ["", "a"]


def test_network_devices_are_reached_by_selector_or_from_everywhere() -> None:
    zone = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}
    by_selector = resource_slice("net", device("0"), nodeSelector={"nodeSelectorTerms": [{"matchExpressions": [zone]}]})
    cluster = with_devices(by_selector, claims=(claim("mine"),))
    assert attempt(cluster, user("p", "mine")) == "b"
    allocation = cluster.api.resource_claims["default/mine"]["status"]["allocation"]
    assert allocation["nodeSelector"] == {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}
    everywhere = with_devices(resource_slice("net", device("0"), allNodes=True), claims=(claim("mine"),))
    assert attempt(everywhere, user("p", "mine")) in ("a", "b")
    assert "nodeSelector" not in everywhere.api.resource_claims["default/mine"]["status"]["allocation"]


def test_only_the_newest_complete_generation_of_a_pool_counts() -> None:
    pools = Pools()
    pools.set_slice(resource_slice("old", device("0"), pool="p", generation=1))
    pools.set_slice(resource_slice("new", device("1"), pool="p", generation=2, count=2))
    assert pools.devices == ()
    pools.set_slice(resource_slice("new-2", device("2"), pool="p", generation=2, count=2))
    assert [one.id.device for one in pools.devices] == ["1", "2"]


def test_all_devices_are_not_given_while_a_pool_is_being_updated() -> None:
    whole, half = resource_slice("a", device("0")), resource_slice("more", device("1"), pool="half", count=2, nodeName="a")
    everything = claim("everything", request(allocationMode="All", count=0))
    cluster = with_devices(whole, half, claims=(everything, claim("one")), nodes=("a",))
    assert attempt(cluster, user("p", "everything")) == ""
    why = f"claim default/everything, request r: asks for all devices, but resource pool {DRIVER}/half is currently being updated"
    assert why in cluster.message("default/p")
    assert attempt(cluster, user("q", "one")) == "a", "one device can be given from the pools that are complete"


@pytest.mark.parametrize(
    ("name", "why"),
    [("nowhere", 'resourceclaim "nowhere" not found'), ("going", 'resourceclaim "going" is being deleted')],
)
def test_pods_wait_in_silence_for_their_claims(name: str, why: str) -> None:
    going = claim("going")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = with_devices(resource_slice("a", device("0")), claims=(going,))
    cluster.add(user("p", name))
    assert cluster.scheduler.queue.pop() is None
    [gated] = cluster.scheduler.queue.gated
    status = cluster.scheduler.profiles["default-scheduler"].ask_gate(gated.gated_by, gated.info)
    assert status is not None
    assert (gated.gated_by, status.message, cluster.api.events) == ("DynamicResources", why, [])


def test_a_pod_is_tried_when_its_claim_was_made_from_the_template() -> None:
    cluster = with_devices(resource_slice("a", device("0")))
    waiting = pod("p", resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "t"}])
    cluster.add(waiting)
    assert cluster.scheduler.queue.pop() is None
    made = claim("p-gpu-x")
    made["metadata"]["ownerReferences"] = [{"uid": "uid-default-p", "controller": True, "kind": "Pod", "name": "p", "apiVersion": "v1"}]
    cluster.api.resource_claims["default/p-gpu-x"] = made
    heard(cluster)
    told = {**waiting, "status": {"phase": "Pending", "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}}
    cluster.handlers.pod_updated(waiting, told)
    assert cluster.schedule_next() == "a"


def test_a_class_that_does_not_exist_is_named() -> None:
    cluster = with_devices(claims=(claim("mine", request(deviceClassName="tpu")),))
    assert attempt(cluster, user("p", "mine")) == ""
    assert "device class tpu does not exist" in cluster.message("default/p")


def test_a_failed_binding_gives_the_devices_back() -> None:
    cluster = with_devices(resource_slice("a", device("0")), claims=(claim("mine"),))
    stale = dict(cluster.api.resource_claims["default/mine"], metadata={**claim("mine")["metadata"], "resourceVersion": "7"})
    cluster.api.resource_claims["default/mine"] = stale
    [placed] = cluster.schedule(user("p", "mine"))
    assert placed == ""
    assert "the object has been modified" in cluster.message("default/p")
    assert cluster.scheduler.handle.devices.in_use == NOTHING_USED
    heard(cluster)
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == "a"


def test_an_idle_claim_that_keeps_a_pod_off_its_nodes_is_given_back() -> None:
    mine = claim("mine")
    field_is = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    mine["status"] = {"allocation": {
        "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "a", "device": "0"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field_is]}]},
    }}  # fmt: skip
    cluster = with_devices(resource_slice("a", device("0")), resource_slice("b", device("0")), claims=(mine,))
    cluster.handlers.node_updated(node("a"), node("a", unschedulable=True))
    assert attempt(cluster, user("p", "mine")) == ""
    assert "deallocation of ResourceClaim completed" in cluster.message("default/p")
    assert results(cluster, "mine") == []
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == "b"


def test_class_and_claim_tell_the_drivers_their_configuration() -> None:
    opaque = {"opaque": {"driver": DRIVER, "parameters": {"mode": "shared"}}}
    mine = claim("mine", config=[{"requests": ["r"], **opaque}, {"requests": ["other"], **opaque}])
    cluster = with_devices(resource_slice("a", device("0")), claims=(mine,))
    cluster.scheduler.handle.devices.set_class({**CLASS, "spec": {**CLASS["spec"], "config": [opaque]}})
    attempt(cluster, user("p", "mine"))
    config = cluster.api.resource_claims["default/mine"]["status"]["allocation"]["devices"]["config"]
    assert config == [{"source": "FromClass", "requests": ["r"], **opaque}, {"source": "FromClaim", "requests": ["r"], **opaque}]


# ---- the search against brute force


@pytest.mark.parametrize("seed", range(150))
def test_an_allocation_is_found_exactly_when_there_is_one(seed: int) -> None:
    r = random.Random(seed)
    pools = Pools()
    pools.set_slice(resource_slice("a", *(device(str(i), numa=r.randint(0, 1), big=r.random() < 0.5) for i in range(r.randint(1, 5)))))
    claims = []
    for index in range(r.randint(1, 2)):
        requests = [
            request(f"r{number}", count=r.randint(1, 2), selectors=[f"device.attributes['{DRIVER}'].big"] if r.random() < 0.4 else [])
            for number in range(r.randint(1, 2))
        ]
        constraints = [{"requests": [], "matchAttribute": f"{DRIVER}/numa"}] if r.random() < 0.5 else []
        claims.append(needs_of(claim(f"c{index}", *requests, constraints=constraints), {"gpu": CLASS}))
    in_use = frozenset(one.id for one in pools.devices if r.random() < 0.2)
    wants_big = lambda req, dev: not any("big" in text for _, text in req.selectors) or bool(dev.attributes[f"{DRIVER}/big"])  # noqa: E731
    found = Search(pools.devices, Room(pools.devices, Usage(in_use), {}), wants_big).allocate(claims)
    slots = [(needs, alternatives[0]) for needs in claims for alternatives in needs.requests for _ in range(alternatives[0].count)]
    free = [one for one in pools.devices if one.id not in in_use]
    exists = any(is_valid(slots, chosen, wants_big) for chosen in itertools.permutations(free, len(slots)))
    assert (found is not None) is exists
    if found is not None:
        flat = [one for chosen in found for _, one in chosen]
        assert is_valid(slots, flat, wants_big)


def is_valid(slots: list[Any], chosen: Any, matches: Any) -> bool:
    if len({one.id for one in chosen}) != len(slots) or not all(matches(req, one) for (_, req), one in zip(slots, chosen, strict=True)):
        return False
    numas: dict[int, set[Any]] = {}
    for (needs, _), one in zip(slots, chosen, strict=True):
        if needs.constraints:
            numas.setdefault(id(needs), set()).add(one.attributes[f"{DRIVER}/numa"])
    return all(len(values) == 1 for values in numas.values())


def test_distinct_devices_differ_in_their_attribute() -> None:
    pools = Pools()
    pools.set_slice(resource_slice("a", device("0", numa=0), device("1", numa=0), device("2", numa=1)))
    needs = needs_of(claim("c", request(count=2), constraints=[{"distinctAttribute": f"{DRIVER}/numa"}]), {"gpu": CLASS})
    assert needs.constraints == (Constraint(frozenset(), f"{DRIVER}/numa", True),)

    def everything(_request: Any, _device: Device) -> bool:
        return True

    found = Search(pools.devices, Room(pools.devices, NOTHING_USED, {}), everything).allocate([needs])
    assert found is not None
    assert [one.id.device for _, one in found[0]] == ["0", "2"]

"""Devices that share counters or capacity, that drivers prepare, and that stand in for extended resources."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import Object
from kubecosm.services.scheduler.dra.allocator import Search, needs_of
from kubecosm.services.scheduler.dra.capacity import capacity_of, consumption
from kubecosm.services.scheduler.dra.devices import Pools
from kubecosm.services.scheduler.dra.extended import extended_claim, may_be_extended
from kubecosm.services.scheduler.dra.room import NOTHING_USED, Room

from .helpers import Cluster, node, pod
from .test_dynamic_resources import CLASS, DRIVER, attempt, claim, device, heard, request, resource_slice, results, user, with_devices

# ---- partitionable devices


def partition(name: str, memory: str, set_name: str = "gpu-0") -> Object:
    return {**device(name), "consumesCounters": [{"counterSet": set_name, "counters": {"memory": {"value": memory}}}]}


def partitioned(*devices: Object, memory: str = "40Gi") -> tuple[Object, Object]:
    counters = resource_slice("a-counters", pool="a", count=2, nodeName="a")
    counters["spec"]["sharedCounters"] = [{"name": "gpu-0", "counters": {"memory": {"value": memory}}}]
    return counters, resource_slice("a", *devices, pool="a", count=2, nodeName="a")


def test_partitions_are_allocated_as_long_as_their_counters_last() -> None:
    slices = partitioned(partition("whole", "40Gi"), partition("half-0", "20Gi"), partition("half-1", "20Gi"))
    claims = tuple(claim(f"c{index}") for index in range(2))
    cluster = with_devices(*slices, claims=claims)
    assert attempt(cluster, user("p0", "c0")) == "a"
    assert results(cluster, "c0") == ["whole"]
    assert attempt(cluster, user("p1", "c1")) == ""
    assert cluster.message("default/p1").startswith("0/2 nodes are available: 2 cannot allocate all claims.")


def test_two_halves_fit_and_then_the_whole_does_not() -> None:
    slices = partitioned(partition("half-0", "20Gi"), partition("half-1", "20Gi"), partition("whole", "40Gi"))
    cluster = with_devices(*slices, claims=(claim("both", request(count=2)), claim("more")))
    assert attempt(cluster, user("p", "both")) == "a"
    assert results(cluster, "both") == ["half-0", "half-1"]
    assert attempt(cluster, user("q", "more")) == ""


def test_a_device_that_needs_more_than_its_counters_ever_hold_is_passed_over() -> None:
    cluster = with_devices(*partitioned(partition("huge", "80Gi"), partition("half", "20Gi")), claims=(claim("mine"),))
    assert attempt(cluster, user("p", "mine")) == "a"
    assert results(cluster, "mine") == ["half"]


# ---- consumable capacity


def shared(name: str, **policy: Any) -> Object:
    capacity: Object = {"value": "10Gi", **({"requestPolicy": policy} if policy else {})}
    return {**device(name), "allowMultipleAllocations": True, "capacity": {"bandwidth": capacity}}


def asking(amount: str, **more: Any) -> Object:
    return request(capacity={"requests": {"bandwidth": amount}}, **more)


def test_claims_share_a_device_until_its_capacity_is_used_up() -> None:
    claims = tuple(claim(f"c{index}", asking("4Gi")) for index in range(3))
    cluster = with_devices(resource_slice("a", shared("nic")), claims=claims)
    assert [attempt(cluster, user(f"p{index}", f"c{index}")) for index in range(3)] == ["a", "a", ""]
    given = [cluster.api.resource_claims[f"default/c{i}"]["status"]["allocation"]["devices"]["results"][0] for i in range(2)]
    assert [one["consumedCapacity"] for one in given] == [{"bandwidth": "4Gi"}] * 2
    assert given[0]["shareID"] != given[1]["shareID"]


def test_a_request_that_names_no_amount_takes_the_default_or_everything() -> None:
    claims = (claim("c0"), claim("c1"))
    whole = with_devices(resource_slice("a", shared("nic")), claims=claims)
    assert [attempt(whole, user(f"p{index}", f"c{index}")) for index in range(2)] == ["a", ""]
    part = with_devices(resource_slice("a", shared("nic", default="1Gi", validRange={"min": "1Gi"})), claims=claims)
    assert [attempt(part, user(f"p{index}", f"c{index}")) for index in range(2)] == ["a", "a"]


def test_one_claim_may_get_two_shares_unless_devices_must_differ() -> None:
    both = claim("both", asking("4Gi", count=2))
    cluster = with_devices(resource_slice("a", shared("nic")), claims=(both,))
    assert attempt(cluster, user("p", "both")) == "a"
    assert results(cluster, "both") == ["nic", "nic"]
    slot = {**shared("nic"), "attributes": {"slot": {"int": 1}}}
    distinct = claim("both", asking("4Gi", count=2), constraints=[{"distinctAttribute": f"{DRIVER}/slot"}])
    assert attempt(with_devices(resource_slice("a", slot), claims=(distinct,)), user("p", "both")) == ""


def test_devices_of_ones_own_must_have_the_capacity_that_is_asked_for() -> None:
    small, large = ({**device(name), "capacity": {"memory": {"value": value}}} for name, value in (("small", "8Gi"), ("large", "80Gi")))
    mine = claim("mine", request(capacity={"requests": {"memory": "40Gi"}}))
    cluster = with_devices(resource_slice("a", small, large), claims=(mine,))
    assert attempt(cluster, user("p", "mine")) == "a"
    assert results(cluster, "mine") == ["large"]


@pytest.mark.parametrize(("asked", "policy", "taken"), [
    ("3", {"default": "1", "validValues": ["1", "4", "8"]}, "4"),
    ("9", {"default": "1", "validValues": ["1", "4", "8"]}, None),
    ("1", {"default": "2", "validRange": {"min": "2", "max": "8"}}, "2"),
    ("9", {"default": "2", "validRange": {"min": "2", "max": "8"}}, None),
    ("5", {"default": "2", "validRange": {"min": "2", "max": "8", "step": "2"}}, "6"),
    ("6", {"default": "2", "validRange": {"min": "2", "max": "8", "step": "2"}}, "6"),
    (None, {"default": "2", "validRange": {"min": "2"}}, "2"),
    (None, None, "10"), ("3", None, "3"), ("11", None, None),
])  # fmt: skip
def test_amounts_are_rounded_up_to_what_the_policy_allows(asked: str | None, policy: Object | None, taken: str | None) -> None:
    capacity = capacity_of({"value": "10", **({"requestPolicy": policy} if policy else {})})
    answer = consumption({"x": Quantity.of(asked)} if asked else {}, {"x": capacity})
    assert (answer and {name: str(one) for name, one in answer.items()}) == ({"x": taken} if taken else None)


def test_a_capacity_that_the_device_does_not_have_is_not_served() -> None:
    assert consumption({"y": Quantity.of("1")}, {"x": capacity_of({"value": "10"})}) is None


# ---- binding conditions


PREPARED, BROKEN = "example.com/attached", "example.com/broken"


def fabric(name: str) -> Object:
    return {**device(name), "bindingConditions": [PREPARED], "bindingFailureConditions": [BROKEN], "bindsToNode": True}


def told(cluster: Cluster, name: str, condition: str) -> None:
    """What the driver writes, and the informer hears."""
    mine = cluster.api.resource_claims[f"default/{name}"]
    [result] = mine["status"]["allocation"]["devices"]["results"]
    said = {key: result[key] for key in ("driver", "pool", "device")}
    state = {"type": condition, "status": "True", "reason": "Because", "message": "so it is"}
    mine["status"]["devices"] = [{**said, "conditions": [state]}]
    cluster.scheduler.handle.devices.set_claim(mine)


def bind_while(cluster: Cluster, one: Object, meanwhile: Any) -> None:
    """Decide, and let the driver act while the binding waits for it."""
    cluster.add(one)
    binding = cluster.begin_binding()

    async def main() -> None:
        work = asyncio.ensure_future(binding)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not work.done(), "it does not wait"
        heard(cluster)
        assert cluster.api.bound == {}
        meanwhile()
        await asyncio.wait_for(work, 5)

    asyncio.run(main())


class SleepingClock:
    """Time stands still for whoever sleeps on it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def with_fabric() -> Cluster:
    cluster = with_devices(resource_slice("net", fabric("0"), allNodes=True), claims=(claim("mine"),))
    profile = cluster.scheduler.profiles["default-scheduler"]
    profile.plugins["DynamicResources"]._handle.clock = SleepingClock(cluster.clock)  # type: ignore[attr-defined]
    return cluster


def test_a_pod_is_bound_when_its_devices_are_prepared() -> None:
    cluster = with_fabric()
    bind_while(cluster, user("p", "mine"), lambda: told(cluster, "mine", PREPARED))
    where = cluster.api.bound["default/p"]
    allocation = cluster.api.resource_claims["default/mine"]["status"]["allocation"]
    [result] = allocation["devices"]["results"]
    assert (result["bindingConditions"], result["bindingFailureConditions"]) == ([PREPARED], [BROKEN])
    assert allocation["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"] == [where]


def test_devices_that_cannot_be_prepared_are_given_back() -> None:
    cluster = with_fabric()
    bind_while(cluster, user("p", "mine"), lambda: told(cluster, "mine", BROKEN))
    assert cluster.api.bound == {}
    why = 'running PreBind plugin "DynamicResources": claim mine binding failed: reason=Because, message="so it is"'
    assert why in cluster.message("default/p")
    assert ("default/p", "Normal", "BindingConditionsPending") in [one[:3] for one in cluster.api.events]
    cluster.run_background()
    heard(cluster)
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == ""
    assert "2 resourceclaim not available on the node" in cluster.message("default/p")
    assert "deallocation of ResourceClaim completed" in cluster.message("default/p")
    assert results(cluster, "mine") == []


def test_devices_without_conditions_are_preferred() -> None:
    cluster = with_devices(resource_slice("a", fabric("slow"), device("ready")), claims=(claim("mine"),))
    assert attempt(cluster, user("p", "mine")) == "a"
    assert results(cluster, "mine") == ["ready"]


# ---- extended resources


GPU: Object = {"metadata": {"name": "gpu"}, "spec": {**CLASS["spec"], "extendedResourceName": "example.com/gpu"}}


def with_gpus(*slices: Object, nodes: tuple[Object, ...] = ()) -> Cluster:
    cluster = Cluster(*(nodes or (node("a"), node("b"))))
    cluster.scheduler.handle.devices.set_class(GPU)
    for one in slices:
        cluster.scheduler.handle.devices.pools.set_slice(one)
    return cluster


@pytest.mark.parametrize("resource", ["example.com/gpu", "deviceclass.resource.kubernetes.io/gpu"])
def test_a_request_for_an_extended_resource_becomes_a_claim(resource: str) -> None:
    cluster = with_gpus(resource_slice("b", device("0"), device("1"), device("2")))
    assert attempt(cluster, pod("p", requests={resource: "2"}, cpu="1")) == "b"
    [made] = cluster.api.resource_claims.values()
    assert made["metadata"]["generateName"] == "p-extended-resources-"
    assert made["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
    position = sorted(["cpu", resource]).index(resource)
    [asked] = made["spec"]["devices"]["requests"]
    assert asked == {
        "name": f"container-0-request-{position}", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2},
    }  # fmt: skip
    assert [one["name"] for one in made["status"]["reservedFor"]] == ["p"]
    status = {
        "resourceClaimName": made["metadata"]["name"],
        "requestMappings": [{"containerName": "c", "resourceName": resource, "requestName": asked["name"]}],
    }
    assert ("default/p", {"extendedResourceClaimStatus": status}) in cluster.api.patches
    assert attempt(cluster, pod("q", requests={resource: "2"})) == ""


def test_a_node_with_the_resource_itself_serves_it_without_a_claim() -> None:
    cluster = with_gpus(nodes=(node("a", extended={"example.com/gpu": "2"}), node("b")))
    assert attempt(cluster, pod("p", requests={"example.com/gpu": "2"})) == "a"
    assert cluster.api.resource_claims == {}
    assert attempt(cluster, pod("q", requests={"example.com/gpu": "1"})) == ""
    assert cluster.message("default/q").startswith("0/2 nodes are available: 1 Insufficient example.com/gpu, 1 cannot allocate all claims.")


def test_without_a_class_an_unknown_resource_is_insufficient() -> None:
    cluster = with_gpus(resource_slice("b", device("0")))
    assert attempt(cluster, pod("p", requests={"example.com/fpga": "1"})) == ""
    assert cluster.message("default/p").startswith("0/2 nodes are available: 2 Insufficient example.com/fpga.")


def test_a_claim_left_by_a_failed_binding_is_deleted_and_the_pod_tried_again() -> None:
    cluster = with_gpus(resource_slice("b", device("0")))
    cluster.api.bind_failure = OSError("gone")
    assert attempt(cluster, pod("p", requests={"example.com/gpu": "1"})) == ""
    assert cluster.api.resource_claims == {}
    cluster.api.bind_failure = None
    for one in list(cluster.scheduler.handle.devices.claims.values()):
        cluster.scheduler.handle.devices.remove_claim(one)
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == "b"


def container(name: str, count: int, **more: Any) -> Object:
    return {"name": name, "resources": {"requests": {"example.com/gpu": str(count)}}, **more}


def test_init_containers_use_the_devices_of_those_that_come_later() -> None:
    spec = {
        "initContainers": [container("first", 1), container("second", 4), container("side", 1, restartPolicy="Always")],
        "containers": [container("main", 2)],
    }
    requests, mappings = extended_claim({"spec": spec}, ["example.com/gpu"], {"example.com/gpu": "gpu"})
    counts = {one["name"]: one["exactly"]["count"] for one in requests}
    assert counts == {"container-1-request-0": 1, "container-2-request-0": 1, "container-3-request-0": 2}
    assert [(one["containerName"], one["requestName"]) for one in mappings] == [
        ("side", "container-2-request-0"), ("main", "container-3-request-0"), ("first", "container-2-request-0"),
        ("second", "container-2-request-0"), ("second", "container-3-request-0"), ("second", "container-1-request-0"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [
    ("example.com/gpu", True), ("deviceclass.resource.kubernetes.io/gpu", True), ("cpu", False), ("kubernetes.io/x", False),
    ("hugepages-2Mi", False), ("requests.example.com/gpu", False),
])  # fmt: skip
def test_which_resources_devices_may_stand_for(name: str, expected: bool) -> None:
    assert may_be_extended(name) is expected


# ---- the search against brute force


@pytest.mark.parametrize("seed", range(120))
def test_shares_and_partitions_are_found_exactly_when_there_are_some(seed: int) -> None:
    r = random.Random(seed)
    devices = []
    for index in range(r.randint(1, 4)):
        made = shared(str(index)) if r.random() < 0.5 else device(str(index))
        if r.random() < 0.6:
            made["consumesCounters"] = [{"counterSet": "gpu-0", "counters": {"memory": {"value": f"{r.randint(1, 3)}Gi"}}}]
        devices.append(made)
    pools = Pools()
    for one in partitioned(*devices, memory="4Gi"):
        pools.set_slice(one)
    asked = [r.choice((2, 4, 6)) for _ in range(r.randint(1, 4))]
    claims = []
    for number, amount in enumerate(asked):
        # a device of its own has no such capacity, so requests without an amount may have either kind
        wanted = asking(f"{amount}Gi") if (named := r.random() < 0.5) else request()
        asked[number] = amount if named else 0
        claims.append(needs_of(claim(f"c{number}", wanted), {"gpu": CLASS}))
    found = Search(pools.devices, Room(pools.devices, NOTHING_USED, pools.counters), lambda *_: True).allocate(claims)
    ways = itertools.product(devices, repeat=len(asked))
    assert (found is not None) is any(is_possible(list(zip(way, asked, strict=True))) for way in ways)
    if found is not None:
        by_name = {one["name"]: one for one in devices}
        assert is_possible([(by_name[chosen[0][1].id.device], amount) for chosen, amount in zip(found, asked, strict=True)])


def is_possible(chosen: list[tuple[Object, int]]) -> bool:
    """Whether devices hold what is asked of them: (device, GiB of its capacity, 0 for a request that names no amount)."""
    taken: dict[str, list[int]] = {}
    for one, amount in chosen:
        taken.setdefault(one["name"], []).append(amount)
    drawn = 0
    for name, amounts in taken.items():
        one = next(one for one, _ in chosen if one["name"] == name)
        if one.get("allowMultipleAllocations"):
            if sum(amount or 10 for amount in amounts) > 10:
                return False
        elif len(amounts) > 1 or amounts[0]:
            return False
        drawn += sum(int(c["counters"]["memory"]["value"].removesuffix("Gi")) for c in one.get("consumesCounters") or ())
    return drawn <= 4

"""Nodes that fall silent, taints, evictions, and pods nobody else removes; in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubecosm.api.meta import get_condition, is_deleting
from kubecosm.api.names import NAMESPACE_NODE_LEASE, TAINT_NOT_READY, TAINT_OUT_OF_SERVICE, TAINT_UNREACHABLE
from kubecosm.api.resources import EVENTS, LEASES, NODES, PODS, Object
from kubecosm.api.times import format_micro_time, format_time
from kubecosm.services.controller.cluster import node_lifecycle, pod_gc, taint_eviction
from kubecosm.services.controller.cluster.node_lifecycle.health import plan_taints
from kubecosm.services.controller.cluster.node_lifecycle.zones import Zone, Zones, ZoneState, zone_of
from kubecosm.services.controller.cluster.taint_eviction import NOT_AT_ALL, exposed_since, tolerated_seconds
from kubecosm.services.controller.common.nodes import taints_of
from kubecosm.services.controller.config import Config
from kubecosm.testing.virtualtime import EPOCH

from .fake_api import FakeApi
from .harness import controllers, node, run, running, settle, wait_for

LIFECYCLE = Config()


class Heartbeats:
    """Renews the Leases of the nodes that live."""

    def __init__(self, api: FakeApi, *names: str) -> None:
        self.api, self.alive = api, set(names)
        for name in names:
            api.put(NODES, node(name))

    async def run(self, seconds: float) -> None:
        for _ in range(int(seconds / 10)):
            for name in self.alive:
                spec = {"holderIdentity": name, "renewTime": format_micro_time(self.api.clock.now())}
                self.api.put(LEASES, {"metadata": {"name": name, "namespace": NAMESPACE_NODE_LEASE}, "spec": spec})
            await self.api.clock.sleep(10)


def pod_on(node_name: str, name: str = "p", **spec: Any) -> Object:
    body = {"nodeName": node_name, "containers": [], "tolerations": [], **spec}
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}}, "spec": body}


def the_node(api: FakeApi, name: str) -> Object:
    return next(found for found in api.all(NODES) if found["metadata"]["name"] == name)


def taints(api: FakeApi, name: str) -> set[tuple[str, str]]:
    return {(taint["key"], taint["effect"]) for taint in taints_of(the_node(api, name))}


def test_a_silent_node_becomes_unknown_is_tainted_and_its_pods_go_when_their_toleration_ends() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b", "c")
        tolerant = {"key": TAINT_UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        api.put(PODS, {**pod_on("a", tolerations=[tolerant]), "status": running(api)})
        async with controllers(api, node_lifecycle.build(LIFECYCLE), taint_eviction.build(None)):
            await beats.run(120)
            assert not taints(api, "a")
            beats.alive.remove("a")
            await beats.run(70)
            ready = get_condition(the_node(api, "a"), "Ready")
            assert ready is not None
            assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
            assert taints(api, "a") == {(TAINT_UNREACHABLE, "NoSchedule"), (TAINT_UNREACHABLE, "NoExecute")}
            assert not taints(api, "b")
            pod_ready = get_condition(api.all(PODS)[0], "Ready")
            assert pod_ready is not None
            assert pod_ready["status"] == "False"
            await beats.run(250)
            assert not is_deleting(api.all(PODS)[0])
            await beats.run(80)
            assert is_deleting(api.all(PODS)[0])
        assert {"NodeNotReady", "TaintManagerEviction", "RegisteredNode"} <= {event["reason"] for event in api.all(EVENTS)}
        subjects = [event["involvedObject"] for event in api.all(EVENTS) if event["involvedObject"]["kind"] == "Node"]
        assert {one["uid"] for one in subjects if one["name"] == "a"} == {the_node(api, "a")["metadata"]["uid"]}

    run(test)


def test_a_node_that_comes_back_loses_its_taints() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b")
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(30)
            beats.alive.remove("a")
            await beats.run(80)
            assert taints(api, "a")
            told = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(api.clock.now())}
            api.set_status(NODES, the_node(api, "a"), conditions=[told])
            beats.alive.add("a")
            await wait_for(lambda: not taints(api, "a"))
            await beats.run(120)
            assert not taints(api, "a")

    run(test)


def test_a_cluster_without_any_healthy_node_is_not_emptied() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b")
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(20)
            beats.alive.clear()
            await beats.run(200)
        assert taints(api, "a") == taints(api, "b") == {(TAINT_UNREACHABLE, "NoSchedule")}

    run(test)


def test_an_idle_cluster_costs_no_writes_and_few_looks() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b", "c")
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(30)
            calls = len(api.calls)
            await beats.run(3600)
            assert len(api.calls) == calls

    run(test)


def test_nodes_of_a_zone_are_emptied_one_after_the_other() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, *(f"n{index}" for index in range(8)))
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(30)
            beats.alive -= {"n0", "n1", "n2"}
            evicting: list[int] = []
            for _ in range(13):
                await beats.run(10)
                evicting.append(sum((TAINT_UNREACHABLE, "NoExecute") in taints(api, f"n{index}") for index in range(3)))
        assert evicting[-1] == 3
        assert {1, 2} <= set(evicting)

    run(test)


def test_a_cordoned_and_a_pressed_node_are_tainted_against_scheduling() -> None:
    pressed = node("a")
    pressed["spec"]["unschedulable"] = True
    pressed["status"]["conditions"].append({"type": "MemoryPressure", "status": "True"})
    pressed["spec"]["taints"] = [{"key": "own", "effect": "NoSchedule"}, {"key": TAINT_NOT_READY, "effect": "NoSchedule"}]
    planned = plan_taints(pressed, "", EPOCH)
    assert planned is not None
    assert [(taint["key"], taint["effect"]) for taint in planned] == [
        ("own", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ready", "state"),
    [
        pytest.param([True] * 3, ZoneState.NORMAL, id="healthy"),
        pytest.param([False], ZoneState.FULL, id="all gone"),
        pytest.param([False, False, True], ZoneState.NORMAL, id="two of three"),
        pytest.param([False] * 3 + [True], ZoneState.PARTIAL, id="three of four"),
    ],
)
def test_the_state_of_a_zone(ready: list[bool], state: ZoneState) -> None:
    assert Zone(ready.count(True), ready.count(False)).state(0.55) is state


def taint(key: str = "k") -> Object:
    return {"key": key, "effect": "NoExecute", "timeAdded": format_time(EPOCH)}


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        pytest.param([], NOT_AT_ALL, id="no toleration: now"),
        pytest.param([{"key": "k", "operator": "Exists"}], None, id="tolerated for good"),
        pytest.param([{"key": "k", "operator": "Exists", "tolerationSeconds": 300}], 300, id="tolerated for a while"),
        pytest.param([{"operator": "Exists"}, {"key": "k", "operator": "Exists", "tolerationSeconds": 90}], 90, id="the shortest counts"),
        pytest.param([{"key": "k", "operator": "Exists", "tolerationSeconds": -1}], 0, id="negative: at once"),
    ],
)
def test_how_long_a_pod_bears_a_taint(tolerations: list[Object], seconds: int | None) -> None:
    assert tolerated_seconds(pod_on("a", tolerations=tolerations), [taint()]) == seconds


def test_tolerated_seconds_count_from_the_newest_taint_or_from_when_the_pod_came() -> None:
    now = EPOCH + timedelta(seconds=60)
    assert exposed_since(pod_on("a"), [taint()], now) == EPOCH
    late = pod_on("a")
    late["metadata"]["creationTimestamp"] = format_time(EPOCH + timedelta(seconds=20))
    assert exposed_since(late, [taint()], now) == EPOCH + timedelta(seconds=20)
    assert exposed_since(late, [taint(), {"key": "k", "effect": "NoExecute"}], now) == now


def test_a_scheduled_eviction_stays_when_another_taint_takes_over_and_says_when_it_is_overtaken() -> None:
    async def test(api: FakeApi) -> None:
        keys = ("x", "y", "z")
        tainted = node("a")
        tainted["spec"]["taints"] = [{**taint("x"), "timeAdded": format_time(api.clock.now())}]
        api.put(NODES, tainted)
        patient = [{"key": key, "operator": "Exists", "tolerationSeconds": 60} for key in keys[:2]]
        api.put(PODS, pod_on("a", tolerations=patient))
        api.put(PODS, pod_on("a", name="q", tolerations=patient))
        async with controllers(api, taint_eviction.build(None)):
            await settle(40)
            api.put(NODES, {**the_node(api, "a"), "spec": {"taints": [{**taint("y"), "timeAdded": format_time(api.clock.now())}]}})
            await settle(10)
            await api.delete(PODS, "q", "default", options={"gracePeriodSeconds": 0})
            await wait_for(lambda: api.all(EVENTS))
            assert [event["message"] for event in api.all(EVENTS)] == ["Cancelling deletion of Pod default/q"]
            await settle(15)
            assert not [pod for pod in api.all(PODS) if not is_deleting(pod)], "60 s after the first taint"
        assert api.all(EVENTS)[-1]["message"] == "Marking for deletion Pod default/p"

    run(test)


def test_beta_labels_of_system_and_architecture_follow_the_stable_ones() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a", **{"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "beta.kubernetes.io/arch": "amd64"}))
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await wait_for(lambda: "beta.kubernetes.io/os" in the_node(api, "a")["metadata"]["labels"])
        labels = the_node(api, "a")["metadata"]["labels"]
        assert (labels["beta.kubernetes.io/os"], labels["beta.kubernetes.io/arch"]) == ("linux", "arm64")

    run(test)


def test_when_the_last_node_falls_silent_all_taints_that_evict_are_lifted_and_come_back_when_a_node_does() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b", "c")
        no_execute = (TAINT_UNREACHABLE, "NoExecute")
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(30)
            beats.alive.remove("a")
            await beats.run(80)
            assert no_execute in taints(api, "a")
            beats.alive.clear()
            await beats.run(80)
            assert [taints(api, name) for name in "abc"] == [{(TAINT_UNREACHABLE, "NoSchedule")}] * 3
            beats.alive.add("b")
            told = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(api.clock.now())}
            api.set_status(NODES, the_node(api, "b"), conditions=[told])
            await beats.run(40)
            assert no_execute in taints(api, "a")
            assert no_execute in taints(api, "c")
            assert not taints(api, "b")

    run(test)


def test_a_node_that_says_itself_that_it_is_not_ready_still_speaks_for_its_pods() -> None:
    async def test(api: FakeApi) -> None:
        beats = Heartbeats(api, "a", "b")
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        async with controllers(api, node_lifecycle.build(LIFECYCLE)):
            await beats.run(10)
            told = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(api.clock.now())}
            api.set_status(NODES, the_node(api, "a"), conditions=[told])
            await beats.run(20)
            assert (TAINT_NOT_READY, "NoExecute") in taints(api, "a")
            ready = get_condition(api.all(PODS)[0], "Ready")
            assert ready is not None
            assert ready["status"] == "True"
            late = api.put(PODS, {**pod_on("", name="late"), "status": running(api)})
            api.put(PODS, {**late, "spec": {**late["spec"], "nodeName": "a"}})
            await beats.run(10)
        (ready,) = (get_condition(pod, "Ready") for pod in api.all(PODS) if pod["metadata"]["name"] == "late")
        assert ready is not None
        assert ready["status"] == "False", "bound to a node that was not ready"
        assert "NodeNotReady" not in {event["reason"] for event in api.all(EVENTS) if event["involvedObject"]["kind"] == "Node"}

    run(test)


def test_a_node_without_region_and_zone_is_in_the_zone_without_name() -> None:
    assert zone_of(node("a")) == ""
    assert zone_of(node("a", **{"topology.kubernetes.io/zone": "z"})) == ":\x00:z"


def test_zones_go_by_the_labels_of_old_where_a_node_has_both() -> None:
    old = {"failure-domain.beta.kubernetes.io/zone": "b", "failure-domain.beta.kubernetes.io/region": "r"}
    assert zone_of(node("a", **old)) == "r:\x00:b"
    assert zone_of(node("a", **old, **{"topology.kubernetes.io/zone": "z"})) == "r:\x00:b"


def test_nodes_excluded_from_disruption_checks_make_no_zone_unhealthy() -> None:
    zones = Zones(0.55)
    for index in range(4):
        body = node(f"n{index}", **({"node.kubernetes.io/exclude-disruption": ""} if index else {}))
        body["status"]["conditions"][0]["status"] = "Unknown" if index else "True"
        zones.put(body)
    assert zones.size_and_state("") == (1, ZoneState.NORMAL)
    assert not zones.all_disrupted


def test_pods_of_a_deleted_node_are_removed_and_marked() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        async with controllers(api, pod_gc.PodGc(10)):
            await settle()
            await api.delete(NODES, "a")
            await settle(30)
            assert api.all(PODS)
            await wait_for(lambda: not api.all(PODS))
        marked = [call for call in api.calls if call[:2] == ("patch/status", "pods")]
        assert len(marked) == 1

    run(test)


def test_unscheduled_terminating_pods_and_stranded_ones_are_removed() -> None:
    async def test(api: FakeApi) -> None:
        broken = node("a")
        broken["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
        api.put(NODES, broken)
        leaving = {"deletionTimestamp": format_time(EPOCH), "deletionGracePeriodSeconds": 30}
        for name, node_name in (("unscheduled", ""), ("stranded", "a")):
            body = pod_on(node_name, name)
            api.put(PODS, {**body, "metadata": {**body["metadata"], **leaving}, "status": {"phase": "Pending"}})
        async with controllers(api, pod_gc.PodGc(10)):
            await wait_for(lambda: [pod["metadata"]["name"] for pod in api.all(PODS)] == ["stranded"])
            assert [event.object["status"]["phase"] for _, resource, event in api.history if resource == PODS][-2:] == ["Failed"] * 2
            found = the_node(api, "a")
            spec = {**found["spec"], "taints": [{"key": TAINT_OUT_OF_SERVICE, "effect": "NoExecute", "value": "nodeshutdown"}]}
            api.put(NODES, {**found, "spec": spec})
            await wait_for(lambda: not api.all(PODS))

    run(test)


def test_only_orphans_are_marked_as_disrupted() -> None:
    pod = {"metadata": {"generation": 3}, "status": {"phase": "Running"}}
    disrupted = pod_gc.plan_failed_status(pod, pod_gc.ORPHANED, EPOCH)
    assert disrupted is not None
    (condition,) = disrupted["conditions"]
    assert (condition["type"], condition["reason"], condition["observedGeneration"]) == ("DisruptionTarget", "DeletionByPodGC", 3)
    assert condition["message"] == "PodGC: node no longer exists"
    assert pod_gc.plan_failed_status(pod, pod_gc.OUT_OF_SERVICE, EPOCH) == {"phase": "Failed"}
    assert pod_gc.plan_failed_status({**pod, "status": {"phase": "Succeeded"}}, pod_gc.ORPHANED, EPOCH) is None


def test_evicted_pods_are_the_first_of_the_ended_to_go() -> None:
    def ended(name: str, created: str, **status: str) -> Object:
        return {"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": "Failed", **status}}

    pods = [ended("old", "2026-01-01T00:00:00Z"), ended("evicted", "2026-01-02T00:00:00Z", reason="Evicted")]
    assert [pod["metadata"]["name"] for pod in pod_gc.plan_surplus(pods, 1)] == ["evicted"]


def test_ended_pods_beyond_the_threshold_go_oldest_first() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, node("a"))
        async with controllers(api, pod_gc.PodGc(3)):
            for index in range(6):
                api.put(PODS, {**pod_on("a", f"p{index}"), "status": {"phase": "Succeeded"}})
            await wait_for(lambda: len(api.all(PODS)) == 3)
            await settle()
        assert sorted(pod["metadata"]["name"] for pod in api.all(PODS)) == ["p3", "p4", "p5"]

    run(test)


def test_an_eviction_is_called_off_when_the_taint_goes() -> None:
    async def test(api: FakeApi) -> None:
        tainted = node("a")
        tainted["spec"]["taints"] = [{"key": "x", "effect": "NoExecute", "timeAdded": format_time(EPOCH)}]
        api.put(NODES, tainted)
        patient = {"key": "x", "operator": "Exists", "tolerationSeconds": 60}
        api.put(PODS, pod_on("a", tolerations=[patient]))
        async with controllers(api, taint_eviction.build(None)):
            await settle(10)
            assert not api.all(EVENTS)
            api.put(NODES, {**the_node(api, "a"), "spec": {}})
            await settle(100)
            assert not is_deleting(api.all(PODS)[0])
        (event,) = api.all(EVENTS)
        assert (event["reason"], event["message"]) == ("TaintManagerEviction", "Cancelling deletion of Pod default/p")

    run(test)

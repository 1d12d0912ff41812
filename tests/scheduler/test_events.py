"""What happens in the cluster, as events: what each change is called, whom it wakes, and what becomes of pods that are on their way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework import registry
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.framework.events import Action, ClusterEvent, EventResource, HintedEvent
from kubecosm.services.scheduler.framework.status import Status, unresolvable, unschedulable
from kubecosm.services.scheduler.state.podinfo import PodInfo, compile_pod
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .helpers import Cluster, node, pod
from .test_binding import with_gatekeeper
from .test_queue import away, back, depths

ZONE = "topology.kubernetes.io/zone"


def counted(cluster: Cluster) -> set[str]:
    """The labels of all events that were handled."""
    return {
        sample.labels["event"]
        for family in cluster.metrics.registry.collect() for sample in family.samples
        if sample.name == "scheduler_event_handling_duration_seconds_count"
    }  # fmt: skip


def test_each_thing_that_changed_is_an_event_of_its_own() -> None:
    cluster = Cluster(node("a", cpu="1"))
    other = node("a", cpu="2", labels={"new": "label"}, taints=[{"key": "k", "effect": "NoSchedule"}])
    other["metadata"]["annotations"] = {"note": "x"}
    other["status"]["declaredFeatures"] = ["F"]
    cluster.handlers.node_updated(node("a", cpu="1"), other)
    assert counted(cluster) == {
        "NodeAdd", "NodeUpdateNodeAllocatable", "NodeUpdateNodeLabel", "NodeUpdateNodeTaint", "NodeUpdateNodeAnnotation",
        "NodeUpdateNodeDeclaredFeature",
    }  # fmt: skip


def test_cordoning_a_node_is_no_event_and_uncordoning_is() -> None:
    cluster = Cluster(node("a"))
    cluster.handlers.node_updated(node("a"), node("a", unschedulable=True))
    assert "NodeUpdateNodeTaint" not in counted(cluster)
    cluster.handlers.node_updated(node("a", unschedulable=True), node("a"))
    assert "NodeUpdateNodeTaint" in counted(cluster)


class Fussy:
    """Refuses every pod (`at` a point), and says which events may change its mind."""

    name = "Fussy"

    def __init__(self, at: str, *events: HintedEvent) -> None:
        self._events, self.open = events, False
        answer = lambda *_: None if self.open else unschedulable("no")  # noqa: E731
        self.pre_enqueue = answer if at == "pre_enqueue" else lambda *_: None
        self.pre_filter = answer if at == "pre_filter" else lambda *_: None
        if events:
            self.events_to_register = lambda: list(events)


def with_fussy(monkeypatch: Any, at: str, *events: HintedEvent) -> tuple[Cluster, Fussy]:
    fussy = Fussy(at, *events)
    monkeypatch.setattr(registry, "IN_TREE", {**registry.IN_TREE, "Fussy": lambda handle, args: fussy})
    return Cluster(node("a"), profiles=(ProfileConfig(plugins={**DEFAULT_PLUGINS, "Fussy": 1}),)), fussy


ANNOTATION = HintedEvent(ClusterEvent(EventResource.NODE, Action.UPDATE_NODE_ANNOTATION))


def annotated(name: str) -> Object:
    changed = node(name)
    changed["metadata"]["annotations"] = {"note": "x"}
    return changed


@pytest.mark.parametrize("at", ["pre_enqueue", "pre_filter"])
def test_a_plugin_hears_of_the_events_it_registered_for_whether_it_gates_or_rejects(at: str, monkeypatch: Any) -> None:
    cluster, fussy = with_fussy(monkeypatch, at, ANNOTATION)
    cluster.add(pod("p"))
    if at == "pre_filter":
        assert cluster.schedule_next() == ""
    cluster.clock.seconds = 100
    cluster.handlers.node_added(node("b"))
    assert cluster.scheduler.queue.pop() is None
    fussy.open = True
    cluster.handlers.node_updated(node("a"), annotated("a"))
    assert cluster.schedule_next() in ("a", "b")


def test_a_gate_that_stays_closed_keeps_the_pod(monkeypatch: Any) -> None:
    cluster, _ = with_fussy(monkeypatch, "pre_enqueue", ANNOTATION)
    cluster.add(pod("p"))
    cluster.handlers.node_updated(node("a"), annotated("a"))
    assert depths(cluster) == {"gated": 1}
    labels = {"plugin": "Fussy", "profile": "default-scheduler"}
    assert cluster.metrics.registry.get_sample_value("scheduler_unschedulable_pods", labels) == 1


def test_a_pod_rejected_by_a_plugin_without_events_is_tried_again_after_any_update(monkeypatch: Any) -> None:
    cluster, _ = with_fussy(monkeypatch, "pre_filter")
    other = pod("other", node_name="a")
    cluster.add(other)
    cluster.schedule(pod("p"))
    cluster.clock.seconds = 100
    cluster.handlers.pod_updated(other, {**other, "status": {"phase": "Running"}})
    assert depths(cluster) == {"active": 1}


def test_updates_that_say_nothing_cost_nothing_where_nobody_listens() -> None:
    cluster = Cluster(node("a"))
    other = pod("other", node_name="a")
    cluster.add(other)
    assert not cluster.scheduler.any_update_matters
    moves = cluster.scheduler.queue.moves
    cluster.handlers.pod_updated(other, {**other, "status": {"phase": "Running"}})
    assert cluster.scheduler.queue.moves == moves


def test_a_hint_that_fails_does_not_strand_the_pod(monkeypatch: Any) -> None:
    def confused(info: PodInfo, old: Any, new: Any) -> bool:
        raise ValueError("what?")

    cluster, _ = with_fussy(monkeypatch, "pre_filter", HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD), confused))
    cluster.schedule(pod("p"))
    cluster.clock.seconds = 100
    cluster.handlers.node_added(node("b"))
    assert depths(cluster) == {"active": 1}
    labels = {"plugin": "Fussy", "event": "NodeAdd", "hint": "Error"}
    assert cluster.metrics.registry.get_sample_value("scheduler_queueing_hint_execution_duration_seconds_count", labels) == 1


def test_a_gate_that_fails_stays_closed(monkeypatch: Any) -> None:
    cluster, fussy = with_fussy(monkeypatch, "pre_enqueue", ANNOTATION)

    def broken(*_: Any) -> Status | None:
        raise KeyError("a mistake")

    fussy.pre_enqueue = broken  # type: ignore[assignment]
    cluster.add(pod("p"))
    assert depths(cluster) == {"gated": 1}


# ---- pods on their way


def test_a_change_of_the_pod_itself_while_it_is_away_counts_when_it_comes_back() -> None:
    cluster = Cluster(node("n", taints=[{"key": "k", "effect": "NoSchedule"}]))
    cluster.add(pod("p"))
    before = cluster.scheduler.queue.moves
    queued = away(cluster)
    cluster.handlers.pod_updated(pod("p"), pod("p", tolerations=[{"operator": "Exists"}]))
    back(cluster, queued, before, "TaintToleration")
    assert depths(cluster) == {"backoff": 1}


def test_a_pod_activated_while_it_is_away_is_tried_again() -> None:
    cluster = Cluster(node("n"))
    cluster.add(pod("p"))
    before = cluster.scheduler.queue.moves
    queued = away(cluster)
    cluster.scheduler.activate(queued.uid)
    back(cluster, queued, before, "NodeAffinity")
    assert depths(cluster) == {"backoff": 1}


def test_a_pod_deleted_while_it_is_bound_frees_its_room_at_once() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("first", cpu="1"), pod("second", cpu="1"))
    binding = cluster.begin_binding()
    assert cluster.schedule_next() == ""
    cluster.handlers.pod_deleted(pod("first", cpu="1"))
    assert cluster.schedule_next() == "a"
    cluster.api.bind_failure = ValueError("gone")
    asyncio.run(binding)
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == [1000]
    cluster.run_background()


def test_a_pod_that_is_asked_to_go_while_it_waits_for_permission_gives_way(monkeypatch: Any) -> None:
    profile = with_gatekeeper(monkeypatch)

    async def scenario() -> tuple[Cluster, float]:
        clock = VirtualClock()
        cluster = Cluster(node("a", cpu="1"), profiles=(profile,), clock=clock)
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(pod("p", cpu="1"))
        binding = cluster.begin_binding()
        going = pod("p", cpu="1")
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(binding)
            await asyncio.sleep(5)
            cluster.handlers.pod_updated(pod("p", cpu="1"), going)
        return cluster, clock.monotonic()

    cluster, seconds = run_virtual(scenario())
    cluster.run_background()
    assert seconds < 6
    assert cluster.message("default/p") == "0/1 nodes are available: 1 removed."
    assert cluster.scheduler.cluster.pod_count == 0


def test_a_nomination_that_ends_wakes_pods_of_no_higher_priority() -> None:
    cluster = Cluster(node("a", cpu="1"))
    nominated = pod("nominated", cpu="1", priority=10, status={"nominatedNodeName": "a"}, schedulingGates=[{"name": "x/y"}])
    cluster.add(nominated)
    cluster.schedule(pod("low", cpu="1", priority=1), pod("high", cpu="2", priority=20))
    cluster.clock.seconds = 100
    free = {**nominated, "status": {"phase": "Pending"}}
    cluster.handlers.pod_updated(nominated, free)
    assert {queued.info.name for queued in cluster.scheduler.queue.active} == {"low"}


# ---- hints


def hint(cluster: Cluster, plugin: str, kind: str, waiting: Object, old: Any, new: Any) -> bool:
    registered: Any = cluster.scheduler.profiles["default-scheduler"].plugins[plugin]
    return bool(getattr(registered, f"_{kind}_changed")(compile_pod(waiting), old, new))


SELECTOR = {"nodeSelector": {"disk": "ssd"}}


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (None, node("a", labels={"disk": "ssd"}), True), (None, node("a"), False),
        (node("a"), node("a", labels={"disk": "ssd"}), True),
        (node("a", labels={"disk": "ssd"}), node("a", labels={"disk": "ssd", "more": "x"}), False),
        (node("a", labels={"disk": "ssd"}), node("a"), False),
    ],
    ids=["a match comes", "another comes", "becomes a match", "was a match before", "is one no more"],
)  # fmt: skip
def test_node_affinity_cares_for_nodes_that_begin_to_match(old: Object | None, new: Object, worth: bool) -> None:
    assert hint(Cluster(new), "NodeAffinity", "node", pod("p", **SELECTOR), old, new) is worth


def device_class(resource: str = "") -> Object:
    return {"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": resource} if resource else {}}


@pytest.mark.parametrize(
    ("asked", "old", "new", "worth"),
    [
        ("example.com/gpu", None, device_class("example.com/gpu"), True),
        ("example.com/gpu", None, device_class("example.com/other"), False),
        ("deviceclass.resource.kubernetes.io/gpu", None, device_class(), True),
        ("example.com/gpu", device_class(), device_class("example.com/gpu"), True),
        ("example.com/gpu", device_class("example.com/gpu"), device_class("example.com/gpu"), False),
    ],
    ids=["comes", "another comes", "by its own name", "begins to", "did before"],
)  # fmt: skip
def test_room_may_be_found_in_devices_whose_class_begins_to_stand_for_a_resource(
    asked: str, old: Object | None, new: Object, worth: bool
) -> None:  # fmt: skip
    assert hint(Cluster(node("a")), "NodeResourcesFit", "class", pod("p", requests={asked: "1"}), old, new) is worth


SPREAD = {"topologySpreadConstraints": [{
    "topologyKey": ZONE, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}},
}]}  # fmt: skip
TAINTED = [{"key": "k", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (None, node("a", labels={ZONE: "1"}), True), (None, node("a"), False),
        (node("a", labels={ZONE: "1"}), None, True), (node("a"), None, False),
        (node("a", labels={ZONE: "1"}), node("a", labels={ZONE: "2"}), True), (node("a", labels={ZONE: "1"}), node("a"), True),
        (node("a", labels={ZONE: "1"}), node("a", labels={ZONE: "1", "more": "x"}), False),
        (node("a", labels={ZONE: "1"}, taints=TAINTED), node("a", labels={ZONE: "1"}), True),
        (node("a", taints=TAINTED), node("a"), False),
    ],
    ids=["comes", "comes elsewhere", "goes", "goes from elsewhere", "moves", "leaves", "is labelled", "loses its taint", "elsewhere"],
)  # fmt: skip
def test_spreading_cares_for_nodes_of_its_topology(old: Object | None, new: Object | None, worth: bool) -> None:
    assert hint(Cluster(node("n")), "PodTopologySpread", "node", pod("p", labels={"app": "x"}, **SPREAD), old, new) is worth


def near(**apps: str) -> Object:
    """Required pod affinity, or with `away` anti-affinity, to pods with these labels."""
    kind = "podAntiAffinity" if apps.pop("away", "") else "podAffinity"
    terms = [{"topologyKey": ZONE, "labelSelector": {"matchLabels": {key: value}}} for key, value in apps.items()]
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def placed(**labels: str) -> PodInfo:
    return compile_pod(pod("other", node_name="n", labels=labels))


@pytest.mark.parametrize(
    ("waiting", "old", "new", "worth"),
    [
        (near(app="x"), None, placed(app="x"), True), (near(app="x", tier="y"), None, placed(app="x"), False),
        (near(app="x"), placed(), placed(app="x"), True), (near(app="x"), placed(app="x"), placed(app="x", more="z"), False),
        (near(app="x", away="yes"), placed(app="x"), None, True), (near(app="x", away="yes"), placed(app="z"), None, False),
        (near(app="x", away="yes"), placed(app="x"), placed(), True),
        (near(app="x", away="yes"), placed(app="x"), placed(app="x", more="z"), False),
        ({}, compile_pod(pod("other", node_name="n", **near(mine="yes", away="yes"))), None, True),
    ],
    ids=["company", "half the company", "turns into company", "was company", "unwanted goes", "another goes", "unwanted no more",
         "still unwanted", "one that did not want us goes"],
)  # fmt: skip
def test_pod_affinity_cares_for_company_that_comes_and_for_unwanted_pods_that_go(
    waiting: Object, old: PodInfo | None, new: PodInfo | None, worth: bool
) -> None:
    assert hint(Cluster(node("n")), "InterPodAffinity", "pod", pod("p", labels={"mine": "yes"}, **waiting), old, new) is worth


def test_unresolvable_is_a_rejection_like_any_other_for_the_queue(monkeypatch: Any) -> None:
    cluster, fussy = with_fussy(monkeypatch, "pre_filter", ANNOTATION)
    fussy.pre_filter = lambda *_: unresolvable("never")
    cluster.schedule(pod("p"))
    [queued] = cluster.scheduler.queue.unschedulable
    assert queued.unschedulable_plugins == {"Fussy"}

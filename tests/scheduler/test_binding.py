"""From decision to binding: assumptions, failures, permission, and pods of several schedulers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubecosm.api.errors import Conflict
from kubecosm.services.scheduler.framework import registry
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.framework.interface import CycleState, PostFilterResult
from kubecosm.services.scheduler.framework.status import Code, Status, unschedulable
from kubecosm.services.scheduler.state.podinfo import PodInfo
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .helpers import Cluster, node, pod


def test_an_assumed_pod_counts_before_it_is_bound() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("first", cpu="1"), pod("second", cpu="1"))
    binding = cluster.begin_binding()
    assert cluster.schedule_next() == ""
    binding.close()


def test_a_failed_binding_gives_the_room_back_and_the_pod_another_try() -> None:
    cluster = Cluster(node("a", cpu="1"))
    why = 'Operation cannot be fulfilled on pods/binding "p": pod p is being deleted, cannot be assigned to a host'
    cluster.api.bind_failure = Conflict(why)
    assert cluster.schedule(pod("p", cpu="1")) == [""]
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == [0]
    assert cluster.message("default/p") == f'running Bind plugin "DefaultBinder": {why}'
    assert cluster.api.patches[-1][1]["conditions"][0]["reason"] == "SchedulerError"
    cluster.api.bind_failure = None
    assert cluster.scheduler.queue.pop() is None
    cluster.clock.seconds = 1
    assert cluster.schedule_next() == "a"


def test_room_given_back_by_a_failed_binding_wakes_others() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("first", cpu="1"), pod("second", cpu="1"))
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = cluster.scheduler.schedule_one(queued)
    assert cluster.schedule_next() == ""
    cluster.api.bind_failure = Conflict("no")
    assert binding is not None
    asyncio.run(binding)
    cluster.api.bind_failure = None
    assert cluster.schedule_next() == "a"
    assert cluster.api.bound == {"default/second": "a"}


def test_a_pod_that_vanished_while_it_was_bound_is_forgotten() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("p", cpu="1"))
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = cluster.scheduler.schedule_one(queued)
    cluster.handlers.pod_deleted(pod("p", cpu="1"))
    cluster.api.bind_failure = Conflict("gone")
    assert binding is not None
    asyncio.run(binding)
    assert list(cluster.scheduler.queue) == []
    assert cluster.scheduler.cluster.pod_count == 0


def test_a_pod_that_somebody_else_bound_counts_where_it_is() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1"))
    waiting = pod("p", cpu="1")
    cluster.add(waiting)
    cluster.confirm(waiting, "b")
    assert cluster.scheduler.queue.pop() is None
    assert cluster.schedule(pod("q", cpu="1")) == ["a"]


def test_a_pod_that_ends_frees_its_room() -> None:
    cluster = Cluster(node("a", cpu="1"))
    running = pod("done", cpu="1", node_name="a")
    cluster.add(running)
    assert cluster.schedule(pod("p", cpu="1")) == [""]
    cluster.handlers.pod_updated(running, {**running, "status": {"phase": "Succeeded"}})
    assert cluster.schedule_next() == "a"


def test_a_terminating_pod_is_not_scheduled() -> None:
    cluster = Cluster(node("a"))
    leaving = pod("p")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert cluster.schedule(leaving) == [""]
    assert cluster.api.events == [("default/p", "Warning", "FailedScheduling", "skip schedule deleting pod: default/p")]


def test_pods_of_other_schedulers_are_left_alone() -> None:
    cluster = Cluster(node("a"))
    cluster.add(pod("p", schedulerName="another"))
    assert cluster.scheduler.queue.pop() is None


def test_each_profile_schedules_its_own_pods_its_own_way() -> None:
    packing = {"NodeResourcesFit": {"scoringStrategy": {"type": "MostAllocated"}}}
    profiles = (ProfileConfig(), ProfileConfig("packer", args=packing))
    cluster = Cluster(node("full", cpu="8"), node("empty", cpu="8"), profiles=profiles)
    cluster.add(pod("x", cpu="4", memory="8Gi", node_name="full"))
    assert cluster.schedule(pod("spread", cpu="1", memory="2Gi")) == ["empty"]
    assert cluster.schedule(pod("pack", cpu="1", memory="2Gi", schedulerName="packer")) == ["full"]


def test_equal_nodes_are_chosen_by_the_seed() -> None:
    def placements(seed: int) -> list[str]:
        cluster = Cluster(*(node(f"n{i}") for i in range(10)), seed=seed)
        return cluster.schedule(*(pod(f"p{i}") for i in range(5)))

    assert placements(1) == placements(1)
    assert len({tuple(placements(seed)) for seed in range(5)}) > 1


# ---- user plugins: Permit, Reserve


class Gatekeeper:
    """Permits nobody without being told to."""

    name = "Gatekeeper"

    def __init__(self, handle: Any, args: Any) -> None:
        self.reserved: list[str] = []

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        if pod.labels.get("reserve") == "no":
            return unschedulable("not on my watch")
        self.reserved.append(pod.name)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        if pod.name in self.reserved:
            self.reserved.remove(pod.name)

    def permit(self, state: CycleState, pod: PodInfo, node_name: str) -> tuple[Status | None, float]:
        return Status(Code.WAIT), 30.0


def with_gatekeeper(monkeypatch: Any) -> ProfileConfig:
    monkeypatch.setattr(registry, "IN_TREE", {**registry.IN_TREE, "Gatekeeper": Gatekeeper})
    return ProfileConfig(plugins={**DEFAULT_PLUGINS, "Gatekeeper": 0})


def permit_scenario(profile: ProfileConfig, decide: Any) -> tuple[Cluster, float]:
    """Schedule one pod, let `decide` act on it while it waits; the seconds it took."""

    async def scenario() -> tuple[Cluster, float]:
        clock = VirtualClock()
        cluster = Cluster(node("a", cpu="1"), profiles=(profile,), clock=clock)
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(pod("p", cpu="1"))
        binding = cluster.begin_binding()
        started = clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(binding)
            await asyncio.sleep(5)
            waiting = cluster.scheduler.waiting.get("uid-default-p")
            assert waiting is not None
            decide(waiting)
        return cluster, clock.monotonic() - started

    cluster, seconds = run_virtual(scenario())
    cluster.run_background()
    return cluster, seconds


def test_a_waiting_pod_is_bound_when_allowed(monkeypatch: Any) -> None:
    cluster, seconds = permit_scenario(with_gatekeeper(monkeypatch), lambda waiting: waiting.allow("Gatekeeper"))
    assert cluster.api.bound == {"default/p": "a"}
    assert 5 <= seconds < 6


def test_a_waiting_pod_is_rejected_when_time_is_up(monkeypatch: Any) -> None:
    cluster, seconds = permit_scenario(with_gatekeeper(monkeypatch), lambda waiting: None)
    assert cluster.api.bound == {}
    assert 30 <= seconds < 31
    why = "rejected due to timeout after waiting 30s at plugin Gatekeeper"
    assert cluster.message("default/p") == f"0/1 nodes are available: 1 {why}."
    plugin = cluster.scheduler.profiles["default-scheduler"].plugins["Gatekeeper"]
    assert isinstance(plugin, Gatekeeper)
    assert plugin.reserved == []
    assert cluster.scheduler.cluster.pod_count == 0


def test_a_victim_that_still_waits_for_permission_goes_back_to_the_queue(monkeypatch: Any) -> None:
    profile = with_gatekeeper(monkeypatch)

    async def scenario() -> Cluster:
        cluster = Cluster(node("a", cpu="1"), profiles=(profile,), clock=VirtualClock())
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(pod("low", cpu="1"))
        binding = cluster.begin_binding()
        cluster.add(pod("high", cpu="1", priority=10))
        preemptor = cluster.scheduler.queue.pop()
        assert preemptor is not None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(binding)
            assert cluster.scheduler.schedule_one(preemptor) is None
            while cluster.work:
                await cluster.work.pop(0)[1]
        return cluster

    cluster = run_virtual(scenario())
    cluster.run_background()
    assert (cluster.api.deleted, cluster.api.bound) == ([], {})
    assert cluster.message("default/low") == "waiting on permit for pod: preempted"
    assert len(cluster.scheduler.queue.error_backoff) == 1, "nothing is wrong with it: it is tried again after its back-off"
    [note] = [note for key, _, reason, note in cluster.api.events if (key, reason) == ("default/low", "Preempted")]
    assert note == "Preempted by pod uid-default-high on node a (in kube-scheduler memory)."


def test_what_cannot_be_reserved_is_refused(monkeypatch: Any) -> None:
    cluster = Cluster(node("a"), profiles=(with_gatekeeper(monkeypatch),))
    assert cluster.schedule(pod("p", labels={"reserve": "no"})) == [""]
    assert cluster.message("default/p") == "0/1 nodes are available: 1 not on my watch."


# ---- plugins with mistakes


class Broken:
    """Fails at one extension point for pods that are labelled so."""

    name = "Broken"

    def __init__(self, point: str) -> None:
        self._point = point

    def _fail(self, point: str, pod_info: PodInfo) -> None:
        if point == self._point and pod_info.labels.get("break") == "it":
            raise KeyError("a mistake")

    def pre_filter(self, state: CycleState, pod_info: PodInfo) -> None:
        self._fail("pre_filter", pod_info)

    def score(self, state: CycleState, pod_info: PodInfo, rows: Any) -> int:
        self._fail("score", pod_info)
        return 0

    def reserve(self, state: CycleState, pod_info: PodInfo, node_name: str) -> None:
        self._fail("reserve", pod_info)

    def unreserve(self, state: CycleState, pod_info: PodInfo, node_name: str) -> None:
        return

    def post_filter(self, state: CycleState, pod_info: PodInfo, diagnosis: Any) -> Any:
        self._fail("post_filter", pod_info)
        return PostFilterResult(status=unschedulable("no help"))

    def filter(self, state: CycleState, pod_info: PodInfo, rows: Any) -> None:
        self._fail("filter", pod_info)

    def pre_score(self, state: CycleState, pod_info: PodInfo, rows: Any) -> None:
        self._fail("pre_score", pod_info)

    def permit(self, state: CycleState, pod_info: PodInfo, node_name: str) -> tuple[None, float]:
        self._fail("permit", pod_info)
        return None, 0.0

    def pre_bind_pre_flight(self, state: CycleState, pod_info: PodInfo) -> bool:
        return self._point == "pre_bind"

    async def pre_bind(self, state: CycleState, pod_info: PodInfo, node_name: str) -> None:
        self._fail("pre_bind", pod_info)

    async def bind(self, state: CycleState, pod_info: PodInfo, node_name: str) -> Status:
        self._fail("bind", pod_info)
        return Status(Code.SKIP)

    def post_bind(self, state: CycleState, pod_info: PodInfo, node_name: str) -> None:
        self._fail("post_bind", pod_info)


WORDS = {
    "pre_filter": 'running PreFilter plugin "Broken": {}', "filter": 'running "Broken" filter plugin: {}',
    "pre_score": 'running PreScore plugin "Broken": {}', "score": 'running Score plugins: plugin "Broken" failed with: {}',
    "reserve": 'running Reserve plugin "Broken": {}', "permit": 'running Permit plugin "Broken": {}',
    "pre_bind": 'running PreBind plugin "Broken": {}', "bind": 'running Bind plugin "Broken": {}',
    "post_filter": "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. {}",
}  # fmt: skip


@pytest.mark.parametrize("point", [*WORDS, "post_bind"])
def test_a_plugin_that_fails_harms_its_own_pod_only(point: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "IN_TREE", {**registry.IN_TREE, "Broken": lambda handle, args: Broken(point)})
    plugins = {"Broken": 1, **DEFAULT_PLUGINS}
    cluster = Cluster(node("a", cpu="4"), node("b", cpu="4"), profiles=(ProfileConfig(plugins=plugins),))
    selector = {"nodeSelector": {"no": "such"}} if point == "post_filter" else {}
    unlucky = pod("unlucky", cpu="1", labels={"break": "it"}, **selector)

    async def scenario() -> list[str]:
        await cluster.scheduler.binding.slots.acquire()
        placed = []
        for one in (unlucky, pod("lucky", cpu="1")):
            cluster.add(one)
            queued = cluster.scheduler.queue.pop()
            assert queued is not None
            binding = cluster.scheduler.schedule_one(queued)
            if binding is not None:
                await binding
            while cluster.work:
                await cluster.work.pop(0)[1]
            placed.append(cluster.api.bound.get(queued.info.key, ""))
        return placed

    first, second = asyncio.run(scenario())
    assert second in ("a", "b")
    assert bool(first) is (point == "post_bind")
    if point != "post_bind":
        assert cluster.message("default/unlucky") == WORDS[point].format("KeyError('a mistake')")
        assert len(cluster.scheduler.queue.error_backoff) == (point != "post_filter")
        assert sum(cluster.scheduler.cluster.nodes.requested("cpu").tolist()) == 1000


def test_a_confirmed_pod_is_compiled_again_only_if_something_changed() -> None:
    cluster = Cluster(node("a"))
    state = cluster.scheduler.cluster
    for name, change in (("same", {}), ("labelled", {"labels": {"new": "label"}}), ("edited", {"generation": 2})):
        old = pod(name, cpu="1")
        cluster.add(old)
        queued = cluster.scheduler.queue.pop()
        assert queued is not None
        binding = cluster.scheduler.schedule_one(queued)
        assert binding is not None
        binding.close()
        assumed = state.pod(queued.uid)
        new = {**old, "metadata": {**old["metadata"], **change}, "spec": {**old["spec"], "nodeName": "a"}}
        cluster.handlers.pod_updated(old, new)
        known = state.pod(queued.uid)
        assert known is not None
        assert ((known is assumed), known.pod is new, state.is_assumed(queued.uid)) == (not change, True, False)
    assert int(state.nodes.requested("cpu")[0]) == 3000

"""What becomes of a pod whose attempt fails after, or in spite of, the filters: its reason, its place in the queue, what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kubecosm.api.errors import NotFound
from kubecosm.runtime.errors import StartupError
from kubecosm.services.scheduler.deadline import go_duration
from kubecosm.services.scheduler.framework import registry
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.framework.interface import Verdict
from kubecosm.services.scheduler.framework.status import Code, Status, error, unresolvable, unschedulable
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .helpers import Cluster, node, pod


def plugin(monkeypatch: Any, before: bool = False, **methods: Any) -> tuple[ProfileConfig, ...]:
    """A profile with one more plugin, called Mine, made of these methods."""
    plain = {name: (lambda self, *given, answer=answer: answer(*given)) for name, answer in methods.items()}
    waiting = {name: answer for name, answer in methods.items() if asyncio.iscoroutinefunction(answer)}
    made = type("Mine", (), {"name": "Mine", **plain, **{name: staticmethod(answer) for name, answer in waiting.items()}})
    monkeypatch.setattr(registry, "IN_TREE", {**registry.IN_TREE, "Mine": lambda handle, args: made()})
    plugins: Mapping[str, int] = {"Mine": 1, **DEFAULT_PLUGINS} if before else {**DEFAULT_PLUGINS, "Mine": 1}
    return (ProfileConfig(plugins=plugins),)


def reason_of(cluster: Cluster, key: str = "default/p") -> str:
    return next(patch["conditions"][0]["reason"] for told, patch in reversed(cluster.api.patches) if told == key and "conditions" in patch)


def test_a_plugin_that_forbids_the_binding_makes_the_pod_unschedulable_but_it_is_tried_again(monkeypatch: Any) -> None:
    async def pre_bind(*_: Any) -> Any:
        return unschedulable("the license has run out")

    profiles = plugin(monkeypatch, pre_bind_pre_flight=lambda *_: True, pre_bind=pre_bind)

    async def scenario() -> Cluster:
        cluster = Cluster(node("a"), profiles=profiles)
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(pod("p"))
        binding = cluster.begin_binding()
        await binding
        return cluster

    cluster = asyncio.run(scenario())
    cluster.run_background()
    assert cluster.message("default/p") == "the license has run out"
    assert reason_of(cluster) == "Unschedulable"
    assert len(cluster.scheduler.queue.error_backoff) == 1


def test_a_plugin_that_cannot_say_whether_it_prepares_fails_the_attempt_and_frees_the_room(monkeypatch: Any) -> None:
    async def pre_bind(*_: Any) -> Any:
        return None

    def pre_flight(*_: Any) -> Any:
        raise RuntimeError("lost")

    wait = Status(Code.WAIT), 600.0
    profiles = plugin(monkeypatch, pre_bind_pre_flight=pre_flight, pre_bind=pre_bind, permit=lambda *_: wait)

    async def scenario() -> Cluster:
        cluster = Cluster(node("a"), profiles=profiles)
        cluster.add(pod("p"))
        binding = cluster.begin_binding()
        await binding
        return cluster

    cluster = asyncio.run(scenario())
    cluster.run_background()
    assert cluster.message("default/p") == "running PreBindPreFlight plugin \"Mine\": RuntimeError('lost')"
    assert (cluster.scheduler.cluster.pod_count, list(cluster.scheduler.waiting)) == (0, [])
    assert len(cluster.scheduler.queue.error_backoff) == 1


@pytest.mark.parametrize(
    ("methods", "why"),
    [
        ({"pre_bind": None}, "plugin Mine has pre_bind, which needs pre_bind_pre_flight beside it"),
        ({"reserve": None}, "plugin Mine has reserve, which needs unreserve beside it"),
    ],
    ids=["pre_bind", "reserve"],
)
def test_a_plugin_with_half_of_an_extension_point_is_refused_not_passed_over(monkeypatch: Any, methods: Any, why: str) -> None:
    with pytest.raises(StartupError, match=why):
        Cluster(node("a"), profiles=plugin(monkeypatch, **methods))


def test_a_victim_that_is_being_prepared_goes_back_to_the_queue_instead_of_being_deleted(monkeypatch: Any) -> None:
    async def pre_bind(*_: Any) -> Any:
        await asyncio.sleep(600)

    profiles = plugin(monkeypatch, pre_bind_pre_flight=lambda state, info: info.name == "low", pre_bind=pre_bind)

    async def scenario() -> tuple[Cluster, float]:
        clock = VirtualClock()
        cluster = Cluster(node("a", cpu="1"), profiles=profiles, clock=clock)
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(pod("low", cpu="1"))
        binding = cluster.begin_binding()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(binding)
            await asyncio.sleep(5)
            cluster.add(pod("high", cpu="1", priority=10))
            preemptor = cluster.scheduler.queue.pop()
            assert preemptor is not None
            assert cluster.scheduler.schedule_one(preemptor) is None
            while cluster.work:
                await cluster.work.pop(0)[1]
        return cluster, clock.monotonic()

    cluster, seconds = run_virtual(scenario())
    cluster.run_background()
    assert seconds < 10
    assert (cluster.api.deleted, cluster.api.bound) == ([], {})
    assert cluster.message("default/low") == "preempted by DefaultPreemption"
    assert reason_of(cluster, "default/low") == "SchedulerError"
    assert cluster.scheduler.cluster.pod_count == 0
    notes = [note for key, _, reason, note in cluster.api.events if (key, reason) == ("default/low", "Preempted")]
    assert notes == ["Preempted by pod uid-default-high on node a (in kube-scheduler memory)."]


def test_an_error_status_of_a_filter_fails_the_attempt(monkeypatch: Any) -> None:
    def filter_(state: Any, info: Any, rows: Any) -> Verdict:
        return Verdict(np.array([False, True])[rows], [error("no answer from the inventory")])

    cluster = Cluster(node("a"), node("b"), profiles=plugin(monkeypatch, filter=filter_))
    assert cluster.schedule(pod("p")) == [""]
    assert cluster.message("default/p") == 'running "Mine" filter plugin: no answer from the inventory'
    assert reason_of(cluster) == "SchedulerError"
    labels = {"extension_point": "Filter", "status": "Error", "profile": "default-scheduler"}
    assert cluster.metrics.registry.get_sample_value("scheduler_framework_extension_point_duration_seconds_count", labels) == 1


def test_a_score_out_of_range_fails_the_attempt(monkeypatch: Any) -> None:
    cluster = Cluster(node("a"), node("b"), profiles=plugin(monkeypatch, score=lambda state, info, rows: np.array([5, 101])))
    cluster.schedule(pod("p"))
    assert cluster.message("default/p") == (
        'applying score defaultWeights on Score plugins: plugin "Mine" returns an invalid score 101, '
        "it should in the range of [0, 100] after normalizing"
    )


@pytest.mark.parametrize(("hopeful", "told"), [(True, "wait your turn"), (False, "pod affinity terms conflict")])
def test_a_rejection_that_preemption_may_lift_lets_the_other_pre_filters_speak(hopeful: bool, told: str, monkeypatch: Any) -> None:
    profiles = plugin(monkeypatch, before=True, pre_filter=lambda state, info: unschedulable("wait your turn"))
    cluster = Cluster(node("a"), profiles=profiles)
    fields = [{"key": "metadata.name", "operator": "In", "values": [name]} for name in "ab"]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}}
    cluster.schedule(pod("p", **({} if hopeful else {"affinity": {"nodeAffinity": required}})))
    assert cluster.message("default/p").startswith(f"0/1 nodes are available: {told}. ")


def test_an_unresolvable_post_filter_ends_the_search_for_help(monkeypatch: Any) -> None:
    from kubecosm.services.scheduler.framework.interface import PostFilterResult

    helpless = PostFilterResult(None, unresolvable("nothing to be done"))
    cluster = Cluster(node("a", cpu="1"), profiles=plugin(monkeypatch, before=True, post_filter=lambda *_: helpless))
    cluster.schedule(pod("p", cpu="2"))
    assert cluster.message("default/p") == "0/1 nodes are available: 1 Insufficient cpu. nothing to be done"


def test_a_binding_that_fails_clears_the_nomination() -> None:
    cluster = Cluster(node("a"))
    cluster.api.bind_failure = NotFound('pods "p" not found')
    cluster.schedule(pod("p", status={"nominatedNodeName": "a"}))
    assert cluster.api.patches[-1][1]["nominatedNodeName"] is None
    assert cluster.scheduler.nominator.node_of("uid-default-p") == ""


def test_a_pod_deleted_while_it_was_bound_is_told_about_once_more() -> None:
    cluster = Cluster(node("a"))
    cluster.add(pod("p"))
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = cluster.scheduler.schedule_one(queued)
    cluster.handlers.pod_deleted(pod("p"))
    cluster.api.bind_failure = NotFound('pods "p" not found')
    assert binding is not None
    asyncio.run(binding)
    cluster.run_background()
    assert cluster.message("default/p") == 'running Bind plugin "DefaultBinder": pods "p" not found'
    assert cluster.api.patches == []


def test_a_pod_bound_without_preparation_counts_at_every_extension_point() -> None:
    cluster = Cluster(node("a"))
    cluster.schedule(pod("p"))
    for point in ("PreFilter", "Filter", "Reserve", "Permit", "PreBind", "Bind", "PostBind"):
        labels = {"extension_point": point, "status": "Success", "profile": "default-scheduler"}
        assert cluster.metrics.registry.get_sample_value("scheduler_framework_extension_point_duration_seconds_count", labels) == 1, point


@pytest.mark.parametrize(("seconds", "text"), [(30, "30s"), (90, "1m30s"), (0.5, "500ms"), (2.5, "2.5s"), (3600, "1h0m0s"), (0, "0s")])
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text

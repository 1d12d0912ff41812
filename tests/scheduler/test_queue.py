"""The scheduling queue: order, back-off, gates, and what cluster events move."""

from __future__ import annotations

import asyncio

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.events import NODE_ADD
from kubecosm.services.scheduler.queue import inflight
from kubecosm.services.scheduler.queue.podqueue import QueuedPod
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .helpers import Cluster, node, pod


def names(cluster: Cluster) -> list[str]:
    """Pods in the order in which they would be tried."""
    taken = []
    while (queued := cluster.scheduler.queue.pop()) is not None:
        taken.append(queued.info.name)
    return taken


def reject(cluster: Cluster, *plugins: str) -> QueuedPod:
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    cluster.scheduler.queue.rejected(queued, frozenset(plugins), frozenset())
    return queued


def depths(cluster: Cluster) -> dict[str, int]:
    return {name: depth for name, depth in cluster.scheduler.queue.depths().items() if depth}


def test_higher_priority_goes_first_then_who_came_first() -> None:
    cluster = Cluster()
    for name, priority in (("a", 0), ("b", 10), ("c", 10), ("d", -5)):
        cluster.add(pod(name, priority=priority))
        cluster.clock.seconds += 1
    assert names(cluster) == ["b", "c", "a", "d"]


def test_a_rejected_pod_waits_for_an_event_of_its_rejectors() -> None:
    cluster = Cluster(node("n"))
    cluster.add(pod("p", cpu="1"))
    reject(cluster, "NodeResourcesFit")
    cluster.clock.seconds = 100
    cluster.handlers.node_updated(node("n"), node("n", labels={"new": "label"}))
    assert depths(cluster) == {"unschedulable": 1}
    cluster.handlers.node_updated(node("n", cpu="1"), node("n", cpu="2"))
    assert depths(cluster) == {"active": 1}


def test_an_event_that_cannot_help_moves_nobody() -> None:
    cluster = Cluster(node("n"))
    cluster.add(pod("p", cpu="8"))
    reject(cluster, "NodeResourcesFit")
    cluster.clock.seconds = 100
    cluster.handlers.node_added(node("small", cpu="4"))
    assert depths(cluster) == {"unschedulable": 1}
    cluster.handlers.node_added(node("large", cpu="8"))
    assert depths(cluster) == {"active": 1}


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)])
def test_back_off_doubles_from_one_to_ten_seconds(attempts: int, seconds: float) -> None:
    cluster = Cluster()
    cluster.add(pod("p"))
    for _ in range(attempts):
        cluster.clock.seconds += 20
        queued = reject(cluster, "NodeName")
        cluster.scheduler.queue.move(NODE_ADD, None, node("n"))
    assert cluster.scheduler.queue.backoff_seconds(queued) == seconds
    assert depths(cluster) == {"backoff": 1}


def test_errors_back_off_by_themselves_and_are_not_hurried() -> None:
    cluster = Cluster()
    cluster.add(pod("p"))
    reject(cluster)
    assert depths(cluster) == {"backoff": 1}
    assert cluster.scheduler.queue.pop() is None
    cluster.clock.seconds = 0.999
    assert cluster.scheduler.queue.pop() is None
    cluster.clock.seconds = 1
    assert names(cluster) == ["p"]


def test_a_success_in_between_does_not_forget_rejections_but_ends_an_error_streak() -> None:
    cluster = Cluster()
    cluster.add(pod("p"))
    reject(cluster)
    cluster.clock.seconds = 1
    queued = reject(cluster, "NodeName")
    assert (queued.consecutive_errors, queued.unschedulable_count) == (0, 1)


def test_an_idle_scheduler_does_not_make_pods_sit_out_their_back_off() -> None:
    cluster = Cluster()
    cluster.add(pod("p"), pod("q"))
    for _ in range(2):
        reject(cluster, "NodeName")
    cluster.scheduler.queue.move(NODE_ADD, None, node("n"))
    cluster.add(pod("fresh"))
    assert depths(cluster) == {"active": 1, "backoff": 2}
    assert names(cluster) == ["fresh", "p", "q"]


def test_after_five_minutes_a_pod_is_tried_without_an_event() -> None:
    cluster = Cluster()
    cluster.add(pod("p"))
    reject(cluster, "NodeName")
    cluster.clock.seconds = 299
    assert cluster.scheduler.queue.pop() is None
    cluster.clock.seconds = 300
    assert names(cluster) == ["p"]


def test_a_gated_pod_is_not_tried_before_its_gates_are_gone() -> None:
    cluster = Cluster(node("n"))
    gated = pod("p", schedulingGates=[{"name": "a"}, {"name": "b"}])
    cluster.add(gated)
    cluster.handlers.node_added(node("m"))
    assert depths(cluster) == {"gated": 1}
    one_less = pod("p", schedulingGates=[{"name": "b"}])
    cluster.handlers.pod_updated(gated, one_less)
    assert depths(cluster) == {"gated": 1}
    cluster.handlers.pod_updated(one_less, pod("p"))
    assert depths(cluster) == {"active": 1}
    assert cluster.schedule_next() in ("n", "m")


def test_a_changed_toleration_is_worth_another_try() -> None:
    taint = {"key": "k", "effect": "NoSchedule"}
    cluster = Cluster(node("n", taints=[taint]))
    assert cluster.schedule(pod("p")) == [""]
    cluster.clock.seconds = 10
    cluster.handlers.pod_updated(pod("p"), pod("p", tolerations=[{"key": "k", "operator": "Exists"}]))
    assert cluster.schedule_next() == "n"


def test_a_status_update_moves_nothing() -> None:
    cluster = Cluster(node("n", unschedulable=True))
    cluster.schedule(pod("p"))
    cluster.clock.seconds = 100
    cluster.handlers.pod_updated(pod("p"), pod("p", status={"conditions": [{"type": "PodScheduled", "status": "False"}]}))
    assert depths(cluster) == {"unschedulable": 1}


def test_a_deleted_pod_leaves_every_queue() -> None:
    cluster = Cluster()
    for index in range(3):
        cluster.add(pod(f"p{index}", schedulingGates=[{"name": "g"}] if index == 2 else []))
    reject(cluster, "NodeName")
    for index in range(3):
        cluster.handlers.pod_deleted(pod(f"p{index}"))
    assert depths(cluster) == {}


def test_a_freed_host_port_wakes_only_who_wants_it() -> None:
    cluster = Cluster(node("n"))
    used = pod("used", ports=[{"hostPort": 80}], node_name="n")
    cluster.add(used)
    assert cluster.schedule(pod("p", ports=[{"hostPort": 80}])) == [""]
    cluster.clock.seconds = 100
    cluster.add(pod("other", ports=[{"hostPort": 81}], node_name="n"))
    cluster.handlers.pod_deleted(pod("other", ports=[{"hostPort": 81}], node_name="n"))
    assert depths(cluster) == {"unschedulable": 1}
    cluster.handlers.pod_deleted(used)
    assert cluster.schedule_next() == "n"


def test_incoming_pods_are_counted_by_queue_and_event() -> None:
    cluster = Cluster(node("n", unschedulable=True))
    cluster.schedule(pod("p"))
    cluster.handlers.node_updated(node("n", unschedulable=True), node("n"))
    text = cluster.metrics.render()[1].decode()
    assert 'scheduler_queue_incoming_pods_total{event="UnscheduledPodAdd",queue="active"} 1.0' in text
    assert 'scheduler_queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="unschedulable"} 1.0' in text
    assert 'scheduler_queue_incoming_pods_total{event="NodeUpdateNodeTaint",queue="backoff"} 1.0' in text
    assert 'scheduler_pending_pods{queue="backoff"} 1.0' in text


def test_waiting_for_work_costs_nothing_and_ends_when_a_back_off_does() -> None:
    async def scenario() -> float:
        clock = VirtualClock()
        cluster = Cluster(clock=clock)
        queue = cluster.scheduler.queue
        cluster.add(pod("p"))
        reject(cluster)
        started = clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(queue.run())
            await queue.wait_ready()
            running.cancel()
        assert queue.pop() is not None
        return clock.monotonic() - started

    assert 1.0 <= run_virtual(scenario()) < 1.5


def test_deleting_a_pod_wakes_who_lacked_its_room() -> None:
    cluster = Cluster(node("n", cpu="1"))
    placed: Object = pod("first", cpu="1", node_name="n")
    cluster.add(placed)
    assert cluster.schedule(pod("second", cpu="1")) == [""]
    cluster.handlers.pod_deleted(placed)
    assert cluster.schedule_next() == "n"


# ---- pods that are away while events happen


def away(cluster: Cluster) -> QueuedPod:
    """Take the next pod out of the queue as if it were being bound."""
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    cluster.scheduler.queue.in_flight.leave(queued.uid, cluster.scheduler.queue.moves)
    return queued


def back(cluster: Cluster, queued: QueuedPod, since: int, *plugins: str) -> None:
    cluster.scheduler.queue.rejected(queued, frozenset(plugins), frozenset(), since)
    cluster.scheduler.queue.in_flight.land(queued.uid)


@pytest.mark.parametrize(("grown", "where"), [("2", "backoff"), ("1", "unschedulable")])
def test_a_pod_that_comes_back_is_judged_by_the_events_it_missed(grown: str, where: str) -> None:
    cluster = Cluster(node("n", cpu="1"))
    cluster.add(pod("p", cpu="2"))
    before = cluster.scheduler.queue.moves
    queued = away(cluster)
    cluster.handlers.node_updated(node("n", cpu="1"), node("n", cpu=grown, labels={"new": "label"}))
    back(cluster, queued, before, "NodeResourcesFit")
    assert depths(cluster) == {where: 1}


def test_events_are_kept_only_while_somebody_has_missed_them() -> None:
    cluster = Cluster(node("n"))
    cluster.add(pod("p"), pod("q"))
    move = lambda: cluster.scheduler.queue.move(NODE_ADD, None, node("m"))  # noqa: E731
    move()
    kept = cluster.scheduler.queue.in_flight
    assert kept.counts() == {}
    first = away(cluster)
    move()
    second = away(cluster)
    move()
    assert kept.counts() == {"NodeAdd": 2}
    kept.land(first.uid)
    assert kept.counts() == {"NodeAdd": 1}
    kept.land(second.uid)
    assert kept.counts() == {}


def test_with_more_events_than_are_kept_a_pod_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "EVENTS_MAX", 3)
    cluster = Cluster(node("n"))
    cluster.add(pod("p"))
    before = cluster.scheduler.queue.moves
    queued = away(cluster)
    for _ in range(5):
        cluster.scheduler.queue.move(NODE_ADD, None, node("small", cpu="1"))
    back(cluster, queued, before, "NodeAffinity")
    assert depths(cluster) == {"backoff": 1}


def test_hints_and_late_successes_are_measured() -> None:
    cluster = Cluster(node("n", cpu="1"))
    cluster.schedule(pod("p", cpu="2"))
    cluster.handlers.node_updated(node("n", cpu="1"), node("n", cpu="1500m"))
    cluster.clock.seconds = 301
    cluster.handlers.node_updated(node("n", cpu="1500m"), node("n", cpu="1", labels={"a": "b"}))
    cluster.scheduler.queue.flush()
    cluster.scheduler.cluster.set_node(node("n", cpu="2"))
    assert cluster.schedule_next() == "n"
    text = cluster.metrics.render()[1].decode()
    labels = '{event="NodeUpdateNodeAllocatable",hint="QueueSkip",plugin="NodeResourcesFit"}'
    assert f"scheduler_queueing_hint_execution_duration_seconds_count{labels} 2.0" in text
    assert "scheduler_pod_scheduled_after_flush_total 1.0" in text

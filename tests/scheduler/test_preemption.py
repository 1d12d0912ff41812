"""Preemption: who may, on which node, whose pods go, and what the world is told."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest

from kubecosm.api.errors import Forbidden, NotFound
from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.status import Status, unresolvable
from kubecosm.services.scheduler.plugins.defaultpreemption import DefaultPreemption
from kubecosm.services.scheduler.plugins.preemption_choice import Candidate, importance, pick
from kubecosm.services.scheduler.plugins.preemption_memory import Memory, search
from kubecosm.services.scheduler.state.podinfo import compile_pod

from .helpers import Cluster, node, pod


def budget(name: str, allowed: int, labels: dict[str, str], **status: Object) -> Object:
    return {
        "metadata": {"namespace": "default", "name": name}, "spec": {"selector": {"matchLabels": labels}},
        "status": {"disruptionsAllowed": allowed, **status},
    }  # fmt: skip


def gone(cluster: Cluster, *names: str) -> None:
    """The victims have terminated."""
    for name in names:
        placed = cluster.scheduler.cluster.pod(f"uid-default-{name}")
        assert placed is not None
        cluster.handlers.pod_deleted(placed.pod)


def test_a_higher_priority_pod_takes_the_place_of_a_lower_one() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a", priority=1))
    assert cluster.schedule(pod("high", cpu="1", priority=10)) == [""]
    assert cluster.api.deleted == ["default/low"]
    assert ("default/low", {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "default-scheduler: preempting to accommodate a higher priority pod", "observedGeneration": 1, "lastProbeTime": None,
    }]}) in cluster.api.patches  # fmt: skip
    assert ("default/low", "Normal", "Preempted", "Preempted by pod uid-default-high on node a") in cluster.api.events
    assert [patch["nominatedNodeName"] for key, patch in cluster.api.patches if "nominatedNodeName" in patch] == ["a"]
    gone(cluster, "low")
    assert cluster.schedule_next() == "a"


def test_the_message_says_nothing_of_preemption_that_works() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.message("default/high") == "0/1 nodes are available: 1 Insufficient cpu."


def test_equal_priority_displaces_nobody() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("first", cpu="1", node_name="a", priority=10))
    assert cluster.schedule(pod("second", cpu="1", priority=10)) == [""]
    assert cluster.api.deleted == []


def test_only_as_many_victims_as_needed_and_the_least_important_ones() -> None:
    cluster = Cluster(node("a", cpu="4"))
    for name, priority in (("p1", 1), ("p2", 2), ("p3", 3), ("p4", 4)):
        cluster.add(pod(name, cpu="1", node_name="a", priority=priority))
    cluster.schedule(pod("high", cpu="2", priority=10))
    assert sorted(cluster.api.deleted) == ["default/p1", "default/p2"]


def test_of_equals_the_youngest_goes() -> None:
    cluster = Cluster(node("a", cpu="2"))
    cluster.add(pod("old", cpu="1", node_name="a", start="2025-01-01T00:00:00Z"))
    cluster.add(pod("young", cpu="1", node_name="a", start="2025-06-01T00:00:00Z"))
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.api.deleted == ["default/young"]


def test_disruption_budgets_are_spared_where_possible() -> None:
    cluster = Cluster(node("a", cpu="2"))
    cluster.add(pod("guarded", cpu="1", node_name="a", labels={"app": "db"}), pod("free", cpu="1", node_name="a", priority=5))
    cluster.handlers.budget_set(budget("db", 0, {"app": "db"}))
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.api.deleted == ["default/free"]


def test_nodes_without_broken_budgets_are_preferred() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1"))
    cluster.add(pod("guarded", cpu="1", node_name="a", labels={"app": "db"}), pod("free", cpu="1", node_name="b", priority=5))
    cluster.handlers.budget_set(budget("db", 0, {"app": "db"}))
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.api.deleted == ["default/free"]


def test_a_budget_that_allows_one_protects_the_second() -> None:
    cluster = Cluster(node("a", cpu="3"))
    for name in ("x", "y"):
        cluster.add(pod(name, cpu="1", node_name="a", labels={"app": "db"}, start=f"2025-01-0{1 if name == 'x' else 2}T00:00:00Z"))
    cluster.add(pod("free", cpu="1", node_name="a", priority=5))
    cluster.handlers.budget_set(budget("db", 1, {"app": "db"}))
    cluster.schedule(pod("high", cpu="2", priority=10))
    # y breaks the budget (x used it up), so it is reprieved first, and takes all the room there is
    assert sorted(cluster.api.deleted) == ["default/free", "default/x"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([(1, "")], [(2, "")], 0),
        ([(1, ""), (1, "")], [(1, "")], 1),
        ([(5, ""), (1, "")], [(5, ""), (2, "")], 0),
        ([(1, "2025-01-01")], [(1, "2025-06-01")], 1),
        ([(1, "")], [(1, "")], 0),
    ],
    ids=["lowest highest priority", "fewest", "lowest sum", "youngest", "first"],
)
def test_the_cheapest_node_is_picked(first: list[tuple[int, str]], second: list[tuple[int, str]], expected: int) -> None:
    candidates = []
    for row, victims in enumerate((first, second)):
        pods = [compile_pod(pod(f"{row}-{i}", priority=priority, start=start)) for i, (priority, start) in enumerate(victims)]
        candidates.append(Candidate(row, tuple(pods), 0))
    assert pick(candidates).row == expected


def test_fewer_broken_budgets_weigh_more_than_priority() -> None:
    cheap, dear = compile_pod(pod("cheap", priority=0)), compile_pod(pod("dear", priority=9))
    assert pick([Candidate(0, (cheap,), 1), Candidate(1, (dear,), 0)]).row == 1


def test_a_pod_whose_victims_are_leaving_waits() -> None:
    cluster = Cluster(node("a", cpu="1"))
    victim = pod("low", cpu="1", node_name="a")
    cluster.add(victim)
    high = pod("high", cpu="1", priority=10)
    cluster.schedule(high)
    leaving = copy.deepcopy(victim)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    leaving["status"]["conditions"] = [condition]
    cluster.handlers.pod_updated(victim, leaving)
    cluster.handlers.pod_updated(high, {**high, "status": {"nominatedNodeName": "a"}})
    cluster.scheduler.queue.activate("uid-default-high")
    cluster.schedule_next()
    assert cluster.api.deleted == ["default/low"]
    assert cluster.message("default/high").endswith("preemption: not eligible due to a terminating pod on the nominated node.")


def test_nominated_pods_keep_their_place_from_those_below_them() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("high", cpu="1", priority=10))
    gone(cluster, "low")
    cluster.scheduler.queue.delete("uid-default-high")  # not its turn yet
    assert cluster.schedule(pod("middle", cpu="1", priority=5)) == [""]
    assert cluster.schedule(pod("higher", cpu="1", priority=20)) == ["a"]


def test_who_is_outranked_on_its_node_is_nominated_no_more() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.scheduler.nominator.node_of("uid-default-high") == "a"
    cluster.schedule(pod("higher", cpu="1", priority=20))
    assert cluster.scheduler.nominator.node_of("uid-default-high") == ""
    assert cluster.scheduler.nominator.node_of("uid-default-higher") == "a"


def test_preemption_helps_against_anti_affinity() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    anti = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    cluster = Cluster(node("a"))
    cluster.add(pod("low", labels={"app": "x"}, node_name="a"), pod("bystander", node_name="a"))
    cluster.schedule(pod("high", priority=10, affinity=anti))
    assert cluster.api.deleted == ["default/low"]


def test_a_simulation_leaves_the_state_as_it_was() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1"))
    cluster.add(pod("x", cpu="1", node_name="a", ports=[{"hostPort": 80}]), pod("y", cpu="1", node_name="b"))
    before = cluster.scheduler.cluster.nodes.requested("cpu").tolist()
    cluster.schedule(pod("high", cpu="2", priority=10, ports=[{"hostPort": 80}]))
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == before
    assert list(cluster.scheduler.cluster.used_ports) == [("TCP", 80)]


@pytest.mark.parametrize("seed", range(60))
def test_plain_arithmetic_finds_the_same_victims_as_trying(seed: int) -> None:
    r = random.Random(seed)
    cluster = Cluster(*(node(f"n{i}", cpu="4", memory="8Gi", pods=str(r.randint(2, 5))) for i in range(4)))
    for index in range(r.randint(1, 16)):
        cluster.add(pod(
            f"p{index}", cpu=r.choice(["", "500m", "1", "2"]), memory=r.choice(["", "1Gi", "4Gi"]), priority=r.randint(0, 5),
            node_name=f"n{r.randrange(4)}", labels={"app": r.choice("xy")}, start=r.choice(["", "2025-01-01", "2025-02-01"]),
        ))  # fmt: skip
    if r.random() < 0.5:
        cluster.handlers.budget_set(budget("x", r.randint(0, 2), {"app": "x"}))
    wanted = compile_pod(pod("high", cpu=r.choice(["1", "3", "5"]), memory=r.choice(["", "6Gi"]), priority=r.randint(1, 6)))
    plugin = cluster.scheduler.profiles["default-scheduler"].plugins["DefaultPreemption"]
    assert isinstance(plugin, DefaultPreemption)
    for round in range(4):
        fit = plugin._framework.fit_by_resources(wanted)
        assert fit is not None
        budgets = list(cluster.scheduler.budgets.values())
        quick = plugin._quick.for_pod(wanted, fit, budgets)
        holds = quick.remembered()
        for row in range(4):
            judged = quick.try_node(row)
            assert judged is not None
            by_arithmetic = summary(judged[0])
            assert summary(plugin._try_node(wanted, row, budgets)) == by_arithmetic
            if holds[row]:
                remembered = quick.memory.found[row]
                assert remembered is not None
                assert summary(remembered) == by_arithmetic
            quick.memory.put(row, judged)
        change_something(cluster, r, round)


@pytest.mark.parametrize("seed", range(20))
def test_the_shortlist_has_enough_candidates_and_its_best_is_the_one_that_comparing_all_would_pick(seed: int) -> None:
    r = random.Random(seed)
    size, enough = 40, r.randint(1, 15)
    found: list[Candidate | Status] = []
    for row in range(size):
        starts = [f"2025-01-0{r.randint(1, 3)}" for _ in range(r.randint(1, 3))]
        victims = [compile_pod(pod(f"{row}-{i}", priority=r.randint(0, 2), start=start)) for i, start in enumerate(starts)]
        victims.sort(key=importance)
        refused = r.random() < 0.3
        found.append(unresolvable("no") if refused else Candidate(row, tuple(victims), r.choice([0, 1, 1]) if seed % 2 else 0))
    memory = Memory(size)
    holds = np.array([r.random() < 0.5 for _ in range(size)])
    for row in range(size):
        memory.put(row, (found[row] if holds[row] else unresolvable("outdated"), 1))
    rows = np.roll(np.arange(size), -r.randrange(size))
    shortlist, tried = search(rows, enough, memory, holds, lambda row: (found[row], 1))
    expected: list[Candidate] = []
    for row in rows.tolist():
        if len(expected) >= enough and any(not one.violations for one in expected):
            break
        candidate = found[row]
        if isinstance(candidate, Candidate):
            expected.append(candidate)
    assert shortlist.all() == expected
    assert shortlist.best() is pick(expected)
    assert len(memory.refusals(tried)) == sum(isinstance(found[row], Status) for row in tried.tolist())


def change_something(cluster: Cluster, r: random.Random, round: int) -> None:
    """What the plugin remembers must not outlive these."""
    where = f"n{r.randrange(4)}"
    name = f"late-{round}"
    match r.randrange(4):
        case 0:
            cluster.add(pod(name, cpu="500m", priority=r.randint(0, 5), node_name=where))
        case 1:
            nominated = compile_pod(pod(name, cpu="1", priority=r.randint(0, 6), status={"nominatedNodeName": where}))
            cluster.scheduler.nominator.add(nominated, where)
        case 2:
            row = cluster.scheduler.cluster.nodes.row_of[where]
            for placed in list(cluster.scheduler.cluster.nodes.pods[row].values())[:1]:
                started = {**placed.pod, "status": {"startTime": "2024-01-01"}}
                cluster.handlers.pod_updated(placed.pod, started)
        case _:
            row = cluster.scheduler.cluster.nodes.row_of[where]
            for placed in list(cluster.scheduler.cluster.nodes.pods[row].values())[:1]:
                cluster.handlers.pod_deleted(placed.pod)


def test_a_remembered_node_does_not_serve_a_pod_that_may_not_run_there() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1", labels={"disk": "ssd"}))
    cluster.add(pod("low-a", cpu="1", node_name="a"), pod("low-b", cpu="1", node_name="b", priority=5))
    cluster.schedule(pod("first", cpu="1", priority=10))
    cluster.schedule(pod("second", cpu="1", priority=10, nodeSelector={"disk": "ssd"}))
    assert cluster.api.deleted == ["default/low-a", "default/low-b"]


def summary(found: Candidate | Status) -> object:
    if isinstance(found, Status):
        return found.code, sorted(found.reasons)
    return [victim.name for victim in found.victims], found.violations


def test_preemptions_are_counted() -> None:
    cluster = Cluster(node("a", cpu="2"))
    cluster.add(pod("x", cpu="1", node_name="a"), pod("y", cpu="1", node_name="a"))
    cluster.schedule(pod("high", cpu="2", priority=10))
    text = cluster.metrics.render()[1].decode()
    assert "scheduler_preemption_attempts_total 1.0" in text
    assert "scheduler_preemption_victims_sum 2.0" in text


def test_a_nomination_by_somebody_else_keeps_its_room_until_it_is_cleared() -> None:
    cluster = Cluster(node("a", cpu="1"))
    waiting = pod("waiting", cpu="1", priority=10, schedulingGates=[{"name": "x/y"}])
    cluster.add(waiting)
    nominated = {**waiting, "status": {"phase": "Pending", "nominatedNodeName": "a"}}
    cluster.handlers.pod_updated(waiting, nominated)
    assert cluster.schedule(pod("low", cpu="1")) == [""]
    cluster.handlers.pod_updated(nominated, waiting)
    cluster.scheduler.queue.activate("uid-default-low")
    assert cluster.schedule_next() == "a"


def scraped(cluster: Cluster, name: str) -> float:
    return cluster.metrics.registry.get_sample_value(name) or 0.0


def test_victims_that_are_leaving_already_are_not_told_again() -> None:
    cluster = Cluster(node("a", cpu="1"))
    leaving = pod("low", cpu="1", node_name="a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.add(leaving)
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.api.deleted == []
    assert [reason for key, _, reason, _ in cluster.api.events if key == "default/low"] == []
    assert ("default/high", "a") in [(key, patch.get("nominatedNodeName")) for key, patch in cluster.api.patches]
    assert (scraped(cluster, "scheduler_preemption_attempts_total"), scraped(cluster, "scheduler_preemption_victims_count")) == (1, 0)


def test_every_search_for_victims_is_an_attempt_even_of_pods_that_may_not_preempt() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("meek", cpu="1", priority=10, preemptionPolicy="Never"), pod("high", cpu="1", priority=10))
    assert scraped(cluster, "scheduler_preemption_attempts_total") == 2
    assert (scraped(cluster, "scheduler_preemption_victims_count"), scraped(cluster, "scheduler_preemption_victims_sum")) == (1, 1)


def test_a_victim_that_has_gone_by_itself_is_not_said_to_be_preempted() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.api.delete_failures["default/low"] = NotFound('pods "low" not found')
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert [reason for key, _, reason, _ in cluster.api.events if key == "default/low"] == []
    assert scraped(cluster, "scheduler_preemption_goroutines_execution_total") == 0
    result = cluster.metrics.registry.get_sample_value("scheduler_preemption_goroutines_execution_total", {"result": "success"})
    assert result == 1


def test_the_last_victim_stays_while_another_cannot_be_deleted() -> None:
    cluster = Cluster(node("a", cpu="2"))
    cluster.add(pod("older", cpu="1", node_name="a", start="2025-01-01T00:00:00Z"))
    cluster.add(pod("younger", cpu="1", node_name="a", start="2025-06-01T00:00:00Z"))
    cluster.api.delete_failures["default/older"] = Forbidden("no")
    cluster.add(pod("high", cpu="2", priority=10))
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    cluster.scheduler.schedule_one(queued)
    with pytest.raises(ExceptionGroup):
        cluster.run_background()
    cluster.run_background()
    assert cluster.api.deleted == []
    assert len(cluster.scheduler.queue.active) == 1, "the preemptor tries again at once"


def test_budgets_do_not_cover_pods_without_labels() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="1"))
    cluster.add(pod("bare", cpu="1", node_name="a"), pod("dressed", cpu="1", node_name="b", labels={"app": "x"}, priority=1))
    strict = budget("strict", 0, {})
    strict["spec"]["selector"] = {"matchExpressions": [{"key": "no", "operator": "DoesNotExist"}]}
    cluster.handlers.budget_set(strict)
    cluster.schedule(pod("high", cpu="1", priority=10))
    assert cluster.api.deleted == ["default/bare"]

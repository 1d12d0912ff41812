"""Priority and fairness, piece by piece: matching, hands of queues, the division of seats, fair queues, turns. Time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.flowcontrol.allocation import Bounds, Used, Want, bounds_of, divide, lend
from kubecosm.services.apiserver.flowcontrol.bootstrap import default_levels, default_schemas
from kubecosm.services.apiserver.flowcontrol.demand import Demand
from kubecosm.services.apiserver.flowcontrol.dispatcher import Dispatcher, Rejected
from kubecosm.services.apiserver.flowcontrol.flows import Flow, FlowStats
from kubecosm.services.apiserver.flowcontrol.level import Level, LevelSpec, Queuing
from kubecosm.services.apiserver.flowcontrol.matching import distinguisher, find_schema, in_order
from kubecosm.services.apiserver.flowcontrol.queues import Ticket
from kubecosm.services.apiserver.flowcontrol.retry import RetryAfter
from kubecosm.services.apiserver.flowcontrol.shuffle import deal, flow_hash
from kubecosm.services.apiserver.flowcontrol.work import work_of_write
from kubecosm.services.apiserver.http.info import parse_path
from kubecosm.services.apiserver.http.request import Request
from kubecosm.testing.virtualtime import run_virtual

AUTHENTICATED = "system:authenticated"
NODE = User("system:node:n1", ("system:nodes", AUTHENTICATED))
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
POD = "/api/v1/namespaces/default/pods/p"


def account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


@pytest.mark.parametrize(
    ("user", "verb", "path", "schema", "distinct"),
    [
        (User("admin", ("system:masters", AUTHENTICATED)), "delete", POD, "exempt", ""),
        (User("system:anonymous", ("system:unauthenticated",)), "get", "/livez", "probes", ""),
        (User("system:anonymous", ("system:unauthenticated",)), "get", "/livez/ping", "global-default", "system:anonymous"),
        (User("system:kube-scheduler", (AUTHENTICATED,)), "update", LEASE, "system-leader-election", "system:kube-scheduler"),
        (User("system:kube-scheduler", (AUTHENTICATED,)), "watch", LEASE, "kube-scheduler", "kube-node-lease"),
        (User("system:kube-scheduler", (AUTHENTICATED,)), "create", POD + "/binding", "kube-scheduler", "default"),
        (User("system:kube-controller-manager", (AUTHENTICATED,)), "update", "/api/v1/namespaces/a/endpoints/e", "endpoint-controller",
         "system:kube-controller-manager"),
        (account("kube-system", "x"), "get", "/api/v1/namespaces/a/configmaps/c", "workload-leader-election",
         "system:serviceaccount:kube-system:x"),
        (account("kube-system", "x"), "patch", "/api/v1/namespaces/a/configmaps/c", "kube-system-service-accounts", "a"),
        (account("team", "x"), "get", POD, "service-accounts", "system:serviceaccount:team:x"),
        (NODE, "update", LEASE, "system-node-high", "system:node:n1"),
        (NODE, "patch", "/api/v1/nodes/n1/status", "system-node-high", "system:node:n1"),
        (NODE, "patch", POD + "/status", "system-nodes", "system:node:n1"),
        (User("jane", (AUTHENTICATED,)), "list", "/api/v1/pods", "global-default", "jane"),
    ],
)  # fmt: skip
def test_a_request_belongs_to_the_schema_that_kubernetes_gives_it(user: User, verb: str, path: str, schema: str, distinct: str) -> None:
    info = parse_path(path)
    found = find_schema(in_order(default_schemas()), user, verb, info)
    assert found is not None
    assert (found["metadata"]["name"], distinguisher(found, user, info)) == (schema, distinct)


def test_a_hand_has_different_queues_and_flows_spread_over_all() -> None:
    hands = [deal(flow_hash("s", f"user-{n}"), 64, 6) for n in range(2000)]
    assert all(len(set(hand)) == 6 and max(hand) < 64 for hand in hands)
    uses = Counter(queue for hand in hands for queue in hand)
    assert len(uses) == 64
    assert max(uses.values()) < 1.5 * min(uses.values())
    assert deal(flow_hash("s", "x"), 5, 5) != (0, 0, 0, 0, 0)
    assert sorted(deal(flow_hash("s", "x"), 5, 5)) == [0, 1, 2, 3, 4]


def test_the_default_levels_share_600_seats_as_kubernetes_documents() -> None:
    limits = {level["metadata"]["name"]: level["spec"].get("limited") or {} for level in default_levels()}
    shares = {name: limit.get("nominalConcurrencyShares", 0) for name, limit in limits.items()}
    seats = {name: bounds_of(share, sum(shares.values()), 600, 0, None).nominal for name, share in shares.items()}
    assert seats == {
        "exempt": 0, "catch-all": 13, "global-default": 49, "leader-election": 25, "node-high": 98, "system": 74, "workload-high": 98,
        "workload-low": 245,
    }  # fmt: skip


def test_lending_and_borrowing_bound_a_level() -> None:
    assert bounds_of(30, 245, 600, 33, None) == bounds_of(30, 245, 600, 33, None)
    bounds = bounds_of(100, 200, 100, 90, 20)
    assert (bounds.nominal, bounds.lower, bounds.upper) == (50, 5, 60)


@pytest.mark.parametrize("seed", range(5))
def test_divided_seats_add_up_keep_their_bounds_and_follow_the_targets(seed: int) -> None:
    rng = random.Random(seed)
    wants = []
    for _ in range(8):
        lower = rng.uniform(0, 20)
        wants.append(Want(lower + rng.uniform(0, 50), lower, lower + rng.uniform(0, 200)))
    total = rng.uniform(sum(w.lower for w in wants), sum(w.upper for w in wants))
    seats = divide(total, wants)
    assert sum(seats) == pytest.approx(total, rel=1e-6)
    free = [s / w.target for s, w in zip(seats, wants, strict=True) if w.lower + 1e-6 < s < w.upper - 1e-6]
    assert all(w.lower - 1e-9 <= s <= w.upper + 1e-9 for s, w in zip(seats, wants, strict=True))
    assert max(free, default=1.0) == pytest.approx(min(free, default=1.0), rel=1e-6)


def test_a_greedy_level_borrows_only_what_its_owners_do_not_use() -> None:
    greedy, modest, idle = Bounds(50, 25, 100), Bounds(30, 15, 100), Bounds(20, 10, 100)
    seats = lend([Used(greedy, 1000, 1000.0), Used(modest, 28, 20.0), Used(idle, 0, 0.0)])
    assert seats == pytest.approx([62.0, 28.0, 10.0], abs=0.01)
    assert lend([Used(greedy, 0, 0.0), Used(modest, 0, 0.0), Used(idle, 0, 0.0)]) == [50.0, 30.0, 20.0]
    assert lend([Used(greedy, 1000, 1000.0), Used(modest, 500, 500.0), Used(idle, 300, 300.0)]) == [50.0, 30.0, 20.0]


def test_demand_rises_at_once_and_falls_slowly() -> None:
    demand = Demand(0.0)
    demand.change(40, 0.0)
    assert demand.end_period(10.0) == pytest.approx(40.0)
    demand.change(-40, 10.0)
    assert demand.end_period(20.0) == pytest.approx(40.0 * 0.977)
    assert demand.highest == 0


def test_retry_after_doubles_under_steady_rejection_and_recovers() -> None:
    retry = RetryAfter()
    advice = [retry.rejected(100 + tick / 10) for tick in range(400)]
    assert advice[0] == 1
    assert advice == sorted(advice)
    assert advice[-1] >= 8
    later = [retry.rejected(1000 + 40 * n) for n in range(40)]
    assert later[-1] == 1


@pytest.mark.parametrize(("watchers", "expected"), [(0, (1, 0, 0.0)), (9, (1, 0, 0.0)), (10, (1, 1, 0.005)), (1000, (10, 10, 0.05))])
def test_writes_cost_more_the_more_watch_them(watchers: int, expected: tuple[int, int, float]) -> None:
    assert tuple(work_of_write(watchers, 10)) == pytest.approx(expected)


# ---- queues and turns


def limited(name: str, seats: int, queuing: Queuing | None = None) -> Level:
    level = Level(LevelSpec(name, "", False, 1, 0, None, queuing), 0.0)
    level.bounds = bounds_of(1, 1, seats, 0, None)
    level.limit = seats
    return level


class Load:
    """Requests of some flows; each takes its seats for so long."""

    def __init__(self, seconds_max: float = 15.0) -> None:
        self.now = asyncio.get_running_loop().time
        self.dispatcher = Dispatcher(self.now, seconds_max)
        self.ended: list[str] = []

    async def one(self, flow: Flow, seconds: float, seats: int = 1, linger: float = 0.0) -> None:
        ticket = Ticket(flow, cast(Request, SimpleNamespace()), seats, seats if linger else 0, linger, self.now())
        self.dispatcher.enter(ticket, ticket.arrived)
        if ticket.turn is not None:
            await self.dispatcher.wait(ticket)
        await asyncio.sleep(seconds)
        self.dispatcher.leave(ticket, self.now(), learn=False)
        self.ended.append(flow.distinguisher)


def flow(level: Level, who: str) -> Flow:
    return Flow("schema", "", who, level, FlowStats("schema", level.name, False))


def test_a_quiet_flow_is_served_among_the_requests_of_a_greedy_one() -> None:
    async def main() -> None:
        load, level = Load(seconds_max=1000.0), limited("low", 2, Queuing(16, 4, 50))
        greedy, quiet = flow(level, "greedy"), flow(level, "quiet")
        assert set(greedy.hand) != set(quiet.hand)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(load.one(greedy, 1.0))
            await asyncio.sleep(0.5)
            for _ in range(4):
                tasks.create_task(load.one(quiet, 1.0))
        assert load.ended.count("quiet") == 4
        assert max(i for i, who in enumerate(load.ended) if who == "quiet") < 20
        assert (level.taken, level.executing, level.queues.waiting, level.queues.active, level.demand.value) == (0, 0, 0, {}, 0)

    run_virtual(main(), grace_seconds=0)


def test_flows_in_queues_of_their_own_get_equal_seat_time() -> None:
    async def main() -> None:
        load, level = Load(seconds_max=1000.0), limited("low", 4, Queuing(64, 6, 1000))
        slow, quick = flow(level, "slow"), flow(level, "quick-4")
        assert not set(slow.hand) & set(quick.hand)
        async with asyncio.TaskGroup() as tasks:
            group = [tasks.create_task(load.one(slow, 1.0)) for _ in range(300)]
            group += [tasks.create_task(load.one(quick, 0.1)) for _ in range(3000)]
            await asyncio.sleep(60.0)
            ended = Counter(load.ended)
            for task in group:
                task.cancel()
        assert ended["slow"] * 1.0 == pytest.approx(ended["quick-4"] * 0.1, rel=0.3)
        assert level.queues.waiting == 0

    run_virtual(main(), grace_seconds=0)


def test_a_full_queue_rejects_and_a_long_wait_times_out() -> None:
    async def main() -> None:
        load, level = Load(seconds_max=15.0), limited("low", 1, Queuing(1, 1, 2))
        mine = flow(level, "me")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.one(mine, 100.0))
            waiting = [tasks.create_task(expect_rejection(load.one(mine, 1.0))) for _ in range(2)]
            await asyncio.sleep(1.0)
            assert await expect_rejection(load.one(mine, 1.0)) == ("queue-full", 1.0)
        assert [task.result() for task in waiting] == [("time-out", 15.0)] * 2
        assert mine.stats.rejected == {"queue-full": 1, "time-out": 2}
        assert level.taken == 0

    run_virtual(main(), grace_seconds=0)


async def expect_rejection(call: Any) -> tuple[str, float]:
    with pytest.raises(Rejected) as rejected:
        await call
    return str(rejected.value), asyncio.get_running_loop().time()


def test_a_level_without_queues_rejects_beyond_its_seats() -> None:
    async def main() -> None:
        load, level = Load(), limited("catch-all", 2)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(load.one(flow(level, "me"), 1.0))
            await asyncio.sleep(0.1)
            assert (await expect_rejection(load.one(flow(level, "me"), 1.0)))[0] == "concurrency-limit"

    run_virtual(main(), grace_seconds=0)


def test_a_client_that_leaves_gives_its_place_back() -> None:
    async def main() -> None:
        load, level = Load(), limited("low", 1, Queuing(1, 1, 10))
        mine = flow(level, "me")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.one(mine, 1.0))
            leaving = tasks.create_task(load.one(mine, 1.0))
            tasks.create_task(load.one(mine, 1.0))
            await asyncio.sleep(0.5)
            leaving.cancel()
        assert asyncio.get_running_loop().time() == pytest.approx(2.0)
        assert mine.stats.rejected == {"cancelled": 1}
        assert level.taken == 0

    run_virtual(main(), grace_seconds=0)


def test_seats_of_a_write_linger_for_its_watchers() -> None:
    async def main() -> None:
        load, level = Load(), limited("low", 10, Queuing(1, 1, 10))
        mine = flow(level, "me")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(load.one(mine, 0.0, seats=10, linger=0.05))
        assert 0.1 <= asyncio.get_running_loop().time() < 0.2

    run_virtual(main(), grace_seconds=0)


def test_while_the_loop_is_busy_a_level_with_little_work_goes_first() -> None:
    """Requests that keep the loop busy take turns: the greedy level's hundred do not come before the quiet one's single request."""

    async def main() -> None:
        clock = [0.0]
        dispatcher = Dispatcher(lambda: clock[0], 1000.0)
        low, system = limited("low", 600, Queuing(64, 6, 50)), limited("system", 600, Queuing(64, 6, 50))
        ended: list[str] = []

        async def read(of: Flow, seconds: float) -> None:
            ticket = Ticket(of, cast(Request, SimpleNamespace()), 1, 0, 0.0, clock[0])
            dispatcher.enter(ticket, clock[0])
            if ticket.turn is not None:
                await dispatcher.wait(ticket)
            clock[0] += seconds  # it does not let go of the loop
            dispatcher.leave(ticket, clock[0], learn=True)
            ended.append(of.distinguisher)

        greedy, kubelet = flow(low, "greedy"), flow(system, "kubelet")
        greedy.cost = 0.01
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(read(greedy, 0.01))
            for _ in range(3):
                await asyncio.sleep(0)
            tasks.create_task(read(kubelet, 0.0002))
        assert len(ended) == 101
        assert ended.index("kubelet") < 10

    asyncio.run(main())

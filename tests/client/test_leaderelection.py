"""Leader election: one leader, prompt succession, and no leader that could not renew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from kubecosm.api.errors import InternalError
from kubecosm.api.meta import Key
from kubecosm.api.resources import EVENTS, LEASES
from kubecosm.client.events import EventRecorder
from kubecosm.client.http import ApiClient
from kubecosm.client.leaderelection import (
    LEASE_DURATION_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_PERIOD_SECONDS,
    LeaderElector,
    LeadershipLost,
)
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_until

LEASE = Key("kube-system", "kube-scheduler")


async def forever() -> None:
    await asyncio.Event().wait()


def with_server(scenario: Callable[[MemoryServer, ApiClient, VirtualClock, asyncio.TaskGroup], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client, asyncio.TaskGroup() as tasks:
            await scenario(server, client, clock, tasks)

    run_virtual(main())


def elector(client: ApiClient, identity: str, clock: VirtualClock, **options: Any) -> LeaderElector:
    return LeaderElector(client, "kube-scheduler", identity, clock, random=Random(identity), **options)


def test_the_first_candidate_leads_at_once_and_keeps_renewing() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        one = elector(client, "one", clock)
        running = tasks.create_task(one.run(forever))
        await wait_until(lambda: one.is_leader)
        spec = server.get(LEASES, LEASE)["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("one", 15, 0)
        acquired = spec["acquireTime"]
        await clock.sleep(60)
        spec = server.get(LEASES, LEASE)["spec"]
        assert spec["acquireTime"] == acquired
        assert spec["renewTime"] >= "2026-01-02T03:05:03"
        running.cancel()

    with_server(scenario)


def test_a_second_candidate_waits_and_takes_over_when_the_lease_is_released() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        leaders: list[str] = []
        one, two = elector(client, "one", clock), elector(client, "two", clock, on_new_leader=leaders.append)
        first = tasks.create_task(one.run(forever))
        await wait_until(lambda: one.is_leader)
        second = tasks.create_task(two.run(forever))
        await clock.sleep(60)
        assert (one.is_leader, two.is_leader, leaders) == (True, False, ["one"])
        first.cancel()
        at = clock.monotonic()
        await wait_until(lambda: two.is_leader)
        assert clock.monotonic() - at < 2.5 * RETRY_PERIOD_SECONDS
        assert server.get(LEASES, LEASE)["spec"]["leaseTransitions"] == 1
        assert leaders[-1] == "two"
        second.cancel()

    with_server(scenario)


def test_a_leader_that_vanished_is_succeeded_when_its_lease_has_run_out() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        spec = {"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 3, "renewTime": "2031-01-01T00:00:00.000000Z"}
        server.create(LEASES, {"metadata": {"name": LEASE.name, "namespace": LEASE.namespace}, "spec": spec})
        one = elector(client, "one", clock)
        running = tasks.create_task(one.run(forever))
        await clock.sleep(LEASE_DURATION_SECONDS - 1)
        assert not one.is_leader, "by our own clock, whatever time the lease tells"
        await wait_until(lambda: one.is_leader)
        assert clock.monotonic() < LEASE_DURATION_SECONDS + 3 * RETRY_PERIOD_SECONDS
        assert server.get(LEASES, LEASE)["spec"]["leaseTransitions"] == 4
        running.cancel()

    with_server(scenario)


@pytest.mark.parametrize("seconds", [5, 60])
def test_a_leader_is_waited_for_as_long_as_it_wrote_down(seconds: int) -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        spec = {"holderIdentity": "other", "leaseDurationSeconds": seconds, "renewTime": "2031-01-01T00:00:00.000000Z"}
        server.create(LEASES, {"metadata": {"name": LEASE.name, "namespace": LEASE.namespace}, "spec": spec})
        one = elector(client, "one", clock)
        running = tasks.create_task(one.run(forever))
        await clock.sleep(seconds - 1)
        assert not one.is_leader
        await wait_until(lambda: one.is_leader)
        assert clock.monotonic() < seconds + 3 * RETRY_PERIOD_SECONDS
        running.cancel()

    with_server(scenario)


def test_a_leader_that_cannot_renew_stops_before_others_may_lead() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        one, stopped = elector(client, "one", clock), asyncio.Event()

        async def lead() -> None:
            try:
                await forever()
            finally:
                stopped.set()

        async def run_and_lose() -> None:
            with pytest.raises(LeadershipLost, match="one lost the lease kube-scheduler"):
                await one.run(lead)

        tasks.create_task(run_and_lose())
        await wait_until(lambda: one.is_leader)
        at = clock.monotonic()
        for _ in range(200):
            server.refuse_next(InternalError("etcdserver: request timed out"), path="leases")
        await stopped.wait()
        assert RENEW_DEADLINE_SECONDS <= clock.monotonic() - at + 2 < LEASE_DURATION_SECONDS

    with_server(scenario)


def test_a_leader_whose_lease_was_taken_stops_at_once() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        one = elector(client, "one", clock)

        async def run_and_lose() -> None:
            with pytest.raises(LeadershipLost):
                await one.run(forever)

        losing = tasks.create_task(run_and_lose())
        await wait_until(lambda: one.is_leader)
        at = clock.monotonic()
        lease = server.get(LEASES, LEASE)
        server.update(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "thief", "renewTime": "x"}})
        await losing
        assert clock.monotonic() - at <= RETRY_PERIOD_SECONDS + 0.1
        assert server.get(LEASES, LEASE)["spec"]["holderIdentity"] == "thief"

    with_server(scenario)


def test_a_conflicting_change_by_others_does_not_cost_the_lead() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        one = elector(client, "one", clock)
        running = tasks.create_task(one.run(forever))
        await wait_until(lambda: one.is_leader)
        lease = server.get(LEASES, LEASE)
        server.update(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"x": "y"}}})
        await clock.sleep(30)
        assert one.is_leader
        running.cancel()

    with_server(scenario)


def test_when_the_work_ends_the_lease_is_released_and_events_tell() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        recorder = EventRecorder(client, "default-scheduler", clock)
        writing = tasks.create_task(recorder.run())
        await elector(client, "one", clock, recorder=recorder).run(lambda: clock.sleep(5))
        assert server.get(LEASES, LEASE)["spec"]["holderIdentity"] == ""
        await recorder.wait_written()
        told = [(event["reason"], event["message"]) for event in server.list(EVENTS)]
        assert sorted(told) == [("LeaderElection", "one became leader"), ("LeaderElection", "one stopped leading")]
        writing.cancel()

    with_server(scenario)


def test_of_many_candidates_under_faults_at_most_one_leads() -> None:
    async def scenario(server: MemoryServer, client: ApiClient, clock: VirtualClock, tasks: asyncio.TaskGroup) -> None:
        random, leading, terms = Random(5), set[str](), 0

        async def candidate(identity: str) -> None:
            nonlocal terms

            async def lead() -> None:
                nonlocal terms
                assert not leading, f"{identity} leads beside {leading}"
                leading.add(identity)
                terms += 1
                try:
                    await clock.sleep(random.random() * 40)
                finally:
                    leading.remove(identity)

            while True:
                try:
                    await elector(client, identity, clock).run(lead)
                except LeadershipLost:
                    continue

        candidates = [tasks.create_task(candidate(f"c{number}")) for number in range(4)]
        for _ in range(100):
            for _ in range(random.randrange(12)):
                server.refuse_next(InternalError("boom"))
            await clock.sleep(random.random() * 10)
        assert terms > 5
        for task in candidates:
            task.cancel()

    with_server(scenario)


def test_impossible_timings_are_refused() -> None:
    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            with pytest.raises(ValueError, match="longer"):
                elector(client, "one", clock, lease_duration_seconds=5)

    run_virtual(main())

"""The work queue, one test for each promise, in virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from kubecosm.client.metrics import PrometheusClientMetrics
from kubecosm.client.workqueue import RateLimiter, WorkQueue
from kubecosm.testing.virtualtime import VirtualClock, run_virtual


def with_queue(scenario: Callable[[WorkQueue[str], VirtualClock], Awaitable[None]], **limits: float) -> None:
    async def main() -> None:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock, limiter=RateLimiter(clock, **limits) if limits else None)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(queue.run())
            await scenario(queue, clock)
            timer.cancel()

    run_virtual(main())


def test_keys_come_in_the_order_they_were_added() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        for key in "abc":
            queue.add(key)
        assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]

    with_queue(scenario)


def test_a_key_waits_once_however_often_it_is_added() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        for _ in range(3):
            queue.add("a")
        queue.add_after("a", 5)
        assert len(queue) == 1
        queue.done(await queue.get())
        await clock.sleep(10)
        assert queue.idle

    with_queue(scenario)


def test_the_earliest_deadline_wins_whichever_was_added_first() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add_after("a", 20)
        queue.add_after("a", 5)
        queue.add_after("a", 10)
        queue.add_after("b", 7)
        queue.add_after("b", 30)
        assert (await queue.get(), clock.monotonic()) == ("a", 5)
        assert (await queue.get(), clock.monotonic()) == ("b", 7)
        queue.done("a")
        queue.done("b")
        await clock.sleep(100)
        assert queue.idle

    with_queue(scenario)


def test_now_beats_later() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add_after("a", 20)
        queue.add("a")
        queue.done(await queue.get())
        assert clock.monotonic() == 0
        await clock.sleep(100)
        assert queue.idle

    with_queue(scenario)


def test_a_key_is_never_handed_out_twice_at_once_and_adds_meanwhile_are_held() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        queue.add("b")
        assert await queue.get() == "b"
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    with_queue(scenario)


def test_a_deadline_given_during_work_counts_from_when_it_was_given() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add("a")
        await queue.get()
        queue.add_after("a", 10)
        queue.add_after("a", 4)
        await clock.sleep(3)
        queue.done("a")
        await queue.get()
        assert clock.monotonic() == 4

    with_queue(scenario)


def test_a_deadline_that_passed_during_work_is_due_at_once() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add("a")
        await queue.get()
        queue.add_after("a", 4)
        await clock.sleep(10)
        queue.done("a")
        await queue.get()
        assert clock.monotonic() == 10

    with_queue(scenario)


def test_backoff_doubles_per_key_up_to_the_maximum_and_success_forgets_it() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        waits = []
        for _ in range(20):
            before = clock.monotonic()
            queue.add_rate_limited("a")
            queue.done(await queue.get())
            waits.append(round(clock.monotonic() - before, 6))
        assert waits[:4] == [0.005, 0.01, 0.02, 0.04]
        assert waits[-2:] == [1000, 1000]
        assert queue.failures("a") == 20
        queue.forget("a")
        before = clock.monotonic()
        queue.add_rate_limited("a")
        await queue.get()
        assert clock.monotonic() - before == pytest.approx(0.005)

    with_queue(scenario)


def test_backoff_of_one_key_leaves_others_alone() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        for _ in range(10):
            queue.add_rate_limited("a")
            queue.done(await queue.get())
        queue.add_rate_limited("a")
        queue.add_rate_limited("b")
        assert await queue.get() == "b"

    with_queue(scenario)


def test_retries_of_all_keys_together_are_limited_after_a_burst() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        for number in range(30):
            queue.add_rate_limited(str(number))
        for _ in range(30):
            queue.done(await queue.get())
        assert clock.monotonic() == pytest.approx(2.0)  # 10 at once, then 10 a second

    with_queue(scenario, per_second=10, burst=10)


def test_discard_drops_what_waits_but_not_what_runs() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add("running")
        await queue.get()
        for key in ("running", "ready"):
            queue.add(key)
        queue.add_after("later", 5)
        for key in ("running", "ready", "later"):
            queue.discard(key)
        queue.done("running")
        await clock.sleep(10)
        assert queue.idle

    with_queue(scenario)


def test_a_cancelled_taker_loses_no_key() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            first, second = tasks.create_task(queue.get()), tasks.create_task(queue.get())
            await asyncio.sleep(0)
            queue.add("a")  # wakes the first, which is cancelled before it runs
            first.cancel()
            assert await second == "a"

    with_queue(scenario)


def test_workers_together_run_every_key_and_no_key_twice_at_once() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        running: set[str] = set()
        runs: dict[str, int] = {}

        async def worker() -> None:
            while True:
                key = await queue.get()
                assert key not in running
                running.add(key)
                await clock.sleep(0.3)
                running.remove(key)
                runs[key] = runs.get(key, 0) + 1
                queue.done(key)

        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(worker()) for _ in range(4)]
            for step in range(40):
                queue.add_after(f"key-{step % 7}", step % 3)
                await clock.sleep(0.1)
            await clock.sleep(60)
            assert queue.idle
            for task in workers:
                task.cancel()
        assert set(runs) == {f"key-{number}" for number in range(7)}

    with_queue(scenario)


def test_metrics_have_the_names_of_kubernetes() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusClientMetrics(registry).queue("replicaset")

    async def main() -> None:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock, metrics=metrics)
        for key in ("a", "a", "b"):
            queue.add(key)
        await clock.sleep(2)
        key = await queue.get()
        await clock.sleep(3)
        assert (sample("workqueue_unfinished_work_seconds"), sample("workqueue_longest_running_processor_seconds")) == (3, 3)
        queue.add_rate_limited(key)
        queue.done(key)

    def sample(name: str) -> float | None:
        return registry.get_sample_value(name, {"name": "replicaset"})

    run_virtual(main())
    assert sample("workqueue_adds_total") == 2
    assert sample("workqueue_depth") == 1
    assert sample("workqueue_retries_total") == 1
    assert sample("workqueue_queue_duration_seconds_sum") == 2
    assert sample("workqueue_work_duration_seconds_sum") == 3


def test_no_timer_runs_while_nothing_waits() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add_after("a", 1)
        queue.done(await queue.get())
        await asyncio.sleep(0)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert "workqueue-alarm" not in names

    with_queue(scenario)


def test_deadlines_that_were_overtaken_take_no_room() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        queue.add_after("other", 50)
        for number in range(10_000):
            queue.add_after("a", 3600 - number / 100)
        assert len(queue._heap) < 2000
        assert (await queue.get(), clock.monotonic()) == ("other", 50)
        assert await queue.get() == "a"
        assert clock.monotonic() == pytest.approx(3500.01)

    with_queue(scenario)


def test_a_very_long_queue_is_not_slower_than_a_short_one() -> None:
    async def scenario(queue: WorkQueue[str], clock: VirtualClock) -> None:
        for number in range(100_000):
            queue.add(str(number))
        for _ in range(100_000):
            queue.done(queue.get_nowait())
        assert queue.idle

    started = time.process_time()
    with_queue(scenario)
    assert time.process_time() - started < 5, "100,000 keys took 0.3 s when this was written, and 2 minutes if each is searched for"

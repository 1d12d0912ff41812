"""The controller runner: what wakes a work item, when it runs, and what happens when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from kubecosm.api.errors import Forbidden, NotFound
from kubecosm.api.meta import Key, controller_ref, key_of
from kubecosm.api.resources import CONFIGMAPS, EVENTS, NODES, PODS, REPLICASETS, SECRETS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.metrics import ClientMetrics, PrometheusClientMetrics
from kubecosm.client.runner import HOLD_SECONDS_MAX, run_controllers
from kubecosm.testing.memory import MemoryServer
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from kubecosm.testing.waiting import wait_until

Work = Callable[[Context, Key], Awaitable[Result]]


class Recorded:
    """A controller that notes its runs and then does `work`."""

    def __init__(self, spec: ControllerSpec, work: Work | None = None) -> None:
        self.SPEC = spec
        self._work = work
        self.runs: list[tuple[float, Key]] = []

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        self.runs.append((ctx.clock.monotonic(), key))
        return await self._work(ctx, key) if self._work else done()

    @property
    def keys(self) -> list[str]:
        return [key.name for _, key in self.runs]


def run(
    scenario: Callable[[MemoryServer, VirtualClock], Awaitable[None]], *controllers: Recorded, metrics: ClientMetrics | None = None,
    prepare: Callable[[MemoryServer], None] = lambda server: None,
) -> None:  # fmt: skip
    """Run the scenario once the controllers' caches are complete."""

    async def main() -> None:
        clock, synced = VirtualClock(), asyncio.Event()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            prepare(server)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(
                    run_controllers(controllers, client, clock, Random(1), metrics=metrics, on_synced=synced.set)
                )
                await synced.wait()
                await scenario(server, clock)
                running.cancel()

    run_virtual(main())


def named(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, **more}


def owned_by(owner: Object, name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": [controller_ref(owner, REPLICASETS)]}}


def test_each_object_is_worked_on_at_the_start_and_on_every_change() -> None:
    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS))

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await wait_until(lambda: sorted(controller.keys) == ["a", "b"])
        controller.runs.clear()
        server.update(CONFIGMAPS, named("a", data={"x": "1"}))
        await wait_until(lambda: controller.keys == ["a"])
        server.delete(CONFIGMAPS, Key("default", "b"))
        await wait_until(lambda: controller.keys == ["a", "b"])

    def prepare(server: MemoryServer) -> None:
        server.create(CONFIGMAPS, named("a"))
        server.create(CONFIGMAPS, named("b"))

    run(scenario, controller, prepare=prepare)


def test_nothing_runs_before_all_its_caches_are_complete() -> None:
    seen: list[int] = []

    async def work(ctx: Context, key: Key) -> Result:
        seen.append(len(ctx.cache(SECRETS)))
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS, reads=(SECRETS,)), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await wait_until(lambda: seen == [2])
        assert controller.runs[0][0] > 0.05, "the list of secrets was refused at first"

    def prepare(server: MemoryServer) -> None:
        server.create(CONFIGMAPS, named("a"))
        server.create(SECRETS, named("s1"))
        server.create(SECRETS, named("s2"))
        server.refuse_next(Forbidden("secrets is forbidden"), path="secrets")

    run(scenario, controller, prepare=prepare)


def test_an_owned_object_wakes_its_owner_also_when_it_is_let_go() -> None:
    controller = Recorded(ControllerSpec("replicaset", primary=REPLICASETS, owns=(PODS,)))

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        owner, other = (server.create(REPLICASETS, named(name)) for name in ("rs", "other"))
        await wait_until(lambda: len(controller.runs) == 2)
        controller.runs.clear()
        server.create(PODS, owned_by(owner, "pod"))
        await wait_until(lambda: controller.keys == ["rs"])
        server.update(PODS, owned_by(other, "pod"))
        await wait_until(lambda: controller.keys == ["rs", "rs", "other"])
        server.delete(PODS, Key("default", "pod"))
        await wait_until(lambda: controller.keys == ["rs", "rs", "other", "other"])
        server.create(PODS, named("stray"))
        await clock.sleep(1)
        assert len(controller.runs) == 4

    run(scenario, controller)


def test_an_owner_of_another_kind_is_not_woken() -> None:
    controller = Recorded(ControllerSpec("configs", primary=CONFIGMAPS, owns=(PODS,)))

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(PODS, owned_by({"metadata": {"name": "rs", "uid": "u"}}, "pod"))
        await clock.sleep(1)
        assert controller.runs == []

    run(scenario, controller)


def test_a_watched_object_wakes_what_its_function_names() -> None:
    def everyone(reader: Reader, node: Object) -> list[Key]:
        return [key_of(obj) for obj in reader.cache(CONFIGMAPS)]

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS, watches={NODES: everyone}))

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await wait_until(lambda: sorted(controller.keys) == ["a", "b"])
        controller.runs.clear()
        server.create(NODES, {"metadata": {"name": "node-1"}})
        await wait_until(lambda: sorted(controller.keys) == ["a", "b"])

    def prepare(server: MemoryServer) -> None:
        server.create(CONFIGMAPS, named("a"))
        server.create(CONFIGMAPS, named("b"))

    run(scenario, controller, prepare=prepare)


def test_updates_that_the_filter_refuses_wake_nothing() -> None:
    def data_differs(old: Object, new: Object) -> bool:
        return bool(old.get("data") != new.get("data"))

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS, cares={CONFIGMAPS: data_differs}))

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await wait_until(lambda: controller.keys == ["a"])
        server.update(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default", "labels": {"x": "y"}}})
        await clock.sleep(1)
        server.update(CONFIGMAPS, named("a", data={"x": "1"}))
        await wait_until(lambda: controller.keys == ["a", "a"])

    run(scenario, controller)


def test_changes_that_come_while_a_work_item_waits_for_them_are_one_run_and_those_of_others_cut_it_short() -> None:
    def all_of_them(reader: Reader, node: Object) -> list[Key]:
        return [key_of(obj) for obj in reader.cache(CONFIGMAPS)]

    spec = ControllerSpec("one", primary=CONFIGMAPS, watches={NODES: all_of_them}, wait_seconds={NODES: 10.0})
    controller = Recorded(spec)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await wait_until(lambda: controller.keys == ["a"])
        before = clock.monotonic()
        for name in ("node-1", "node-2", "node-3"):
            server.create(NODES, {"metadata": {"name": name}})
            await clock.sleep(2)
        await wait_until(lambda: len(controller.runs) == 2, timeout_seconds=60)
        assert round(controller.runs[-1][0] - before) == 10
        await clock.sleep(30)
        assert len(controller.runs) == 2
        server.create(NODES, {"metadata": {"name": "node-4"}})
        await clock.sleep(1)
        server.update(CONFIGMAPS, named("a", data={"x": "1"}))
        await wait_until(lambda: len(controller.runs) == 3)
        await clock.sleep(30)
        assert len(controller.runs) == 3

    run(scenario, controller, prepare=lambda server: server.create(CONFIGMAPS, named("a")) and None)


def test_seeds_run_at_the_start_and_requeue_keeps_a_schedule() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        return requeue(after_seconds=20)

    controller = Recorded(ControllerSpec("podgc", reads=(PODS,), seeds=(Key("", "all"),)), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await wait_until(lambda: len(controller.runs) == 4, timeout_seconds=100)
        times = [at for at, _ in controller.runs]
        assert [round(later - earlier) for earlier, later in pairwise(times)] == [20, 20, 20]

    run(scenario, controller)


def test_a_failure_is_tried_again_with_backoff_and_disturbs_no_other_item() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        if key.name == "bad" and len([name for name in controller.keys if name == "bad"]) < 5:
            raise LookupError("no such luck")
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        with capture_logs() as logs:
            server.create(CONFIGMAPS, named("bad"))
            server.create(CONFIGMAPS, named("good"))
            await clock.sleep(10)
        times = [at for at, key in controller.runs if key.name == "bad"]
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits == pytest.approx([0.005, 0.01, 0.02, 0.04])
        assert controller.keys.count("good") == 1
        assert [line["log_level"] for line in logs] == ["error", "debug", "debug", "debug"]
        assert logs[0]["object"] == "ConfigMap default/bad"
        assert isinstance(logs[0]["exc_info"], LookupError)

    run(scenario, controller)


def test_an_expected_failure_is_logged_without_a_traceback() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        if len(controller.runs) == 1:
            await ctx.client.get(SECRETS, "missing", "default")
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        with capture_logs() as logs:
            server.create(CONFIGMAPS, named("a"))
            await wait_until(lambda: len(controller.runs) == 2)
        assert [(line["log_level"], line["error"]) for line in logs] == [("warning", 'secrets "missing" not found')]
        assert logs[0]["exc_info"] is None

    run(scenario, controller)


def test_work_items_run_side_by_side_up_to_the_number_of_workers() -> None:
    running: set[Key] = set()
    most = 0

    async def work(ctx: Context, key: Key) -> Result:
        nonlocal most
        running.add(key)
        most = max(most, len(running))
        await ctx.clock.sleep(1)
        running.remove(key)
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS, workers=3), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        started = clock.monotonic()
        await wait_until(lambda: len(controller.runs) == 9 and not running)
        assert most == 3
        assert 3 <= clock.monotonic() - started < 3.1

    def prepare(server: MemoryServer) -> None:
        for number in range(9):
            server.create(CONFIGMAPS, named(f"c{number}"))

    run(scenario, controller, prepare=prepare)


def one_pod_each(*, expecting: bool) -> Recorded:
    """A controller that creates the pod it does not see, which a stale cache turns into many."""

    async def work(ctx: Context, key: Key) -> Result:
        owner = ctx.cache(REPLICASETS).get(key)
        if owner is not None and not ctx.owned(PODS, owner):
            created = await ctx.client.create(PODS, owned_by(owner, f"pod-{len(controller.runs)}"))
            if expecting:
                ctx.expect_written(created)
        return done()

    controller = Recorded(ControllerSpec("replicaset", primary=REPLICASETS, owns=(PODS,)), work)
    return controller


@pytest.mark.parametrize(("expecting", "pods"), [(True, 1), (False, 4)], ids=["expecting", "careless"])
def test_a_work_item_that_expects_its_writes_never_runs_on_an_older_cache(expecting: bool, pods: int) -> None:
    controller = one_pod_each(expecting=expecting)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await clock.sleep(1)
        server.watch_lag_seconds = {PODS: 5.0}
        server.create(REPLICASETS, named("rs"))
        for number in range(3):
            await clock.sleep(0.5)
            server.update(REPLICASETS, named("rs", spec={"minReadySeconds": number}))
        await clock.sleep(20)
        assert len(server.list(PODS)) == pods
        assert len(controller.runs) > 1, "what came meanwhile is not lost"

    run(scenario, controller)


def test_another_work_item_is_not_held() -> None:
    controller = one_pod_each(expecting=True)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        await clock.sleep(1)
        server.watch_lag_seconds = {PODS: 5.0}
        server.create(REPLICASETS, named("first"))
        await clock.sleep(1)
        server.create(REPLICASETS, named("second"))
        await clock.sleep(1)
        assert controller.keys == ["first", "second"]

    run(scenario, controller)


def test_a_work_item_waits_until_what_it_deleted_is_gone_or_terminating() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        pod = ctx.cache(PODS).get(Key("default", "pod"))
        if pod is not None:
            try:
                await ctx.client.delete(PODS, "pod", "default")
            except NotFound:
                failures.append(ctx.clock.monotonic())
            ctx.expect_deleted(pod)
        return done()

    failures: list[float] = []
    controller = Recorded(ControllerSpec("one", primary=REPLICASETS, reads=(PODS,)), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(PODS, named("pod"))
        await clock.sleep(1)
        server.watch_lag_seconds = {PODS: 5.0}
        server.create(REPLICASETS, named("rs"))
        await clock.sleep(1)
        server.update(REPLICASETS, named("rs", spec={"minReadySeconds": 1}))
        await clock.sleep(20)
        assert len(controller.runs) == 2
        assert controller.runs[1][0] >= 6
        assert failures == []

    run(scenario, controller)


def test_a_write_that_the_cache_never_sees_holds_a_work_item_for_a_bounded_time() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        if len(controller.runs) == 1:
            ctx.expect_written({**named("a"), "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "999999"}})
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await clock.sleep(1)
        server.update(CONFIGMAPS, named("a", data={"x": "1"}))
        with capture_logs() as logs:
            await wait_until(lambda: len(controller.runs) == 2, timeout_seconds=60)
        assert controller.runs[1][0] - controller.runs[0][0] == pytest.approx(HOLD_SECONDS_MAX, abs=2)
        assert [line["object"] for line in logs] == ["default/a"]

    run(scenario, controller)


def test_a_write_of_a_resource_without_cache_holds_nothing() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        ctx.expect_written({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "resourceVersion": "999999"}})
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await wait_until(lambda: len(controller.runs) == 1)
        server.update(CONFIGMAPS, named("a", data={"x": "1"}))
        await wait_until(lambda: len(controller.runs) == 2, timeout_seconds=1)

    run(scenario, controller)


def test_reading_an_undeclared_cache_says_what_to_do() -> None:
    errors: list[str] = []

    async def work(ctx: Context, key: Key) -> Result:
        try:
            ctx.cache(SECRETS)
        except KeyError as error:
            errors.append(str(error))
        return done()

    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await wait_until(lambda: len(errors) == 1)
        assert "controller one reads secrets" in errors[0]
        assert "`reads`" in errors[0]

    run(scenario, controller)


def test_ten_controllers_share_one_informer_per_resource() -> None:
    controllers = [Recorded(ControllerSpec(f"c{number}", primary=CONFIGMAPS, owns=(PODS,))) for number in range(10)]

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await wait_until(lambda: all(controller.keys == ["a"] for controller in controllers))
        assert sum("watch=true" not in request for request in server.requests) == 2

    run(scenario, *controllers)


def test_events_name_the_controller_as_their_source() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        obj = ctx.cache(CONFIGMAPS).get(key)
        if obj is not None:
            ctx.recorder.event(obj, CONFIGMAPS, "Normal", "Seen", "I have seen it")
        return done()

    controller = Recorded(ControllerSpec("config", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await wait_until(lambda: len(server.list(EVENTS)) == 1)
        assert server.list(EVENTS)[0]["source"] == {"component": "config-controller"}

    run(scenario, controller)


def test_a_bug_in_a_map_function_ends_the_component_instead_of_hiding() -> None:
    def broken(reader: Reader, obj: Object) -> list[Key]:
        raise LookupError("a bug")

    async def main() -> None:
        clock = VirtualClock()
        async with MemoryServer(clock) as server, server.client(clock) as client:
            server.create(NODES, {"metadata": {"name": "node-1"}})
            await run_controllers([Recorded(ControllerSpec("one", watches={NODES: broken}))], client, clock, Random(1))

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main())
    assert caught.group_contains(LookupError, match="a bug")


def test_metrics_count_runs_by_outcome() -> None:
    async def work(ctx: Context, key: Key) -> Result:
        if len(controller.runs) == 1:
            raise NotFound("not yet")
        return done() if len(controller.runs) > 2 else requeue(after_seconds=1)

    registry = CollectorRegistry()
    controller = Recorded(ControllerSpec("one", primary=CONFIGMAPS), work)

    async def scenario(server: MemoryServer, clock: VirtualClock) -> None:
        server.create(CONFIGMAPS, named("a"))
        await clock.sleep(10)
        outcomes = {"error": 1, "requeue_after": 1, "success": 1}
        for outcome, count in outcomes.items():
            labels = {"controller": "one", "result": outcome}
            assert registry.get_sample_value("controller_runtime_reconcile_total", labels) == count
        assert registry.get_sample_value("workqueue_adds_total", {"name": "one"}) == 3

    run(scenario, controller, metrics=PrometheusClientMetrics(registry))

"""Shutting nodes down and switching them on again: who ends when, what is told, and what runs afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError
from kubecosm.services.kubelet.nodes.events import Told
from kubecosm.services.kubelet.nodes.objects import heartbeat_patch
from kubecosm.services.kubelet.nodes.posting import NodeConditions
from kubecosm.services.kubelet.nodes.power import Power, Powers
from kubecosm.services.kubelet.nodes.shutdown import NodeShutdown, Period, plan_groups, plan_periods
from kubecosm.services.kubelet.pipeline import Answer
from kubecosm.services.kubelet.pods.status import Verdict, refused
from kubecosm.services.kubelet.pods.worker import PodWorker
from kubecosm.testing.virtualtime import EPOCH, VirtualClock, run_virtual

from .lab import NODE, Lab, container, in_lab, make_pod, shell

CRITICAL = 2 * 10**9


def test_the_flags_give_critical_pods_the_last_part() -> None:
    assert plan_periods(30, 10, ()) == [Period(0, 20), Period(CRITICAL, 10)]
    assert plan_periods(30, 10, ("1000=5", "0=7")) == [Period(0, 7), Period(1000, 5)]
    assert plan_periods(0, 0, ()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param((5, 10, ()), "must be >=", id="critical above the whole"),
        pytest.param((30, 10, ("high=5",)), "expected PRIORITY=SECONDS", id="no number"),
        pytest.param((30, 10, ("1000",)), "expected PRIORITY=SECONDS", id="no period"),
    ],
)
def test_wrong_flags_are_told(flags: Any, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        plan_periods(*flags)


def test_pods_are_grouped_by_the_period_at_or_below_their_priority() -> None:
    pods = [{"spec": {"priority": priority}} for priority in (-5, 0, 999, 1000, CRITICAL + 1000)] + [{"spec": {}}]
    groups = plan_groups([Period(0, 20), Period(1000, 5), Period(CRITICAL, 10)], pods)
    assert [[pod["spec"].get("priority") for pod in members] for _, members in groups] == [[-5, 0, 999, None], [1000], [CRITICAL + 1000]]
    assert plan_groups([Period(0, 20), Period(CRITICAL, 10)], [{"spec": {"priority": CRITICAL}}])[0][0] == Period(CRITICAL, 10)


def test_a_node_that_shuts_down_says_so() -> None:
    healthy = heartbeat_patch([], EPOCH)["status"]["conditions"]
    ready = heartbeat_patch(healthy, EPOCH, "node is shutting down")["status"]["conditions"][-1]
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "KubeletNotReady", "node is shutting down")


class RecordedPods:
    """A kubelet whose pods end after as many seconds as their name says."""

    def __init__(self, clock: VirtualClock, *pods: Object) -> None:
        self.clock, self.pods = clock, list(pods)
        self.log: list[tuple[float, str, Any]] = []

    def active(self, node: str) -> list[Object]:
        return self.pods

    async def end(self, pods: Sequence[Object], seconds: int, reason: str, message: str) -> None:
        self.log.append((self.clock.monotonic(), "end", [pod["name"] for pod in pods]))
        await self.clock.sleep(max(float(pod["name"]) for pod in pods))

    def switch_off(self, node: str) -> None:
        self.log.append((self.clock.monotonic(), "off", node))

    def switch_on(self, node: str) -> None:
        self.log.append((self.clock.monotonic(), "on", node))


class RecordedApi:
    def __init__(self) -> None:
        self.patches: list[Object] = []
        self.started: list[str] = []

    async def start(self, node: str, boot: str) -> None:
        self.started.append(boot)

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Answer:
        if method == "PATCH":
            self.patches.append(orjson.loads(body))
        return Answer(200, b"{}")


def pod(name: str, priority: int = 0) -> Object:
    return {"name": name, "spec": {"priority": priority}}


def shut_down(*pods: Object, periods: Sequence[Period]) -> tuple[RecordedPods, RecordedApi, list[Told]]:
    """A node is shut down and, a minute later, switched on again."""

    async def main() -> tuple[RecordedPods, RecordedApi, list[Told]]:
        clock = VirtualClock()
        recorded, api = RecordedPods(clock, *pods), RecordedApi()
        events: list[Told] = []
        powers = Powers()
        async with asyncio.TaskGroup() as tasks:
            shutdown = NodeShutdown(
                powers, recorded, clock, tasks, periods, tell=lambda _, told: events.append(told), start=api.start,
                post=NodeConditions(api, clock, powers, lambda _, told: events.append(told)).post,  # type: ignore[arg-type]
            )  # fmt: skip
            shutdown.begin("n", at_once=False)
            assert "already" in shutdown.begin("n", at_once=False)
            await clock.sleep(60)
            assert powers.of("n") is Power.OFF
            shutdown.switch_on("n")
            assert powers.of("n") is Power.ON
        return recorded, api, events

    return run_virtual(main())


def test_groups_end_one_after_the_other_each_within_its_period() -> None:
    pods, api, events = shut_down(pod("3"), pod("99"), pod("4", CRITICAL), periods=[Period(0, 20), Period(1000, 7), Period(CRITICAL, 10)])
    assert pods.log == [(0, "end", ["3", "99"]), (20, "end", ["4"]), (24, "off", "n"), (60, "on", "n")]
    (patch,) = api.patches
    assert patch["status"]["conditions"][-1]["status"] == "False"
    assert len(api.started) == 1, "it is registered anew, with a boot id"
    assert ("Normal", "NodeShutdown", "Shutdown manager detected shutdown event") in events
    assert ("Normal", "NodeNotReady", "Node n status is now: NodeNotReady") in events


def test_without_periods_a_node_goes_off_at_once_and_tells_nothing() -> None:
    pods, api, _ = shut_down(pod("3"), periods=[])
    assert pods.log == [(0, "off", "n"), (60, "on", "n")]
    assert (api.patches, len(api.started)) == ([], 1)


def test_a_shutdown_that_is_called_off_ends_no_further_pods_and_the_node_is_ready_again() -> None:
    async def main() -> None:
        clock = VirtualClock()
        recorded, api, events = RecordedPods(clock, pod("15"), pod("5", CRITICAL)), RecordedApi(), list[Told]()
        powers = Powers()
        async with asyncio.TaskGroup() as tasks:
            shutdown = NodeShutdown(
                powers, recorded, clock, tasks, [Period(0, 20), Period(CRITICAL, 10)],
                tell=lambda _, told: events.append(told), start=api.start,
                post=NodeConditions(api, clock, powers, lambda _, told: events.append(told)).post,  # type: ignore[arg-type]
            )  # fmt: skip
            shutdown.begin("n", at_once=False)
            await clock.sleep(5)
            assert "called off" in shutdown.switch_on("n")
            await clock.sleep(60)
            assert powers.of("n") is Power.ON
        assert recorded.log == [(0, "end", ["15"])], "neither the critical pod nor the node"
        assert [patch["status"]["conditions"][-1]["status"] for patch in api.patches] == ["False", "True"]
        assert Told("Normal", "NodeShutdown", "Shutdown manager detected shutdown cancellation") in events

    run_virtual(main())


def test_a_node_that_is_off_stays_off_over_a_restart_of_its_kubelet(tmp_path: Path) -> None:
    powers = Powers(str(tmp_path))
    powers.put("a", Power.OFF)
    powers.put("b", Power.SHUTTING_DOWN)
    powers.put("c", Power.OFF)
    powers.put("c", Power.ON)
    anew = Powers(str(tmp_path))
    assert [anew.of(name) for name in "abc"] == [Power.OFF, Power.OFF, Power.ON]
    (tmp_path / "power.json").write_bytes(b"rubbish")
    assert Powers(str(tmp_path)).of("a") is Power.ON


SHUTDOWN = Verdict("Terminated", "Pod was terminated in response to imminent node shutdown.", grace_seconds=5, is_disruption=True)


def test_a_pod_that_the_shutdown_ends_is_failed_with_the_reason_and_a_condition() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(), annotations={"kubecosm.dev/ignore-sigterm": "true"}))
        await lab.until_phase("Running")
        worker.evict(SHUTDOWN)
        await lab.until_phase("Failed")
        status = lab.status()
        assert (status["reason"], status["message"]) == (SHUTDOWN.reason, SHUTDOWN.message)
        target = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert (target["status"], target["reason"], target["message"]) == ("True", "TerminationByKubelet", SHUTDOWN.message)
        assert lab.clock.monotonic() == pytest.approx(5, abs=0.5), "the period is shorter than what the pod asks for"

    in_lab(story)


def test_a_refused_pod_tells_nothing_of_containers() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container()))
        worker.evict(refused("NodeShutdown", "Pod was rejected as the node is shutting down."))
        await lab.until_phase("Failed")
        status = lab.status()
        assert (status["reason"], status["message"]) == (
            "NodeShutdown", "Pod was rejected: Pod was rejected as the node is shutting down.",
        )  # fmt: skip
        assert "containerStatuses" not in status

    in_lab(story)


async def reboot(lab: Lab, worker: Any) -> None:
    """The node of a pod goes off and on, as the kubelet's pod manager does it."""
    told = lab.status()
    worker.abandon()
    await lab.runtime.remove_pod(worker.uid)
    count = len(lab.statuses.history[worker.uid])
    await lab.clock.sleep(60)
    assert len(lab.statuses.history[worker.uid]) == count, "a node that is off tells nothing"
    again = lab.workers[worker.uid] = PodWorker(lab.context, {**worker.pod, "status": told}, NODE)
    await again.recover(rebooted=True)


def test_after_a_power_loss_containers_start_anew_and_the_old_ones_have_ended_unknown() -> None:
    async def story(lab: Lab) -> None:
        init = shell("exit 0", "setup")
        worker = lab.run(make_pod(container(), initContainers=[init]))
        await lab.until_phase("Running")
        await reboot(lab, worker)
        await lab.until(lambda: lab.status()["containerStatuses"][0]["restartCount"] == 1 and lab.status()["containerStatuses"][0]["ready"])
        status = lab.status()
        last = status["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (255, "Unknown")
        assert status["initContainerStatuses"][0]["restartCount"] == 1, "a new sandbox is initialized anew"
        assert status["phase"] == "Running"

    in_lab(story)


def test_after_a_power_loss_a_pod_that_is_never_restarted_has_failed() -> None:
    async def story(lab: Lab) -> None:
        worker = lab.run(make_pod(container(), restartPolicy="Never"))
        await lab.until_phase("Running")
        await reboot(lab, worker)
        await lab.until_phase("Failed")
        assert lab.status()["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 255

    in_lab(story)

"""Runs controllers against a FakeApi in virtual time, with a kubelet that makes pods ready and lets deleted ones go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import NODES, PODS, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Controller
from kubecosm.client.http import ApiClient
from kubecosm.client.metrics import ClientMetrics
from kubecosm.client.runner import run_controllers
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .fake_api import FakeApi
from .rights import RestrictedApi

T = TypeVar("T")

WAIT_SECONDS_MAX = 600.0
POLL_SECONDS = 0.01
VIRTUAL = VirtualClock()


def run(test: Callable[[FakeApi], Coroutine[Any, Any, T]]) -> T:
    """Run an async test with a fresh FakeApi in virtual time."""

    async def main() -> T:
        return await test(FakeApi(VirtualClock()))

    return run_virtual(main(), grace_seconds=0)


@asynccontextmanager
async def controllers(api: FakeApi, *modules: Any, metrics: ClientMetrics | None = None) -> AsyncIterator[None]:
    """The controllers at work, caches complete. None of them may do what its account is not allowed in a real API server."""
    synced = asyncio.Event()
    refused: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        working = run_controllers(
            [cast(Controller, module) for module in modules], cast(ApiClient, api), api.clock, random.Random(7), on_synced=synced.set,
            metrics=metrics,
            client_of=lambda controller: cast(ApiClient, RestrictedApi(api, controller, refused)),
        )  # fmt: skip
        running = tasks.create_task(working)
        await synced.wait()
        yield
        running.cancel()
    assert not refused, f"give its account the right in authz/bootstrap.py, if Kubernetes' has it: {sorted(set(refused))}"


async def wait_for(condition: Callable[[], Any], what: str = "") -> None:
    """Let virtual time pass until the condition holds."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS_MAX
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"never happened: {what or condition}")
        await VIRTUAL.sleep(POLL_SECONDS)


async def settle(seconds: float = 2.0) -> None:
    """Give controllers so much virtual time to do what they still want to do."""
    await VIRTUAL.sleep(seconds)


class Kubelet:
    """Schedules, starts and ends pods: `starts(pod)` decides the status a new pod gets, None leaves it Pending."""

    def __init__(self, api: FakeApi, *, start_seconds: float = 0.05, stop_seconds: float = 0.05) -> None:
        self.api = api
        self.start_seconds, self.stop_seconds = start_seconds, stop_seconds
        self.starts: Callable[[Object], Object | None] = lambda pod: running(api)
        self.ended = "Succeeded"
        """The phase of a running pod that is deleted, if a finalizer lets anybody see it."""
        self.ready_counts: list[int] = []

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Kubelet]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run(tasks))
            yield self
            task.cancel()

    async def _run(self, tasks: asyncio.TaskGroup) -> None:
        stream = await self.api.open_watch(PODS)
        busy: set[str] = set()
        while True:
            for event in await stream.read() or ():
                uid = event.object["metadata"]["uid"]
                if event.type == "ADDED":
                    tasks.create_task(self._start(event.object))
                elif event.type == "MODIFIED" and is_deleting(event.object) and uid not in busy:
                    busy.add(uid)
                    tasks.create_task(self._stop(event.object))

    async def _start(self, pod: Object) -> None:
        await VIRTUAL.sleep(self.start_seconds)
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        fresh = self.api.objects[PODS].get(key)  # type: ignore[call-overload]
        if fresh is None or is_deleting(fresh) or fresh["metadata"]["uid"] != pod["metadata"]["uid"]:
            return
        status = self.starts(fresh)
        if not fresh["spec"].get("nodeName"):
            fresh = self.api.put(PODS, {**fresh, "spec": {**fresh["spec"], "nodeName": "node-0"}})
        if status is not None:
            self.api.set_status(PODS, fresh, **status)

    async def _stop(self, pod: Object) -> None:
        await VIRTUAL.sleep(self.stop_seconds)
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        fresh = self.api.objects[PODS].get(key)  # type: ignore[call-overload]
        if fresh is not None and fresh["metadata"]["uid"] == pod["metadata"]["uid"] and not fresh["metadata"].get("finalizers"):
            self.api.remove(PODS, fresh)
        elif fresh is not None:
            meta = {**fresh["metadata"], "deletionGracePeriodSeconds": 0}
            phase = fresh["status"].get("phase")
            ended = self.ended if phase == "Running" else phase
            self.api.put(PODS, {**fresh, "metadata": meta, "status": {**fresh["status"], "phase": ended}})


def running(api: FakeApi, *, ready: bool = True) -> Object:
    """The status of a pod that runs."""
    stamp = format_time(api.clock.now())
    ready_text = "True" if ready else "False"
    return {"phase": "Running", "podIP": "127.64.0.9", "conditions": [{"type": "Ready", "status": ready_text, "lastTransitionTime": stamp}]}


def ended(phase: str) -> Object:
    return {"phase": phase, "conditions": []}


def pod_template(image: str = "nginx", **labels: str) -> Object:
    return {
        "metadata": {"labels": labels or {"app": "web"}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": image}]},
    }


def node(name: str, **labels: str) -> Object:
    return {
        "apiVersion": NODES.api_version, "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "110"}},
    }  # fmt: skip

"""Pods that Permit plugins hold back (waiting_pods_map.go), and pods that PreBind plugins prepare (pods_in_prebind_map.go)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from kubecosm.runtime.clock import Clock

from .deadline import go_duration, within
from .framework.status import Code, Status, error
from .state.podinfo import PodInfo


class WaitingPod:
    """Waits until every plugin that asked for it allows the pod, or any rejects it. `pod.node_name` is where it would go."""

    def __init__(self, pod: PodInfo, plugins: Mapping[str, float]) -> None:
        self.pod = pod
        self._pending = dict(plugins)
        self._decided = asyncio.Event()
        self._rejection: Status | None = None

    @property
    def pending_plugins(self) -> list[str]:
        return list(self._pending)

    def allow(self, plugin: str) -> None:
        self._pending.pop(plugin, None)
        if not self._pending:
            self._decided.set()

    def reject(self, plugin: str, why: str) -> bool:
        """Send the pod back, until an event comes that the plugin cares about. False if it has been decided already."""
        return self._end(Status(Code.UNSCHEDULABLE, (why,), plugin))

    def preempt(self, plugin: str, why: str) -> bool:
        """Send the pod back to be tried again after its back-off: nothing is wrong with it. False if it has been decided already."""
        return self._end(Status(Code.ERROR, (f"waiting on permit for pod: {why}",), plugin))

    def _end(self, status: Status) -> bool:
        if self._decided.is_set():
            return False
        self._rejection = status
        self._decided.set()
        return True

    async def wait_decided(self, clock: Clock) -> Status | None:
        """None when allowed, else the rejection; a plugin that does not speak in its time rejects."""
        started = clock.monotonic()
        while self._pending and not self._decided.is_set():
            plugin, seconds = min(self._pending.items(), key=lambda item: item[1])
            left = started + seconds - clock.monotonic()
            spoke = left > 0 and await within(clock, left, self._wait())
            if not spoke and plugin in self._pending:
                self.reject(plugin, f"rejected due to timeout after waiting {go_duration(seconds)} at plugin {plugin}")
        return self._rejection

    async def _wait(self) -> None:
        await self._decided.wait()


class PreparedPod:
    """A pod whose PreBind plugins run; a preemptor may call it back before it is bound."""

    def __init__(self) -> None:
        self._work: asyncio.Task[Status | None] | None = None
        self._why = ""

    async def prepare(self, work: Coroutine[Any, Any, Status | None]) -> Status | None:
        """What the plugins answer, or that the pod was called back."""
        async with asyncio.TaskGroup() as tasks:
            self._work = tasks.create_task(work, name="pre-bind")
        return error(self._why) if self._work.cancelled() else self._work.result()

    def cancel(self, why: str) -> bool:
        """Call the pod back; False if its plugins have finished."""
        if self._work is None or self._work.done():
            return False
        self._why = why
        return self._work.cancel()


class WaitingPods:
    """All pods that wait, by uid: what a Permit plugin uses to let other pods go, or to send them back."""

    def __init__(self) -> None:
        self._pods: dict[str, WaitingPod] = {}

    def __iter__(self) -> Iterator[WaitingPod]:
        return iter(list(self._pods.values()))

    def get(self, uid: str) -> WaitingPod | None:
        return self._pods.get(uid)

    def hold(self, pod: PodInfo, plugins: Mapping[str, float]) -> None:
        """From now on the pod can be allowed and rejected; `wait` or `drop` must follow."""
        self._pods[pod.uid] = WaitingPod(pod, plugins)

    async def wait(self, uid: str, clock: Clock) -> Status | None:
        """Until the pod that is held is decided."""
        try:
            return await self._pods[uid].wait_decided(clock)
        finally:
            del self._pods[uid]

    def drop(self, uid: str) -> None:
        """Nobody will wait for the pod any more, if it is held at all."""
        self._pods.pop(uid, None)

    def reject(self, uid: str, why: str) -> bool:
        """Send a pod back that is held; False if it is not."""
        waiting = self._pods.get(uid)
        return waiting is not None and waiting.reject("", why)

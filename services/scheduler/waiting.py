"""Pods that Permit plugins hold back (waiting_pods_map.go)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kubecosm.runtime.clock import Clock

from .deadline import within
from .framework.status import Code, Status


class WaitingPod:
    """Waits until every plugin that asked for it allows the pod, or any rejects it."""

    def __init__(self, plugins: Mapping[str, float]) -> None:
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

    def reject(self, plugin: str, why: str) -> None:
        if not self._decided.is_set():
            self._rejection = Status(Code.UNSCHEDULABLE, (why,), plugin)
            self._decided.set()

    async def wait_decided(self, clock: Clock) -> Status | None:
        """None when allowed, else the rejection; a plugin that does not speak in time rejects."""
        if not self._pending:
            return self._rejection
        plugin, seconds = min(self._pending.items(), key=lambda item: item[1])
        if not await within(clock, seconds, self._wait()):
            self.reject(plugin, f"rejected due to timeout after waiting {seconds:g}s at plugin {plugin}")
        return self._rejection

    async def _wait(self) -> None:
        await self._decided.wait()


class WaitingPods:
    """All pods that wait, by uid: what a Permit plugin uses to let another pod go."""

    def __init__(self) -> None:
        self._pods: dict[str, WaitingPod] = {}

    def get(self, uid: str) -> WaitingPod | None:
        return self._pods.get(uid)

    def hold(self, uid: str, plugins: Mapping[str, float]) -> None:
        """From now on the pod can be allowed and rejected; `wait` must follow."""
        self._pods[uid] = WaitingPod(plugins)

    async def wait(self, uid: str, clock: Clock) -> Status | None:
        """Until the pod that is held is decided."""
        try:
            return await self._pods[uid].wait_decided(clock)
        finally:
            del self._pods[uid]

    def reject(self, uid: str, why: str) -> None:
        if waiting := self._pods.get(uid):
            waiting.reject("", why)

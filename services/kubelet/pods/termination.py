"""Ending a pod: preStop hooks, SIGTERM and the grace period for every container, sidecars after the others in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubecosm.api.resources import Object

from ..cri.runtime import Runtime
from ..cri.types import ContainerKind, ContainerState, ContainerStatus, PodStatus
from .context import PodContext
from .events import NORMAL, WARNING
from .hooks import run_hook
from .spec import all_containers, init_containers, is_sidecar

GRACE_SECONDS_MIN_AFTER_HOOK = 2.0
"""What a container gets at least after its preStop hook used up the grace period."""


class Termination:
    """One pod's end. `advance` starts what is to be started and tells when all is over; `wake` is called when it is worth asking again."""

    def __init__(self, context: PodContext, runtime: Runtime, wake: Callable[[], None]) -> None:
        self._context = context
        self._runtime = runtime
        self._wake = wake
        self._job: asyncio.Task[None] | None = None
        self._deadline = float("inf")

    def advance(self, pod: Object, status: PodStatus, grace_seconds: float) -> bool:
        """True once no container runs. A shorter grace than before takes over."""
        running = [c for c in status.containers.values() if c.state is not ContainerState.EXITED]
        if not running:
            return self._job is None or self._job.done()
        deadline = self._context.clock.monotonic() + grace_seconds
        if self._job is None:
            self._deadline = deadline
            self._job = self._context.tasks.create_task(self._stop_all(pod, running, grace_seconds, status.ip), name="pod-kill")
        elif deadline < self._deadline - 0.001 and not self._job.done():
            self._deadline = deadline
            self._job.cancel()
            self._job = self._context.tasks.create_task(self._stop_all(pod, running, grace_seconds, status.ip), name="pod-kill")
        return False

    async def _stop_all(self, pod: Object, running: list[ContainerStatus], grace_seconds: float, ip: str) -> None:
        specs = {spec["name"]: (kind, spec) for kind, spec in all_containers(pod)}
        sidecars = [spec["name"] for spec in init_containers(pod) if is_sidecar(spec)]
        by_name = {status.name: status for status in running}
        ends_at = self._context.clock.monotonic() + grace_seconds
        async with asyncio.TaskGroup() as tasks:
            for name, status in by_name.items():
                if name not in sidecars:
                    kind, spec = specs.get(name, (ContainerKind.REGULAR, {}))
                    tasks.create_task(self._stop(pod, kind, spec, status, ends_at, ip), name="container-stop")
        for name in reversed(sidecars):
            if name in by_name:
                kind, spec = specs[name]
                await self._stop(pod, kind, spec, by_name[name], ends_at, ip)
        self._context.timers.call_later(0, self._wake)

    async def _stop(self, pod: Object, kind: ContainerKind, spec: Object, status: ContainerStatus, ends_at: float, ip: str) -> None:
        context, clock = self._context, self._context.clock
        context.events.container(pod, kind, status.name, NORMAL, "Killing", f"Stopping container {status.name}")
        remaining = ends_at - clock.monotonic()
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and remaining > 0 and status.state is ContainerState.RUNNING:
            failure = await self._pre_stop(hook, spec, status, remaining, ip)
            if failure:
                context.events.container(pod, kind, status.name, WARNING, "FailedPreStopHook", f"PreStopHook failed: {failure}")
            remaining = max(ends_at - clock.monotonic(), GRACE_SECONDS_MIN_AFTER_HOOK)
        await self._runtime.stop_container(status.container_id, max(0.0, remaining))

    async def _pre_stop(self, hook: Object, spec: Object, status: ContainerStatus, seconds: float, ip: str) -> str:
        """Run the hook within the grace period; returns why it failed."""
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(run_hook(self._runtime, self._context.clock, hook, spec, status.container_id, ip), name="pre-stop")
            limit = tasks.create_task(self._context.clock.sleep(seconds), name="pre-stop-limit")
            await asyncio.wait((job, limit), return_when=asyncio.FIRST_COMPLETED)
            for task in (job, limit):
                task.cancel()
        return "" if job.cancelled() else job.result()

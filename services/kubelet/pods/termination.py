"""Ending a pod: preStop hooks, SIGTERM and the grace period for every container, sidecars after the others in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from kubecosm.api.resources import Object

from ..cri.runtime import Runtime
from ..cri.types import ContainerKind, ContainerState, ContainerStatus, PodStatus
from .context import PodContext
from .events import NORMAL, WARNING
from .hooks import HookSubject, run_hook
from .spec import all_containers, containers, init_containers, is_sidecar

GRACE_SECONDS_MIN = 2.0
"""What a container gets at least, also after its hook or the wait for its turn used up the grace period."""


class Stop(NamedTuple):
    """One container to be stopped; `message` is that of the Killing event. Without grace it is killed at once, and without its hook."""

    pod: Object
    kind: ContainerKind
    spec: Object
    status: ContainerStatus
    grace_seconds: float
    ends_at: float
    ip: str
    message: str = ""


T = TypeVar("T")


def prerequisites(pod: Object, running: Mapping[str, T]) -> dict[str, list[T]]:
    """What each sidecar waits for: all regular containers, and the sidecar that was started after it (newTerminationOrdering)."""
    found: dict[str, list[T]] = {}
    regular = [running[spec["name"]] for spec in containers(pod) if spec["name"] in running]
    later: list[T] = []
    for spec in reversed(init_containers(pod)):
        if is_sidecar(spec):
            found[spec["name"]] = [*regular, *later]
            later = [running[spec["name"]]] if spec["name"] in running else []
    return found


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

    def cancel(self) -> None:
        """The node went off."""
        if self._job is not None:
            self._job.cancel()

    async def _stop_all(self, pod: Object, running: list[ContainerStatus], grace_seconds: float, ip: str) -> None:
        """Stop every container at once; sidecars run their hooks, then wait for their turn."""
        specs = {spec["name"]: (kind, spec) for kind, spec in all_containers(pod)}
        ended = {status.name: asyncio.Event() for status in running}
        turns = prerequisites(pod, ended)
        ends_at = self._context.clock.monotonic() + grace_seconds
        async with asyncio.TaskGroup() as tasks:
            for status in running:
                kind, spec = specs.get(status.name, (ContainerKind.REGULAR, {}))
                stop = Stop(pod, kind, spec, status, grace_seconds, ends_at, ip)
                tasks.create_task(self._stop(stop, turns.get(status.name, ()), ended[status.name]), name="container-stop")
        self._context.timers.call_later(0, self._wake)

    async def _stop(self, stop: Stop, turn: Sequence[asyncio.Event], ended: asyncio.Event) -> None:
        await stop_container(self._context, self._runtime, stop, turn)
        ended.set()


async def stop_container(context: PodContext, runtime: Runtime, stop: Stop, turn: Sequence[asyncio.Event] = ()) -> None:
    """Tell so, run the preStop hook, wait for those that go first, then SIGTERM and SIGKILL (kuberuntime_container.go's killContainer)."""
    clock, status = context.clock, stop.status
    context.events.container(stop.pod, stop.kind, status.name, NORMAL, "Killing", stop.message or f"Stopping container {status.name}")
    hook = (stop.spec.get("lifecycle") or {}).get("preStop")
    if hook and stop.grace_seconds > 0 and status.state is ContainerState.RUNNING and await _pre_stop(context, runtime, hook, stop):
        # Why is not told, as it may hold secrets.
        context.events.container(stop.pod, stop.kind, status.name, WARNING, "FailedPreStopHook", "PreStopHook failed")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, stop.ends_at - clock.monotonic())):
            for other in turn:
                await other.wait()
    remaining = max(stop.ends_at - clock.monotonic(), GRACE_SECONDS_MIN) if stop.grace_seconds > 0 else 0.0
    await runtime.stop_container(status.container_id, remaining)


async def _pre_stop(context: PodContext, runtime: Runtime, hook: Object, stop: Stop) -> str:
    """Run the hook within the grace period; returns why it failed."""
    async with asyncio.TaskGroup() as tasks:
        job = tasks.create_task(
            run_hook(runtime, context.clock, hook, HookSubject(stop.pod, stop.spec, stop.status.container_id, stop.ip)), name="pre-stop"
        )
        limit = tasks.create_task(context.clock.sleep(stop.grace_seconds), name="pre-stop-limit")
        await asyncio.wait((job, limit), return_when=asyncio.FIRST_COMPLETED)
        for task in (job, limit):
            task.cancel()
    return "" if job.cancelled() else job.result()


def grace_of(pod: Object, spec: Object, reason: str) -> float:
    """What a container gets that is stopped to be replaced (setTerminationGracePeriod): its failed probe may say, else the pod does."""
    own = (spec.get(reason) or {}).get("terminationGracePeriodSeconds") if reason else None
    return float(pod["spec"].get("terminationGracePeriodSeconds", 30) if own is None else own)

"""Does what a plan says to the processes of a cluster, through its supervisor, which restarts what dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubecosm.cluster.control import Client
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .plan import Fault

log = get_logger("chaos")


class Supervisor:
    """The supervisor of a running cluster, asked one thing at a time."""

    def __init__(self, paths: ClusterPaths) -> None:
        self._paths = paths

    def request(self, op: str, **parameters: str) -> dict[str, object]:
        """StartupError when the cluster does not run or refuses."""
        client = Client.connect(self._paths.socket)
        if client is None:
            raise StartupError("the cluster is not running: start it with `kubecosm up`")
        with client:
            return client.request(op, **parameters)


async def inject(supervisor: Supervisor, faults: Sequence[Fault], clock: Clock) -> None:
    """Carry out the plan in its own time. A component that is just down counts as hit."""
    started = clock.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for fault in faults:
            await clock.sleep(max(0.0, started + fault.at_seconds - clock.monotonic()))
            log.info("fault", action=fault.action, component=fault.component, lasts_seconds=fault.lasts_seconds)
            if _request(supervisor, fault.action, fault.component) and fault.action == "pause":
                tasks.create_task(_resume_later(supervisor, fault, clock), name=f"resume-{fault.component}")


async def _resume_later(supervisor: Supervisor, fault: Fault, clock: Clock) -> None:
    try:
        await clock.sleep(fault.lasts_seconds)
    finally:  # an interrupted run leaves nothing frozen
        _request(supervisor, "resume", fault.component)


def _request(supervisor: Supervisor, op: str, component: str) -> bool:
    try:
        supervisor.request(op, component=component)
    except StartupError as error:
        log.info("no effect", action=op, component=component, reason=error.message)
        return False
    return True

"""What preemption does to the API: victims get a DisruptionTarget condition, are deleted, and learn by whom (prepareCandidate)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubecosm.api.times import format_time

from ..framework.handle import Handle
from ..state.podinfo import PodInfo


async def evict(handle: Handle, preemptor: PodInfo, node: str, victims: Sequence[PodInfo], outranked: Sequence[PodInfo]) -> None:
    """Delete the victims and clear the nominations that `preemptor` outranks. Failures are raised as a group."""
    async with asyncio.TaskGroup() as tasks:
        for other in outranked:
            tasks.create_task(handle.effects.patch_status(other, {"nominatedNodeName": None}), name="clear-nomination")
        for victim in victims:
            tasks.create_task(_evict_one(handle, preemptor, node, victim), name="evict")


async def _evict_one(handle: Handle, preemptor: PodInfo, node: str, victim: PodInfo) -> None:
    assert handle.runner is not None, "plugins run inside a scheduler"
    if handle.runner.reject_waiting(victim.uid, "DefaultPreemption", "preempted"):
        return  # it has not been bound yet: it just goes back to the queue
    condition = {
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": f"{preemptor.scheduler_name}: preempting to accommodate a higher priority pod",
        "lastTransitionTime": format_time(handle.clock.now()),
    }  # fmt: skip
    if not victim.is_terminating:
        await handle.effects.patch_status(victim, {"conditions": [condition]})
        await handle.effects.delete_pod(victim)
    note = f"Preempted by pod {preemptor.uid} on node {node}"
    handle.effects.event(victim, "Normal", "Preempted", "Preempting", note, related=preemptor, once=True)

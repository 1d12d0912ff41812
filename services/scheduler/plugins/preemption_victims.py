"""What preemption does to the API: victims get a DisruptionTarget condition, are deleted, and learn by whom (preemption.Executor)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubecosm.api.errors import Conflict, NotFound

from ..conditions import changed_condition
from ..framework.handle import Handle
from ..state.podinfo import PodInfo

DISRUPTION_TARGET = "DisruptionTarget"
REASON_PREEMPTED = "PreemptionByScheduler"
IN_MEMORY = " (in kube-scheduler memory)."
"""What the event adds when the victim had not been bound yet: it is not deleted, only sent back to the queue."""


async def evict(handle: Handle, preemptor: PodInfo, node: str, victims: Sequence[PodInfo], outranked: Sequence[PodInfo]) -> None:
    """Clear the nominations that `preemptor` outranks and delete the victims, the last one only if all others could be.

    Failures are raised as a group; a nomination that could not be cleared does not save the victims.
    """
    failures: list[Exception] = []
    for work in (_clear_nominations(handle, outranked), _evict_all(handle, preemptor, node, victims)):
        try:
            await work
        except ExceptionGroup as group:
            failures += group.exceptions
    if failures:
        raise ExceptionGroup("preemption failed", failures)


async def _clear_nominations(handle: Handle, outranked: Sequence[PodInfo]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for other in outranked:
            if other.nominated_node:
                tasks.create_task(handle.effects.patch_status(other, {"nominatedNodeName": None}), name="clear-nomination")


async def _evict_all(handle: Handle, preemptor: PodInfo, node: str, victims: Sequence[PodInfo]) -> None:
    for together in (victims[:-1], victims[-1:]):
        async with asyncio.TaskGroup() as tasks:
            for victim in together:
                tasks.create_task(_evict_one(handle, preemptor, node, victim), name="evict")


async def _evict_one(handle: Handle, preemptor: PodInfo, node: str, victim: PodInfo) -> None:
    assert handle.runner is not None, "plugins run inside a scheduler"
    note = f"Preempted by pod {preemptor.uid} on node {node}"
    if handle.runner.preempt_unbound(victim.uid, "DefaultPreemption"):
        note += IN_MEMORY
    elif not await _delete(handle, preemptor, victim):
        return
    handle.effects.event(victim, "Normal", "Preempted", "Preempting", note, related=preemptor, once=True)


async def _delete(handle: Handle, preemptor: PodInfo, victim: PodInfo) -> bool:
    """Tell the victim why, then delete it; False if it has gone by itself (or another pod has its name by now)."""
    message = f"{preemptor.scheduler_name}: preempting to accommodate a higher priority pod"
    condition = changed_condition(victim.pod, DISRUPTION_TARGET, "True", REASON_PREEMPTED, message, handle.clock.now())
    try:
        if condition is not None:
            await handle.effects.patch_status(victim, {"conditions": [condition]})
        await handle.effects.delete_pod(victim)
    except (NotFound, Conflict):
        return False
    return True

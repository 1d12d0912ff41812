"""Taking a node away: mark it, evict its pods, delete it. Each step is found again in the node's taints, so a restart goes on.

Imitates cluster-autoscaler's actuation and deletetaint packages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime

from kubecosm.api.errors import ApiError, Conflict, NotFound, TooManyRequests
from kubecosm.api.meta import is_deleting, uid_of
from kubecosm.api.resources import CONFIGMAPS, NODES, PODS, Object
from kubecosm.client.controller import Context
from kubecosm.client.http import PatchType

from ...common.nodes import NO_SCHEDULE, taints_of
from .counters import EVICTED, SHRUNK
from .drainability import movable

TO_BE_DELETED, CANDIDATE = "ToBeDeletedByClusterAutoscaler", "DeletionCandidateOfClusterAutoscaler"
PREFER_NO_SCHEDULE = "PreferNoSchedule"


def has_taint(node: Object, key: str) -> bool:
    return any(taint["key"] == key for taint in taints_of(node))


def plan_taints(node: Object, key: str, effect: str, *, present: bool, now: datetime) -> list[Object] | None:
    """The node's taints with or without this one; None if they are so already."""
    if has_taint(node, key) == present:
        return None
    others = [taint for taint in taints_of(node) if taint["key"] != key]
    return [*others, {"key": key, "value": str(int(now.timestamp())), "effect": effect}] if present else others


async def set_taint(ctx: Context, node: Object, key: str, *, present: bool) -> None:
    """A Conflict or a vanished node is left to the next look."""
    effect = NO_SCHEDULE if key == TO_BE_DELETED else PREFER_NO_SCHEDULE
    taints = plan_taints(node, key, effect, present=present, now=ctx.clock.now())
    if taints is None:
        return
    patch = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": taints}}
    try:
        ctx.expect_written(await ctx.client.patch(NODES, node["metadata"]["name"], patch, patch_type=PatchType.MERGE))
    except (NotFound, Conflict):
        return


async def begin(ctx: Context, node: Object, status_map: Object, pods: Sequence[Object], utilization: float) -> None:
    """Close the node for new pods. Events tell of it on the node and on the status ConfigMap."""
    name, moving = node["metadata"]["name"], movable(pods)
    if moving:
        listed = ",".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in moving)
        message = f"Scale-down: removing node {name}, utilization: {utilization:.2f}, pods to reschedule: {listed}"
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDown", message)
    else:
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDownEmpty", f'Scale-down: removing empty node "{name}"')
    ctx.meter.add(SHRUNK, "underutilized" if moving else "empty")
    await set_taint(ctx, node, TO_BE_DELETED, present=True)
    ctx.recorder.event(node, NODES, "Normal", "ScaleDown", "marked the node as toBeDeleted/unschedulable")


async def advance(ctx: Context, node: Object, pods: Sequence[Object]) -> bool:
    """Evict what still runs, or delete the node once nothing does. False if a disruption budget forbids it: the node is given back."""
    moving = movable(pods)
    for pod in moving:
        if not await _evict(ctx, pod):
            await set_taint(ctx, node, TO_BE_DELETED, present=False)
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            message = f"failed to drain the node: a disruption budget forbids to evict pod {name}"
            ctx.recorder.event(node, NODES, "Warning", "ScaleDownFailed", message)
            return False
    if moving or any(is_deleting(pod) for pod in pods):
        return True
    await _delete(ctx, node)
    return True


async def _evict(ctx: Context, pod: Object) -> bool:
    meta = pod["metadata"]
    eviction = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "deleteOptions": {"preconditions": {"uid": uid_of(pod)}},
    }  # fmt: skip
    try:
        await ctx.client.create(PODS, eviction, meta["namespace"], name=meta["name"], subresource="eviction")
    except TooManyRequests:
        ctx.meter.add(EVICTED, "failed")
        return False
    except (NotFound, Conflict):
        return True
    ctx.meter.add(EVICTED, "succeeded")
    ctx.recorder.event(pod, PODS, "Normal", "ScaleDown", "deleting pod for node scale down")
    ctx.expect_deleted(pod)
    return True


async def give_up(ctx: Context, node: Object) -> None:
    """Delete a node that has never come."""
    with contextlib.suppress(NotFound):
        await ctx.client.delete(NODES, node["metadata"]["name"], options={"preconditions": {"uid": uid_of(node)}})
    ctx.expect_deleted(node)


async def _delete(ctx: Context, node: Object) -> None:
    name = node["metadata"]["name"]
    try:
        await ctx.client.delete(NODES, name, options={"preconditions": {"uid": uid_of(node)}})
    except NotFound:
        return
    except ApiError as error:
        ctx.recorder.event(node, NODES, "Warning", "ScaleDownFailed", f"failed to delete node: {error}")
        raise
    ctx.expect_deleted(node)
    ctx.recorder.event(node, NODES, "Normal", "ScaleDown", "node removed by cluster autoscaler")

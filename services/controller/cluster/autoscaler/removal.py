"""Taking a node away: mark it, evict its pods, delete it. Each step is found again in the node's taints, so a restart goes on.

Imitates cluster-autoscaler's actuation and taints packages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubecosm.api.errors import ApiError, Conflict, NotFound, TooManyRequests
from kubecosm.api.meta import annotations_of, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_ENABLE_DAEMON_EVICTION
from kubecosm.api.resources import CONFIGMAPS, NODES, PODS, Object
from kubecosm.client.controller import Context
from kubecosm.client.http import PatchType

from ...common.nodes import NO_SCHEDULE, ready_status, taints_of
from ...common.pods import is_terminal
from .counters import EVICTED, SHRUNK
from .drainability import is_daemon, is_mirror, movable
from .simulation import Room

TO_BE_DELETED, CANDIDATE = "ToBeDeletedByClusterAutoscaler", "DeletionCandidateOfClusterAutoscaler"
PREFER_NO_SCHEDULE = "PreferNoSchedule"
EVICTION_RETRY_SECONDS = 10.0
EVICTION_HEADROOM_SECONDS = 30.0
"""How long pods may take to vanish after their grace period."""
TERMINATION_SECONDS_DEFAULT = 30


@dataclass(frozen=True)
class Patience:
    """--max-pod-eviction-time and --max-graceful-termination-sec, in seconds."""

    eviction: float = 120.0
    termination: int = 600


@dataclass
class Drains:
    """What is known of removals under way; it may be lost."""

    drained: set[str] = field(default_factory=set)
    """Nodes that had pods when they were chosen."""
    told: set[str] = field(default_factory=set)
    """Pods (uids) that have been told."""

    def forget_others(self, uids: Container[str]) -> None:
        """Pods that are gone."""
        self.told = {uid for uid in self.told if uid in uids}


@dataclass(frozen=True)
class Outcome:
    """How a removal stands: given up, or when to look again if nothing changes."""

    failed: bool = False
    again_seconds: float | None = None


GOING_ON = Outcome()


def has_taint(node: Object, key: str) -> bool:
    return any(taint["key"] == key for taint in taints_of(node))


def taint_time(node: Object, key: str) -> datetime | None:
    """When the node got the taint; None if it has none, or none that tells."""
    values = [taint.get("value") or "" for taint in taints_of(node) if taint["key"] == key]
    return datetime.fromtimestamp(int(values[0]), UTC) if values and values[0].isdigit() else None


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


def told_utilization(room: Room) -> str:
    """As Go prints utilization.Info: CPU, memory, GPU, devices, what is used most, and how much of it."""
    cpu, memory = room.share("cpu"), room.share("memory")
    most, share = ("memory", memory) if memory > cpu else ("cpu", cpu)
    return f"{{{_go(cpu)} {_go(memory)} 0 0 {most} {_go(share)}}}"


def _go(number: float) -> str:
    return repr(number).removesuffix(".0")


async def begin(ctx: Context, drains: Drains, node: Object, status_map: Object, pods: Sequence[Object], room: Room) -> None:
    """Close the node for new pods. Events tell of it on the node and on the status ConfigMap."""
    name, moving = node["metadata"]["name"], movable(pods)
    if moving:
        drains.drained.add(name)
        listed = ",".join(pod["metadata"]["name"] for pod in moving)
        message = f"Scale-down: removing node {name}, utilization: {told_utilization(room)}, pods to reschedule: {listed}"
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDown", message)
    else:
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDownEmpty", f'Scale-down: removing empty node "{name}"')
    await set_taint(ctx, node, TO_BE_DELETED, present=True)
    ctx.recorder.event(node, NODES, "Normal", "ScaleDown", "marked the node as toBeDeleted/unschedulable")


async def advance(
    ctx: Context, drains: Drains, node: Object, status_map: Object, pods: Sequence[Object], patience: Patience
) -> Outcome:
    """Evict what still runs, or delete the node once nothing does. What forbids it for too long gives the node back."""
    began = taint_time(node, TO_BE_DELETED) or ctx.clock.now()
    waited = (ctx.clock.now() - began).total_seconds()
    moving = movable(pods)
    refusals = [f"failed to evict pod {name} within allowed timeout (last error: {why})"
                for pod in moving if (why := await _evict(ctx, drains, pod, patience)) and (name := _name(pod))]  # fmt: skip
    if refusals and waited >= patience.eviction:
        for pod in moving:
            ctx.recorder.event(pod, PODS, "Warning", "ScaleDownFailed", "failed to delete pod for ScaleDown")
        why = f"Failed to drain node /{node['metadata']['name']}, due to following errors: [{' '.join(refusals)}]"
        return await _give_back(ctx, drains, node, why)
    if refusals:
        return Outcome(again_seconds=EVICTION_RETRY_SECONDS)
    leaving = [pod for pod in pods if is_deleting(pod) and not is_daemon(pod) and not is_terminal(pod)]
    if moving or leaving:
        await _evict_daemons(ctx, drains, pods, patience)
        left = patience.eviction + patience.termination + EVICTION_HEADROOM_SECONDS - waited
        if left > 0:
            return Outcome(again_seconds=left)
        return await _give_back(ctx, drains, node, f"Failed to drain node /{node['metadata']['name']}: pods remaining after timeout")
    await _delete(ctx, drains, node, status_map)
    return GOING_ON


async def _give_back(ctx: Context, drains: Drains, node: Object, why: str) -> Outcome:
    await set_taint(ctx, node, TO_BE_DELETED, present=False)
    ctx.recorder.event(node, NODES, "Warning", "ScaleDownFailed", f"failed to drain and delete node: {why}")
    drains.drained.discard(node["metadata"]["name"])
    return Outcome(failed=True)


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


async def _evict_daemons(ctx: Context, drains: Drains, pods: Sequence[Object], patience: Patience) -> None:
    """Pods of DaemonSets on a node that is drained, as far as that is possible (--daemonset-eviction-for-occupied-nodes)."""
    for pod in pods:
        wanted = annotations_of(pod).get(ANNOTATION_ENABLE_DAEMON_EVICTION) != "false"
        if wanted and is_daemon(pod) and not is_mirror(pod) and not is_deleting(pod) and uid_of(pod) not in drains.told:
            await _evict(ctx, drains, pod, patience)


async def _evict(ctx: Context, drains: Drains, pod: Object, patience: Patience) -> str:
    """Empty if the pod goes, else what the server says of its disruption budgets."""
    meta = pod["metadata"]
    if uid_of(pod) not in drains.told:
        drains.told.add(uid_of(pod))
        ctx.recorder.event(pod, PODS, "Normal", "ScaleDown", "deleting pod for node scale down")
    seconds = pod["spec"].get("terminationGracePeriodSeconds", TERMINATION_SECONDS_DEFAULT)
    eviction = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "deleteOptions": {"preconditions": {"uid": uid_of(pod)}, "gracePeriodSeconds": min(seconds, patience.termination)},
    }  # fmt: skip
    try:
        await ctx.client.create(PODS, eviction, meta["namespace"], name=meta["name"], subresource="eviction")
    except TooManyRequests as error:
        ctx.meter.add(EVICTED, "failed")
        return str(error)
    except (NotFound, Conflict):
        return ""
    ctx.meter.add(EVICTED, "succeeded")
    ctx.expect_deleted(pod)
    return ""


async def give_up(ctx: Context, node: Object) -> None:
    """Delete a node that has never come."""
    with contextlib.suppress(NotFound):
        await ctx.client.delete(NODES, node["metadata"]["name"], options={"preconditions": {"uid": uid_of(node)}})
    ctx.expect_deleted(node)


async def _delete(ctx: Context, drains: Drains, node: Object, status_map: Object) -> None:
    name = node["metadata"]["name"]
    with_pods = name in drains.drained
    try:
        await ctx.client.delete(NODES, name, options={"preconditions": {"uid": uid_of(node)}})
    except NotFound:
        return
    except ApiError as error:
        what = "drain and delete" if with_pods else "delete empty"
        ctx.recorder.event(node, NODES, "Warning", "ScaleDownFailed", f"failed to {what} node: failed to delete {name}: {error}")
        raise
    ctx.expect_deleted(node)
    drains.drained.discard(name)
    reason = "unready" if ready_status(node) != "True" else "underutilized" if with_pods else "empty"
    ctx.meter.add(SHRUNK, reason)
    ctx.recorder.event(node, NODES, "Normal", "ScaleDown", "nodes removed by cluster autoscaler")
    if with_pods:
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDown", f"Scale-down: node {name} removed with drain")
    else:
        ctx.recorder.event(status_map, CONFIGMAPS, "Normal", "ScaleDownEmpty", f"Scale-down: empty node {name} removed")

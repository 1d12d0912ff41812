"""Pod garbage collector: removes pods that nobody else will: on nodes that are gone, unscheduled and terminating, or ended and too many.

Watches Pods and Nodes. Writes pods' status (phase Failed, DisruptionTarget) and deletes pods at once. Imitates pkg/controller/podgc, which
looks every 20 s; here a change wakes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, is_deleting, key_of, uid_of
from kubecosm.api.names import TAINT_OUT_OF_SERVICE
from kubecosm.api.resources import NODES, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.metrics import COUNTER, Family
from kubecosm.client.store import IndexFn

from ..common.batches import CALL_ERRORS
from ..common.conditions import make
from ..common.nodes import ready_status, taints_of
from ..common.pods import INDEX_NODE, is_terminal, node_names, node_of
from ..config import Config

ORPHAN_QUARANTINE_SECONDS = 40.0
"""A node that was not found is looked for again after this, with the server itself, before its pods are removed."""
TERMINATED, ORPHANED, OUT_OF_SERVICE, UNSCHEDULED = "terminated", "orphaned", "out-of-service", "unscheduled"
"""Why a pod is removed."""
_LABELS = ("namespace", "reason")
DELETED = Family("pod_gc_collector_force_delete_pods_total", COUNTER, "Pods removed by pod GC.", _LABELS)
ERRORS = Family("pod_gc_collector_force_delete_pod_errors_total", COUNTER, "Pods that pod GC could not remove.", _LABELS)
INDEX_ENDED = "ended"
ENDED = "true"
SURPLUS = Key("", "")
"""The work item for all ended pods; the others are pods."""


def ended(pod: Object) -> tuple[str, ...]:
    return (ENDED,) if is_terminal(pod) and not is_deleting(pod) else ()


INDEX_FNS: dict[str, IndexFn] = {INDEX_ENDED: ended, INDEX_NODE: node_names}


def plan_surplus(pods: Sequence[Object], threshold: int) -> list[Object]:
    """The ended pods beyond the threshold, those that were evicted first and then the oldest; 0 or less keeps all."""
    if threshold <= 0 or len(pods) <= threshold:
        return []

    def rank(pod: Object) -> tuple[bool, str, str]:
        meta, status = pod["metadata"], pod.get("status") or {}
        was_evicted = status.get("phase") == "Failed" and status.get("reason") == "Evicted"
        return not was_evicted, meta.get("creationTimestamp") or "", meta["name"]

    return sorted(pods, key=rank)[: len(pods) - threshold]


def is_stranded(pod: Object, node: Object) -> bool:
    """Terminating on a node that an administrator has declared dead."""
    out_of_service = any(taint["key"] == TAINT_OUT_OF_SERVICE for taint in taints_of(node))
    return out_of_service and is_deleting(pod) and ready_status(node) != "True"


def plan_failed_status(pod: Object, reason: str, now: datetime) -> Object | None:
    """The strategic merge patch of status with which a pod leaves: Failed, so that its Job counts it; None if it has ended anyway."""
    if is_terminal(pod):
        return None
    if reason != ORPHANED:
        return {"phase": "Failed"}
    disrupted = make("DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node no longer exists", now)
    if generation := pod["metadata"].get("generation"):
        disrupted["observedGeneration"] = generation
    return {"phase": "Failed", "conditions": [disrupted]}


class PodGc:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, threshold: int) -> None:
        self.SPEC = SPEC
        self._threshold = threshold
        self._missing_since: dict[str, float] = {}

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if key == SURPLUS:
            for surplus in plan_surplus(ctx.cache(PODS).by_index(INDEX_ENDED, ENDED), self._threshold):
                await _remove(ctx, surplus, TERMINATED)
            return done(rest_seconds=1)
        pod = ctx.cache(PODS).get(key)
        if pod is None:
            return done()
        node_name = node_of(pod)
        if not node_name:
            if is_deleting(pod):
                await _remove(ctx, pod, UNSCHEDULED)
            return done()
        node = ctx.cache(NODES).get(Key("", node_name))
        if node is None:
            return await self._orphaned(ctx, pod, node_name)
        self._missing_since.pop(node_name, None)
        if is_stranded(pod, node):
            await _remove(ctx, pod, OUT_OF_SERVICE)
        return done()

    async def _orphaned(self, ctx: Context, pod: Object, node_name: str) -> Result:
        """Its node is not in the cache: wait, ask the server, and only then remove the pod."""
        now = ctx.clock.monotonic()
        since = self._missing_since.setdefault(node_name, now)
        if now - since < ORPHAN_QUARANTINE_SECONDS:
            return requeue(after_seconds=ORPHAN_QUARANTINE_SECONDS - (now - since))
        try:
            await ctx.client.get(NODES, node_name)
        except NotFound:
            await _remove(ctx, pod, ORPHANED)
        return done()


async def _remove(ctx: Context, pod: Object, reason: str) -> None:
    """Mark the pod as Failed and delete it without grace."""
    meta = pod["metadata"]
    status = plan_failed_status(pod, reason, ctx.clock.now())
    ctx.meter.add(DELETED, meta["namespace"], reason)
    try:
        if status is not None:
            patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
            pod = await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid_of(pod)}}
        await ctx.client.delete(PODS, meta["name"], meta["namespace"], options=options)
    except NotFound:
        return
    except Conflict:
        if status is not None:
            raise
        return  # another pod of its name
    except CALL_ERRORS:
        ctx.meter.add(ERRORS, meta["namespace"], reason)
        raise
    ctx.expect_deleted(pod)


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """Pods without a node's help, and the pool of ended ones."""
    keys = [SURPLUS] if is_terminal(pod) else []
    name = node_of(pod)
    node = reader.cache(NODES).get(Key("", name)) if name else None
    if node is None:
        is_stray = bool(name) or is_deleting(pod)
    else:
        is_stray = is_stranded(pod, node)
    return [*keys, key_of(pod)] if is_stray else keys


def map_node(reader: Reader, node: Object) -> Iterable[Key]:
    """The pods of a node that is gone or out of service."""
    name = node["metadata"]["name"]
    if key_of(node) in reader.cache(NODES) and not any(taint["key"] == TAINT_OUT_OF_SERVICE for taint in taints_of(node)):
        return ()
    return [key_of(pod) for pod in reader.cache(PODS).by_index(INDEX_NODE, name)]


def pod_matters(old: Object, new: Object) -> bool:
    return is_terminal(old) != is_terminal(new) or is_deleting(old) != is_deleting(new) or node_of(old) != node_of(new)


SPEC = ControllerSpec(
    name="gc_pods",
    component="pod-garbage-collector",
    watches={PODS: map_pod, NODES: map_node},
    cares={PODS: pod_matters, NODES: lambda old, new: taints_of(old) != taints_of(new)},
    indexers={PODS: INDEX_FNS},
    metrics=(DELETED, ERRORS),
    workers=8,
)


def build(config: Config) -> PodGc:
    return PodGc(config.terminated_pod_gc_threshold)

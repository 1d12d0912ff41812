"""Taint eviction controller: deletes pods from nodes with NoExecute taints, at once or when their toleration runs out.

Watches Pods and Nodes. Writes pods' DisruptionTarget condition and deletes pods. Imitates pkg/controller/tainteviction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, is_deleting, key_of, uid_of
from kubecosm.api.resources import NODES, PODS, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType

from ..common.conditions import make
from ..common.nodes import NO_EXECUTE, taints_of, tolerates
from ..common.pods import INDEX_NODE, is_terminal, node_names, node_of


def no_execute_taints(node: Object) -> list[Object]:
    return [taint for taint in taints_of(node) if taint["effect"] == NO_EXECUTE]


def plan_eviction(pod: Object, taints: Sequence[Object], now: datetime) -> datetime | None:
    """When the pod must go because of these NoExecute taints; None if it may stay for good.

    Every taint needs a toleration; the shortest tolerationSeconds among those used decides, counted from the newest taint it is for.
    """
    tolerations = pod["spec"].get("tolerations") or ()
    used: list[tuple[Object, datetime]] = []
    for taint in taints:
        matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not matching:
            return now
        added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
        used += [(toleration, min(added, now)) for toleration in matching]
    limits = [(toleration["tolerationSeconds"], added) for toleration, added in used if toleration.get("tolerationSeconds") is not None]
    if not limits:
        return None
    seconds = max(min(limit for limit, _ in limits), 0)
    since = max(added for _, added in limits)
    return since + timedelta(seconds=seconds)


async def _evict(ctx: Context, pod: Object) -> None:
    """Say why, then delete gracefully."""
    meta, now = pod["metadata"], ctx.clock.now()
    message = "Taint manager: deleting due to NoExecute taint"
    condition = make("DisruptionTarget", "True", "DeletionByTaintManager", message, now)
    name = f"{meta['namespace']}/{meta['name']}"
    ctx.recorder.event(pod, PODS, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {name}")
    try:
        if not is_terminal(pod):
            patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
            await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
        await ctx.client.delete(PODS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(pod)}})
    except NotFound:
        return
    ctx.expect_deleted(pod)


class TaintEviction:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._scheduled: dict[Key, str] = {}
        """Pods that will have to go, with their uids."""

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        pod = ctx.cache(PODS).get(key)
        if pod is None or is_deleting(pod) or not node_of(pod):
            self._scheduled.pop(key, None)
            return done()
        node = ctx.cache(NODES).get(Key("", node_of(pod)))
        taints = no_execute_taints(node) if node is not None else []
        now = ctx.clock.now()
        when = plan_eviction(pod, taints, now) if taints else None
        if when is None:
            self._cancel(ctx, key, pod)
            return done()
        left = (when - now).total_seconds()
        if left > 0:
            self._scheduled[key] = uid_of(pod)
            return requeue(after_seconds=left)
        self._scheduled.pop(key, None)
        await _evict(ctx, pod)
        return done()

    def _cancel(self, ctx: Context, key: Key, pod: Object) -> None:
        if self._scheduled.pop(key, None) == uid_of(pod):
            ctx.recorder.event(pod, PODS, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod matters while its node has such taints."""
    node = reader.cache(NODES).get(Key("", node_of(pod))) if node_of(pod) else None
    return (key_of(pod),) if node is not None and no_execute_taints(node) else ()


def map_node(reader: Reader, node: Object) -> Iterable[Key]:
    return [key_of(pod) for pod in reader.cache(PODS).by_index(INDEX_NODE, node["metadata"]["name"])]


def pod_matters(old: Object, new: Object) -> bool:
    return node_of(old) != node_of(new) or old["spec"].get("tolerations") != new["spec"].get("tolerations")


SPEC = ControllerSpec(
    name="taint_eviction_pod_work",
    component="taint-eviction-controller",
    watches={PODS: map_pod, NODES: map_node},
    cares={PODS: pod_matters, NODES: lambda old, new: no_execute_taints(old) != no_execute_taints(new)},
    indexers={PODS: {INDEX_NODE: node_names}},
    workers=8,
)


def build(_config: object) -> TaintEviction:
    return TaintEviction()

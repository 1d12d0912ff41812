"""Taint eviction controller: deletes pods from nodes with NoExecute taints, at once or when their toleration runs out.

Watches Pods and Nodes. Writes pods' DisruptionTarget condition and deletes pods. Imitates pkg/controller/tainteviction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, get_condition, is_deleting, key_of, uid_of
from kubecosm.api.resources import NODES, PODS, Object
from kubecosm.api.times import format_time, parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.metrics import COUNTER, HISTOGRAM, Family

from ..common.conditions import make
from ..common.nodes import NO_EXECUTE, taints_of, tolerates
from ..common.pods import INDEX_NODE, node_names, node_of

NOT_AT_ALL = -1
REASON = "DeletionByTaintManager"
DELETIONS = Family(
    "taint_eviction_controller_pod_deletions_total", COUNTER, "Total number of Pods deleted by TaintEvictionController since its start."
)  # fmt: skip
DELETION_SECONDS = Family(
    "taint_eviction_controller_pod_deletion_duration_seconds", HISTOGRAM,
    "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion via "
    "TaintEvictionController.",
    (), (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0),
)  # fmt: skip


def no_execute_taints(node: Object) -> list[Object]:
    return [taint for taint in taints_of(node) if taint["effect"] == NO_EXECUTE]


def tolerated_seconds(pod: Object, taints: Sequence[Object]) -> int | None:
    """How long the pod bears these NoExecute taints: None for good, NOT_AT_ALL if it has no toleration for one of them.

    The shortest tolerationSeconds among all tolerations used decides.
    """
    tolerations = pod["spec"].get("tolerations") or ()
    used: list[Object] = []
    for taint in taints:
        matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not matching:
            return NOT_AT_ALL
        used += matching
    limits = [toleration["tolerationSeconds"] for toleration in used if toleration.get("tolerationSeconds") is not None]
    return max(min(limits), 0) if limits else None


def exposed_since(pod: Object, taints: Iterable[Object], now: datetime) -> datetime:
    """When the newest taint was added, or the pod came to the node if that was later. Kubernetes counts from when it notices."""
    bound = (get_condition(pod, "PodScheduled") or {}).get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
    moments = [taint.get("timeAdded") or format_time(now) for taint in taints] + ([bound] if bound else [])
    return min(max(map(parse_time, moments)), now)


async def _evict(ctx: Context, pod: Object) -> None:
    """Say why, then delete gracefully."""
    meta, now = pod["metadata"], ctx.clock.now()
    message = "Taint manager: deleting due to NoExecute taint"
    condition = make("DisruptionTarget", "True", REASON, message, now)
    if generation := meta.get("generation"):
        condition["observedGeneration"] = generation
    ctx.recorder.event(pod, PODS, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {meta['namespace']}/{meta['name']}")
    try:
        if not _is_told(pod):
            patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
            await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
        await ctx.client.delete(PODS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(pod)}})
    except NotFound:
        return
    ctx.expect_deleted(pod)


def _is_told(pod: Object) -> bool:
    condition = get_condition(pod, "DisruptionTarget") or {}
    return (condition.get("status"), condition.get("reason")) == ("True", REASON)


class Eviction(NamedTuple):
    """A pod that will have to go."""

    uid: str
    when: datetime


class TaintEviction:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._scheduled: dict[Key, Eviction] = {}

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        pod = ctx.cache(PODS).get(key)
        if pod is None:
            self._cancel(ctx, key)
            return done()
        if is_deleting(pod) or not node_of(pod):
            return done()
        node = ctx.cache(NODES).get(Key("", node_of(pod)))
        if node is None:
            return done()  # the pod garbage collector's business
        taints, now = no_execute_taints(node), ctx.clock.now()
        seconds = tolerated_seconds(pod, taints)
        if seconds is None or seconds == NOT_AT_ALL:
            self._cancel(ctx, key)
        if seconds is None:
            return done()
        when = now if seconds == NOT_AT_ALL else self._due(key, pod, exposed_since(pod, taints, now) + timedelta(seconds=seconds))
        if when > now:
            return requeue(after_seconds=(when - now).total_seconds())
        self._scheduled.pop(key, None)
        await _evict(ctx, pod)
        ctx.meter.add(DELETIONS)
        ctx.meter.observe(DELETION_SECONDS, max((now - when).total_seconds(), 0.0))
        return done()

    def _due(self, key: Key, pod: Object, when: datetime) -> datetime:
        """What was scheduled for a pod stays so, whatever other taints and tolerations come meanwhile."""
        known = self._scheduled.get(key)
        if known is None or known.uid != uid_of(pod):
            known = self._scheduled[key] = Eviction(uid_of(pod), when)
        return known.when

    def _cancel(self, ctx: Context, key: Key) -> None:
        """Forget what was scheduled, and say so."""
        known = self._scheduled.pop(key, None)
        if known is not None:
            pod = {"metadata": {"name": key.name, "namespace": key.namespace, "uid": known.uid}}
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
    metrics=(DELETIONS, DELETION_SECONDS),
    workers=8,
)


def build(_config: object) -> TaintEviction:
    return TaintEviction()

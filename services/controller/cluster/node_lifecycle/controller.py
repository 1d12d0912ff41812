"""Node lifecycle controller: notices silent kubelets, tells it in conditions, taints nodes in trouble and clears those that are well.

Watches Nodes and which node pods are bound to; reads Leases. Writes nodes' conditions, taints and beta labels, and the Ready condition of
pods on nodes that fell silent. Imitates pkg/controller/nodelifecycle; instead of looking at all nodes every five seconds each node is
looked at when it changes or when its grace period would end. Evicting pods is the taint eviction controller's part. Leaves out that a new
manager begins by lifting all NoExecute taints, and the duration of a pass over all nodes, as there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, get_condition, key_of, labels_of, uid_of
from kubecosm.api.names import LABEL_EXCLUDE_DISRUPTION, NAMESPACE_NODE_LEASE
from kubecosm.api.resources import LEASES, NODES, PODS, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.metrics import HISTOGRAM, Family

from ...common.batches import all_settled
from ...common.nodes import ready_status, taints_of
from ...common.pods import INDEX_NODE, node_names, node_of
from ...config import Config
from . import health
from .health import Heartbeat
from .pods import mark_not_ready
from .zones import EVICTIONS, HEALTH, SIZE, UNHEALTHY, Zones, ZoneState, zone_of

CHECK_SECONDS_MIN = 1.0
"""A node is not looked at more often than this by time alone."""
BLOCKED_CHECK_SECONDS = 5.0
"""While a zone may not be emptied, its nodes are looked at again after this."""
UPDATE_SECONDS = Family(
    "node_collector_update_node_health_duration_seconds", HISTOGRAM,
    "Duration in seconds for NodeController to update the health of a single node.", (),
    tuple(0.001 * 4**exponent for exponent in range(8)),
)  # fmt: skip


@dataclass
class Pulse:
    """What was last seen of a node, and when by our own clock: a kubelet's clock may be wrong, and the cluster's may jump."""

    uid: str
    """Events of this controller name nodes by uid; those of kubelets have the name for it."""
    heartbeat: Heartbeat
    probed_at: float
    checked_at: float
    marked_at: float = float("-inf")
    """When it was found silent here."""
    owes_pods: bool = False
    """Marking its pods failed half-way."""


class NodeLifecycle:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, config: Config) -> None:
        self.SPEC = SPEC
        self._config = config
        self._pulses: dict[str, Pulse] = {}
        self._zones = Zones(config.unhealthy_zone_threshold)
        self._was_all_disrupted = False

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        if key.namespace:
            return await self._settle_pod(ctx, key)
        began = ctx.clock.monotonic()
        try:
            return await self._settle_node(ctx, key)
        finally:
            ctx.meter.observe(UPDATE_SECONDS, ctx.clock.monotonic() - began)

    async def _settle_node(self, ctx: Context, key: Key) -> Result:
        node = ctx.cache(NODES).get(key)
        if node is None:
            await self._forget(ctx, key.name)
            return done()
        is_new = key.name not in self._pulses
        try:
            left = self._seconds_left(ctx, node)
            if left <= 0:
                node = await self._mark_silent(ctx, node)
                left = self._grace_seconds(node)
            await self._retry_pods(ctx, node)
            if self._zones.put(node) or is_new:
                await self._judge(ctx)
            wait = await self._taint(ctx, node)
        except NotFound:
            return done()
        except Conflict:
            return requeue(after_seconds=0.05)  # the kubelet wrote at the same moment
        return requeue(after_seconds=max(left if wait is None else min(left, wait), CHECK_SECONDS_MIN))

    async def _settle_pod(self, ctx: Context, key: Key) -> Result:
        """A pod was bound to a node that was not ready: its kubelet may never have heard of it."""
        pod = ctx.cache(PODS).get(key)
        node = ctx.cache(NODES).get(Key("", node_of(pod))) if pod is not None else None
        if pod is not None and node is not None and node_of(pod) in self._pulses and is_out_of_order(node):
            await mark_not_ready(ctx, [pod])
        return done()

    async def _forget(self, ctx: Context, name: str) -> None:
        pulse = self._pulses.pop(name, None)
        if pulse is None:
            return
        gone = {"metadata": {"name": name, "uid": pulse.uid}}
        ctx.recorder.event(gone, NODES, "Normal", "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")
        if self._zones.drop(name):
            await self._judge(ctx)

    def _grace_seconds(self, node: Object) -> float:
        known = get_condition(node, "Ready") is not None
        return self._config.node_monitor_grace_period if known else self._config.node_startup_grace_period

    def _seconds_left(self, ctx: Context, node: Object) -> float:
        """Until the node counts as silent; 0 or less: it does."""
        name, now = node["metadata"]["name"], ctx.clock.monotonic()
        heartbeat = health.heartbeat_of(node, ctx.cache(LEASES).get(Key(NAMESPACE_NODE_LEASE, name)))
        pulse = self._pulses.get(name)
        if pulse is None:
            pulse = self._pulses[name] = self._register(ctx, node, heartbeat)
        elif heartbeat.is_news_after(pulse.heartbeat):
            # It has lived since the last look; exactly when, its own clock tells as far as that is believable.
            age = min(health.age_seconds(heartbeat, ctx.clock.now()), now - pulse.checked_at)
            pulse.heartbeat, pulse.probed_at = heartbeat, now - age
        pulse.checked_at = now
        return pulse.probed_at + self._grace_seconds(node) - now

    def _register(self, ctx: Context, node: Object, heartbeat: Heartbeat) -> Pulse:
        """A node is seen for the first time: its grace period begins, or began when it was created if its kubelet never spoke."""
        name, now = node["metadata"]["name"], ctx.clock.monotonic()
        if not self._pulses:
            for other in ctx.cache(NODES):
                self._zones.put(other)
            self._zones.tell(ctx.meter)
        ctx.recorder.event(node, NODES, "Normal", "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller")
        spoke = get_condition(node, "Ready") is not None or heartbeat.lease
        return Pulse(uid_of(node), heartbeat, now - (0.0 if spoke else health.existed_seconds(node, ctx.clock.now())), now)

    async def _mark_silent(self, ctx: Context, node: Object) -> Object:
        conditions = health.plan_silent(node, ctx.clock.now())
        if conditions is None:
            return node
        name, was_ready = node["metadata"]["name"], ready_status(node) == "True"
        status = {**(node.get("status") or {}), "conditions": conditions}
        updated = await ctx.client.update(NODES, {**node, "status": status}, subresource="status")
        ctx.expect_written(updated)
        pulse = self._pulses[name]
        pulse.marked_at, pulse.owes_pods = ctx.clock.monotonic(), was_ready
        if was_ready:
            ctx.recorder.event(node, NODES, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return updated

    async def _retry_pods(self, ctx: Context, node: Object) -> None:
        pulse = self._pulses[node["metadata"]["name"]]
        if pulse.owes_pods and is_out_of_order(node):
            await mark_not_ready(ctx, ctx.cache(PODS).by_index(INDEX_NODE, node["metadata"]["name"]))
        pulse.owes_pods = False

    async def _judge(self, ctx: Context) -> None:
        """A node changed its state. Without any ready node nothing is emptied; when the first one is back all nodes get a fresh start."""
        self._zones.tell(ctx.meter)
        was, self._was_all_disrupted = self._was_all_disrupted, self._zones.all_disrupted
        if was == self._was_all_disrupted:
            return
        if was:
            now = ctx.clock.monotonic()
            for pulse in self._pulses.values():
                pulse.probed_at = now
            return
        tainted = [node for node in ctx.cache(NODES) if any(health.has_no_execute(node, key) for key in health.MANAGED_NO_EXECUTE)]
        await all_settled([_write_taints(ctx, node, health.plan_taints(node, "", ctx.clock.now())) for node in tainted])

    async def _taint(self, ctx: Context, node: Object) -> float | None:
        """Bring our taints and labels in line; returns seconds to wait when NoExecute must wait for the zone's rate.

        A cluster without any ready node is not emptied.
        """
        wanted, wait = health.wanted_no_execute(node), None
        if wanted and self._was_all_disrupted:
            wanted, wait = "", BLOCKED_CHECK_SECONDS
        is_new = bool(wanted) and not health.has_no_execute(node, wanted)
        if is_new and not any(health.has_no_execute(node, key) for key in health.MANAGED_NO_EXECUTE):
            wait = self._eviction_wait(ctx, node)
            if wait is not None:
                wanted = ""
        await _write_taints(ctx, node, health.plan_taints(node, wanted, ctx.clock.now()))
        if is_new and wanted:
            ctx.meter.add(EVICTIONS, zone_of(node))
        return wait

    def _eviction_wait(self, ctx: Context, node: Object) -> float | None:
        """None if the node may be emptied now; else how long to wait."""
        config, zone, now = self._config, zone_of(node), ctx.clock.monotonic()
        since = now - self._pulses[node["metadata"]["name"]].marked_at
        if since < config.node_monitor_period:
            return config.node_monitor_period - since  # others may have fallen silent with it
        size, state = self._zones.size_and_state(zone)
        per_second = config.node_eviction_rate
        if state is ZoneState.PARTIAL:
            per_second = config.secondary_node_eviction_rate if size > config.large_cluster_size_threshold else 0.0
        if per_second <= 0:
            return BLOCKED_CHECK_SECONDS
        return self._zones.rate(zone).take(per_second, now) or None


async def _write_taints(ctx: Context, node: Object, taints: list[Object] | None) -> None:
    """With the labels that lack; None: the taints are as they should be."""
    meta, labels = node["metadata"], health.plan_labels(node)
    if taints is None and not labels:
        return
    patch: Object = {"metadata": {"resourceVersion": meta["resourceVersion"], **({"labels": labels} if labels else {})}}
    if taints is not None:
        patch["spec"] = {"taints": taints or None}
    ctx.expect_written(await ctx.client.patch(NODES, meta["name"], patch, patch_type=PatchType.MERGE))


def is_out_of_order(node: Object) -> bool:
    """It says, or we say of it, that it is not ready; not so a node that has not said anything yet."""
    return ready_status(node) in ("False", "Unknown")


def node_matters(old: Object, new: Object) -> bool:
    """Health, taints, cordons and some labels matter; mere heartbeats are found when the grace period would end."""
    statuses = [[(c["type"], c["status"]) for c in (n.get("status") or {}).get("conditions") or ()] for n in (old, new)]
    if statuses[0] != statuses[1] or taints_of(old) != taints_of(new) or _cordoned(old) != _cordoned(new):
        return True
    if labels_of(old) == labels_of(new):
        return False
    excluded = [LABEL_EXCLUDE_DISRUPTION in labels_of(n) for n in (old, new)]
    return zone_of(old) != zone_of(new) or excluded[0] != excluded[1] or bool(health.plan_labels(new))


def _cordoned(node: Object) -> bool:
    return bool(node["spec"].get("unschedulable"))


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    """A pod matters when it comes to a node that is not ready."""
    node = reader.cache(NODES).get(Key("", node_of(pod))) if node_of(pod) else None
    return (key_of(pod),) if node is not None and is_out_of_order(node) else ()


SPEC = ControllerSpec(
    name="node_lifecycle_controller",
    component="node-controller",
    primary=NODES,
    watches={PODS: map_pod},
    reads=(LEASES,),
    cares={NODES: node_matters, PODS: lambda old, new: node_of(old) != node_of(new)},
    indexers={PODS: {INDEX_NODE: node_names}},
    metrics=(EVICTIONS, SIZE, HEALTH, UNHEALTHY, UPDATE_SECONDS),
    workers=16,
)


def build(config: Config) -> NodeLifecycle:
    return NodeLifecycle(config)

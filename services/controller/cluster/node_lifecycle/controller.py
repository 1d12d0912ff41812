"""Node lifecycle controller: notices silent kubelets, tells it in conditions, taints nodes in trouble and clears those that are well.

Watches Nodes; reads Leases and Pods. Writes nodes' conditions and taints, and the Ready condition of pods on nodes that are not ready.
Imitates pkg/controller/nodelifecycle; instead of looking at all nodes every five seconds each node is looked at when it changes or when its
grace period would end. Evicting pods is the taint eviction controller's part. Leaves out the beta labels for system and architecture.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, get_condition, uid_of
from kubecosm.api.names import NAMESPACE_NODE_LEASE
from kubecosm.api.resources import LEASES, NODES, PODS, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.http import PatchType
from kubecosm.client.metrics import COUNTER, Family

from ...common.batches import all_settled, raise_first
from ...common.nodes import ready_status, taints_of
from ...common.pods import INDEX_NODE, is_ready, node_names
from ...config import Config
from . import health
from .health import Heartbeat, ZoneState, ZoneStates

CHECK_SECONDS_MIN = 1.0
"""A node is not looked at more often than this by time alone."""
BLOCKED_CHECK_SECONDS = 5.0
"""While a zone may not be emptied, its nodes are looked at again after this."""
ZONE_SECONDS_PER_NODE = 200e-6
"""How long a judgement on the zones stands: a second with 5,000 nodes."""


EVICTIONS = Family("node_collector_evictions_total", COUNTER, "Nodes that were tainted NoExecute, by zone.", ("zone",))


@dataclass
class Pulse:
    """What was last seen of a node, and when by our own clock: a kubelet's clock may be wrong, and the cluster's may jump."""

    heartbeat: Heartbeat
    probed_at: float
    checked_at: float


class EvictionRate:
    """A token bucket of one token: how fast the nodes of a zone may be tainted NoExecute."""

    def __init__(self) -> None:
        self._free_at = float("-inf")

    def take(self, per_second: float, now: float) -> float:
        """Take a token and return 0, or the seconds until there is one (then nothing is taken)."""
        if now < self._free_at:
            return self._free_at - now
        self._free_at = now + 1 / per_second
        return 0.0


class NodeLifecycle:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, config: Config) -> None:
        self.SPEC = SPEC
        self._config = config
        self._pulses: dict[str, Pulse] = {}
        self._uids: dict[str, str] = {}
        """Of the nodes that were registered. Events of this controller name nodes by uid; those of kubelets have the name for it."""
        self._rates: dict[str, EvictionRate] = {}
        self._zones: ZoneStates = {}
        self._zones_good_until = float("-inf")

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        node = ctx.cache(NODES).get(key)
        if node is None:
            if self._pulses.pop(key.name, None) is not None:
                gone = {"metadata": {"name": key.name, "uid": self._uids.pop(key.name)}}
                message = f"Node {key.name} event: Removing Node {key.name} from Controller"
                ctx.recorder.event(gone, NODES, "Normal", "RemovingNode", message)
            return done()
        if key.name not in self._pulses:
            self._uids[key.name] = uid_of(node)
            message = f"Node {key.name} event: Registered Node {key.name} in Controller"
            ctx.recorder.event(node, NODES, "Normal", "RegisteredNode", message)
        try:
            left = self._seconds_left(ctx, node)
            if left <= 0:
                node = await self._mark_silent(ctx, node)
                left = self._grace_seconds(node)
            wait = await self._taint(ctx, node)
        except NotFound:
            return done()
        except Conflict:
            return requeue(after_seconds=0.05)  # the kubelet wrote at the same moment
        if ready_status(node) in ("False", "Unknown"):
            await _mark_pods_not_ready(ctx, node)
        return requeue(after_seconds=max(left if wait is None else min(left, wait), CHECK_SECONDS_MIN))

    def _grace_seconds(self, node: Object) -> float:
        known = get_condition(node, "Ready") is not None
        return self._config.node_monitor_grace_period if known else self._config.node_startup_grace_period

    def _seconds_left(self, ctx: Context, node: Object) -> float:
        """Until the node counts as silent; 0 or less: it does."""
        name, now = node["metadata"]["name"], ctx.clock.monotonic()
        heartbeat = health.heartbeat_of(node, ctx.cache(LEASES).get(Key(NAMESPACE_NODE_LEASE, name)))
        pulse = self._pulses.get(name)
        if pulse is None:
            pulse = self._pulses[name] = Pulse(heartbeat, now, now)
        elif heartbeat.is_news_after(pulse.heartbeat):
            # It has lived since the last look; exactly when, its own clock tells as far as that is believable.
            age = min(health.age_seconds(heartbeat, ctx.clock.now()), now - pulse.checked_at)
            pulse.heartbeat, pulse.probed_at = heartbeat, now - age
        pulse.checked_at = now
        return pulse.probed_at + self._grace_seconds(node) - now

    async def _mark_silent(self, ctx: Context, node: Object) -> Object:
        conditions = health.plan_silent(node, ctx.clock.now())
        if conditions is None:
            return node
        was_ready = ready_status(node) == "True"
        status = {**(node.get("status") or {}), "conditions": conditions}
        updated = await ctx.client.update(NODES, {**node, "status": status}, subresource="status")
        ctx.expect_written(updated)
        if was_ready:
            message = f"Node {node['metadata']['name']} status is now: NodeNotReady"
            ctx.recorder.event(node, NODES, "Normal", "NodeNotReady", message)
        return updated

    async def _taint(self, ctx: Context, node: Object) -> float | None:
        """Bring our taints in line; returns seconds to wait when NoExecute must wait for the zone's rate."""
        wanted, wait = health.wanted_no_execute(node), None
        if wanted and not health.has_no_execute(node, wanted):
            swaps = any(health.has_no_execute(node, key) for key in health.MANAGED_NO_EXECUTE)
            wait = None if swaps else self._eviction_wait(ctx, node)
            if wait is not None:
                wanted = ""
        taints = health.plan_taints(node, wanted, ctx.clock.now())
        if taints is not None:
            meta = node["metadata"]
            patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"taints": taints or None}}
            ctx.expect_written(await ctx.client.patch(NODES, meta["name"], patch, patch_type=PatchType.MERGE))
            if wanted and not health.has_no_execute(node, wanted):
                ctx.meter.add(EVICTIONS, health.zone_of(node))
        return wait

    def _zone_states(self, ctx: Context) -> ZoneStates:
        """Judged anew whenever somebody asks, but in a large cluster not for each of a thousand nodes that fail together."""
        now, nodes = ctx.clock.monotonic(), ctx.cache(NODES)
        if now >= self._zones_good_until:
            self._zones = health.zone_states(nodes, self._config.unhealthy_zone_threshold)
            self._zones_good_until = now + ZONE_SECONDS_PER_NODE * len(nodes)
        return self._zones

    def _eviction_wait(self, ctx: Context, node: Object) -> float | None:
        """None if the node may be emptied now; else how long to wait. A cluster without any healthy node is left as it is."""
        config, zone, states = self._config, health.zone_of(node), self._zone_states(ctx)
        if all(state is ZoneState.FULL for state, _ in states.values()):
            return BLOCKED_CHECK_SECONDS
        state, size = states.get(zone, (ZoneState.NORMAL, 0))
        per_second = config.node_eviction_rate
        if state is ZoneState.PARTIAL:
            per_second = config.secondary_node_eviction_rate if size > config.large_cluster_size_threshold else 0.0
        if per_second <= 0:
            return BLOCKED_CHECK_SECONDS
        return self._rates.setdefault(zone, EvictionRate()).take(per_second, ctx.clock.monotonic()) or None


async def _mark_pods_not_ready(ctx: Context, node: Object) -> None:
    """Take the pods of a node that is not ready out of their Services; their kubelet cannot."""
    pods = [pod for pod in ctx.cache(PODS).by_index(INDEX_NODE, node["metadata"]["name"]) if is_ready(pod)]
    raise_first(await all_settled([_mark_pod_not_ready(ctx, pod) for pod in pods]))


async def _mark_pod_not_ready(ctx: Context, pod: Object) -> None:
    meta = pod["metadata"]
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": format_time(ctx.clock.now())}
    patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
    try:
        written = await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
    except NotFound:
        return
    ctx.expect_written(written)
    ctx.recorder.event(pod, PODS, "Warning", "NodeNotReady", "Node is not ready")


def node_matters(old: Object, new: Object) -> bool:
    """Health, taints and cordons matter; mere heartbeats are found when the grace period would end."""
    statuses = [[(c["type"], c["status"]) for c in (n.get("status") or {}).get("conditions") or ()] for n in (old, new)]
    return statuses[0] != statuses[1] or taints_of(old) != taints_of(new) or _cordoned(old) != _cordoned(new)


def _cordoned(node: Object) -> bool:
    return bool(node["spec"].get("unschedulable"))


SPEC = ControllerSpec(
    name="node_lifecycle_controller",
    component="node-controller",
    primary=NODES,
    reads=(LEASES, PODS),
    cares={NODES: node_matters},
    indexers={PODS: {INDEX_NODE: node_names}},
    metrics=(EVICTIONS,),
    workers=16,
)


def build(config: Config) -> NodeLifecycle:
    return NodeLifecycle(config)

"""Cluster autoscaler controller: one look at the whole cluster, at most once per scan interval, and only where node groups are declared.

Watches the ConfigMap of the node groups, Pods and Nodes. Creates, taints and deletes Nodes; evicts Pods; writes the status ConfigMap and
events. Imitates kubernetes/autoscaler's cluster-autoscaler with its flags; leaves out provisioning requests, and the simulation of anything
that simulation.py and world.py leave out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kubecosm.api.errors import AlreadyExists, NotFound
from kubecosm.api.meta import Key, get_condition, is_deleting, key_of
from kubecosm.api.names import NAMESPACE_SYSTEM
from kubecosm.api.resources import (
    CONFIGMAPS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    STORAGECLASSES,
    Object,
)
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.flags import Duration

from ...common.pods import INDEX_NODE, is_terminal, node_names, node_of
from ...config import Config
from .backoff import BackoffLimits, GroupBackoff, late_nodes
from .counters import FAILED, FAMILIES, GROWN, count_cluster
from .expander import NAMES, PRIORITY, PRIORITY_MAP, Chooser, Priorities, PrioritiesError, plan_priorities
from .groups import CONFIG_MAP, GroupsError, NodeGroup, plan_groups
from .looks import ask_for, running_on, status_object, ungrouped
from .removal import TO_BE_DELETED, give_up, has_taint
from .scale_up import Increase, Limits, ScaleUp, plan_scale_up, told_reasons
from .shrinking import Look, Shrinker
from .simulation import room_of
from .status import STATUS_MAP, plan_status, status_map, timed

CLUSTER = Key("", "cluster")
"""The one work item."""
CONFIG_KEY = Key(NAMESPACE_SYSTEM, CONFIG_MAP)
PRIORITY_KEY = Key(NAMESPACE_SYSTEM, PRIORITY_MAP)
SUFFIX_LETTERS, SUFFIX_LENGTH = "bcdfghjklmnpqrstvwxz2456789", 5
REFUSALS_MAX = 10_000
"""Pods whose refusal is remembered, so that it is told once."""
NO_PRIORITIES = f"the priority expander has no usable ConfigMap {PRIORITY_MAP}"


@dataclass
class Memory:
    """What is known from one look to the next; it may be lost."""

    version: str = ""
    """resourceVersion of the ConfigMap that `groups` were read from."""
    groups: tuple[NodeGroup, ...] = ()
    grown_at: float = float("-inf")
    refusals: dict[str, str] = field(default_factory=dict)
    told: Object = field(default_factory=dict)
    timed: Object = field(default_factory=dict)
    """What the status ConfigMap says, with times."""


class ClusterAutoscaler:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, config: Config) -> None:
        unknown = [name for name in config.expander if name not in NAMES]
        if unknown or not config.expander:
            raise StartupError(f"no expander is called {', '.join(unknown) or 'nothing'}: choose from {', '.join(NAMES)}")
        self._config = config
        self._memory = Memory()
        self._limits = Limits(config.max_nodes_total, config.balance_similar_node_groups)
        limits = config.initial_node_group_backoff_duration, config.max_node_group_backoff_duration, config.node_group_backoff_reset_timeout
        self._backoff = GroupBackoff(BackoffLimits(*limits))
        self._shrinker = Shrinker(config)
        self.SPEC = ControllerSpec(
            name="cluster_autoscaler", component="cluster-autoscaler",
            watches={
                CONFIGMAPS: map_config, PODS: self._map_pod, NODES: self._map_any, PODDISRUPTIONBUDGETS: self._map_any,
                PERSISTENTVOLUMECLAIMS: self._map_any, STORAGECLASSES: self._map_any,
            },
            cares={
                PODS: pod_matters, NODES: node_matters, PODDISRUPTIONBUDGETS: budget_matters, PERSISTENTVOLUMECLAIMS: claim_matters,
            },
            indexers={PODS: {INDEX_NODE: node_names}}, workers=1, reads=(PERSISTENTVOLUMES,), metrics=FAMILIES,
        )  # fmt: skip

    def _map_pod(self, _reader: Reader, pod: Object) -> Iterable[Key]:
        return (CLUSTER,) if self._memory.groups and (is_unschedulable(pod) or node_of(pod)) else ()

    def _map_any(self, _reader: Reader, _obj: Object) -> Iterable[Key]:
        return (CLUSTER,) if self._memory.groups else ()

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        config_map = ctx.cache(CONFIGMAPS).get(CONFIG_KEY)
        if config_map is None:
            self._memory, self._shrinker = Memory(), Shrinker(self._config)
            return done()
        await self._read_groups(ctx, config_map)
        memory, groups = self._memory, self._memory.groups
        if not groups:
            return done()
        nodes = [node for node in ctx.cache(NODES).list() if not is_deleting(node)]
        members = {group.name: group.members(nodes) for group in groups}
        late = await self._give_up_on_late(ctx, members)
        closed = self._backoff.names(ctx.clock.monotonic())
        await self._scale_up(ctx, nodes, members, closed)
        by_node = {node["metadata"]["name"]: [pod for pod in running_on(ctx, node) if not self._is_expendable(pod)] for node in nodes}
        unneeded = await self._shrinker.look(ctx, Look(nodes, members, groups, by_node, memory.grown_at))
        leaving = [node["metadata"]["name"] for node in nodes if has_taint(node, TO_BE_DELETED)]
        others = ungrouped(nodes, members)
        await self._tell(ctx, plan_status(groups, members, self._shrinker.unneeded_since, leaving, others, closed))
        rest, waits = self._config.scan_interval, [seconds for seconds in (late, unneeded) if seconds is not None]
        return requeue(after_seconds=max(min(waits), rest), rest_seconds=rest) if waits else done(rest_seconds=rest)

    async def _give_up_on_late(self, ctx: Context, members: Mapping[str, Sequence[Object]]) -> float | None:
        """Nodes that never came go, and their groups are left alone; the seconds until there is more to do about it."""
        self._backoff.forget_others(self._memory.groups)
        late, soonest = late_nodes(members, ctx.clock.now(), self._config.max_node_provision_time)
        for name, nodes in late.items():
            message = f"Nodes added to group {name} failed to register within {Duration(self._config.max_node_provision_time)}"
            ctx.recorder.event(status_object(ctx), CONFIGMAPS, "Warning", "ScaleUpTimedOut", message)
            ctx.meter.add(FAILED, "timeout")
            self._backoff.failed(name, ctx.clock.monotonic())
            for node in nodes:
                await give_up(ctx, node)
        waits = [seconds for seconds in (soonest, self._backoff.next_end(ctx.clock.monotonic())) if seconds is not None]
        return min(waits, default=None)

    async def _read_groups(self, ctx: Context, config_map: Object) -> None:
        """A ConfigMap that cannot be read is told, and the last good one stays in force."""
        if config_map["metadata"]["resourceVersion"] == self._memory.version:
            return
        try:
            full = await ctx.client.get(CONFIGMAPS, CONFIG_KEY.name, CONFIG_KEY.namespace)  # caches do not keep data
            self._memory.version = full["metadata"]["resourceVersion"]
            self._memory.groups = plan_groups(full.get("data"))
        except NotFound:
            self._memory = Memory()
        except GroupsError as error:
            ctx.recorder.event(config_map, CONFIGMAPS, "Warning", "InvalidNodeGroups", str(error))

    async def _scale_up(
        self, ctx: Context, nodes: Sequence[Object], members: Mapping[str, Sequence[Object]], closed: frozenset[str]
    ) -> None:
        pending = [pod for pod in ctx.cache(PODS).list() if is_unschedulable(pod) and not self._is_expendable(pod)]
        count_cluster(ctx, self._memory.groups, nodes, len(pending))
        sizes = {name: len(found) for name, found in members.items()}
        if not pending and all(sizes[group.name] >= group.minimum for group in self._memory.groups):
            return
        rooms = [room_of(node, running_on(ctx, node)) for node in nodes if not has_taint(node, TO_BE_DELETED)]
        chooser = Chooser(self._config.expander, ctx.random, await self._priorities(ctx), len(nodes))
        limits = replace(self._limits, closed=closed)
        plan = plan_scale_up(self._memory.groups, sizes, [ask_for(ctx, pod) for pod in pending], rooms, chooser, limits)
        self._warn_of_priorities(ctx, chooser)
        for increase in plan.increases:
            await self._grow(ctx, increase)
        self._tell_pods(ctx, plan, chooser)

    def _is_expendable(self, pod: Object) -> bool:
        return (pod["spec"].get("priority") or 0) < self._config.expendable_pods_priority_cutoff

    async def _priorities(self, ctx: Context) -> Priorities | None:
        """Of the priority expander: None if they cannot be read, which is told."""
        known = ctx.cache(CONFIGMAPS).get(PRIORITY_KEY) if PRIORITY in self._config.expander else None
        if known is None:
            return None
        try:
            full = await ctx.client.get(CONFIGMAPS, PRIORITY_KEY.name, PRIORITY_KEY.namespace)  # caches do not keep data
            return plan_priorities(full.get("data"))
        except NotFound:
            return None
        except PrioritiesError as error:
            ctx.recorder.event(known, CONFIGMAPS, "Warning", "PriorityConfigMapInvalid", str(error))
            return None

    def _warn_of_priorities(self, ctx: Context, chooser: Chooser) -> None:
        known = ctx.cache(CONFIGMAPS).get(PRIORITY_KEY) if chooser.warnings else None
        if known is None:
            return
        for reason, message in dict.fromkeys(chooser.warnings):
            ctx.recorder.event(known, CONFIGMAPS, "Warning", reason, message)

    async def _grow(self, ctx: Context, increase: Increase) -> None:
        group, after = increase.group, increase.before + increase.nodes
        sizes = f"instead of {increase.before} (max: {group.maximum})"
        message = f"Scale-up: setting group {group.name} size to {after} {sizes}"
        ctx.recorder.event(status_object(ctx), CONFIGMAPS, "Normal", "ScaledUpGroup", message)
        for _ in range(increase.nodes):
            suffix = "".join(ctx.random.choices(SUFFIX_LETTERS, k=SUFFIX_LENGTH))
            try:
                ctx.expect_written(await ctx.client.create(NODES, group.node(f"{group.name}-{suffix}")))
            except AlreadyExists:
                continue  # the next look sees that one is missing
        ctx.meter.add(GROWN, by=increase.nodes)
        message = f"Scale-up: group {group.name} size set to {after} {sizes}"
        ctx.recorder.event(status_object(ctx), CONFIGMAPS, "Normal", "ScaledUpGroup", message)
        self._memory.grown_at = ctx.clock.monotonic()

    def _tell_pods(self, ctx: Context, plan: ScaleUp, chooser: Chooser) -> None:
        """Events on the pods: helped, or why not; the same refusal is told once."""
        for increase in plan.increases:
            told = " ".join(map(str, increase.together))
            for ask in increase.pods:
                ctx.recorder.event(ask.pod, PODS, "Normal", "TriggeredScaleUp", f"pod triggered scale-up: [{told}]")
        refusals, useless = self._memory.refusals, PRIORITY in chooser.chain and chooser.priorities is None
        for ask, reasons in plan.refused:
            why = told_reasons(reasons, at_limit=plan.at_limit) or (NO_PRIORITIES if useless else "")
            uid, message = ask.pod["metadata"]["uid"], f"pod didn't trigger scale-up: {why}"
            if refusals.get(uid) != message:
                while len(refusals) >= REFUSALS_MAX:
                    del refusals[next(iter(refusals))]
                refusals[uid] = message
                ctx.recorder.event(ask.pod, PODS, "Normal", "NotTriggerScaleUp", message)

    async def _tell(self, ctx: Context, told: Object) -> None:
        """Write the status ConfigMap when there is news."""
        if told == self._memory.told:
            return
        now = ctx.clock.now()
        with_times = timed(told, self._memory.timed, now)
        wanted = status_map(with_times, now)
        if ctx.cache(CONFIGMAPS).get(key_of(wanted)) is None:
            try:
                await ctx.client.create(CONFIGMAPS, wanted, NAMESPACE_SYSTEM)
            except AlreadyExists:
                await ctx.client.update(CONFIGMAPS, wanted)
        else:
            await ctx.client.update(CONFIGMAPS, wanted)
        self._memory.told, self._memory.timed = told, with_times


def is_unschedulable(pod: Object) -> bool:
    """The scheduler found no place for the pod."""
    condition = get_condition(pod, "PodScheduled")
    if condition is None or condition["status"] != "False" or condition.get("reason") != "Unschedulable":
        return False
    return not is_deleting(pod) and not node_of(pod)


def map_config(_reader: Reader, config_map: Object) -> Iterable[Key]:
    meta = config_map["metadata"]
    return (CLUSTER,) if meta["namespace"] == NAMESPACE_SYSTEM and meta["name"] in (CONFIG_MAP, STATUS_MAP, PRIORITY_MAP) else ()


def pod_matters(old: Object, new: Object) -> bool:
    """Whether a pod now needs a place, or has taken or left one."""

    def seen(pod: Object) -> tuple[object, ...]:
        return is_unschedulable(pod), node_of(pod), is_terminal(pod), is_deleting(pod)

    return seen(old) != seen(new)


def node_matters(old: Object, new: Object) -> bool:
    """Anything but a heartbeat."""
    return old["spec"] != new["spec"] or (old.get("status") or {}).get("allocatable") != (new.get("status") or {}).get("allocatable")


def budget_matters(old: Object, new: Object) -> bool:
    """Whether more or fewer pods may be moved."""
    return (old.get("status") or {}).get("disruptionsAllowed") != (new.get("status") or {}).get("disruptionsAllowed")


def claim_matters(old: Object, new: Object) -> bool:
    """Whether it is now known where the claim's pods can run."""
    return bool(old["spec"].get("volumeName") != new["spec"].get("volumeName"))


def build(config: Config) -> ClusterAutoscaler:
    return ClusterAutoscaler(config)

"""Scale-down over time: which nodes have been unneeded for long enough, and how many may go at once.

Imitates cluster-autoscaler's core/scaledown/unneeded and the budgets of its actuation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubecosm.api.resources import PODDISRUPTIONBUDGETS, Object
from kubecosm.client.controller import Context

from ...common.nodes import ready_status
from ...config import Config
from .budgets import Budgets
from .counters import count_unneeded
from .drainability import DrainRules, movable
from .groups import NodeGroup
from .looks import ask_for, status_object, ungrouped
from .removal import CANDIDATE, TO_BE_DELETED, Drains, Patience, advance, begin, has_taint, set_taint, taint_time
from .scale_down import Rules, plan_unneeded
from .simulation import room_of

CANDIDATE_SECONDS_MAX = 1800.0
"""How old the mark of a former life may be that tells since when a node is unneeded (--node-deletion-candidate-ttl)."""


@dataclass(frozen=True)
class Look:
    """The cluster at one moment."""

    nodes: Sequence[Object]
    members: Mapping[str, Sequence[Object]]
    """Nodes by group."""
    groups: Sequence[NodeGroup]
    pods: Mapping[str, Sequence[Object]]
    """By node."""
    grown_at: float
    """When a group last grew, by the monotonic clock."""


class Shrinker:
    """Takes unneeded nodes away. What it remembers may be lost."""

    def __init__(self, config: Config) -> None:
        self._config = config
        drain = DrainRules(
            config.skip_nodes_with_local_storage, config.skip_nodes_with_system_pods, config.skip_nodes_with_custom_controller_pods
        )
        self._rules = Rules(config.scale_down_utilization_threshold, drain)
        self._patience = Patience(config.max_pod_eviction_time, config.max_graceful_termination_sec)
        self._drains = Drains()
        self._failed_at = float("-inf")
        self.unneeded_since: dict[str, float] = {}

    async def look(self, ctx: Context, look: Look) -> float | None:
        """Take away what has been unneeded for long enough; the seconds until there is more to do."""
        leaving = [node for node in look.nodes if has_taint(node, TO_BE_DELETED)]
        again = await self._go_on(ctx, leaving, look.pods)
        names = {node["metadata"]["name"] for node in leaving}
        groups, others = {group.name: group for group in look.groups}, ungrouped(look.nodes, look.members)
        budgets = Budgets(ctx.cache(PODDISRUPTIONBUDGETS).list())
        rules = replace(self._rules, ask=lambda pod: ask_for(ctx, pod))
        judged = plan_unneeded(groups, look.members, look.pods, others, rules, names, budgets)
        count_unneeded(ctx, len(judged.unneeded), judged.unremovable)
        due = self._due(ctx, look, judged.unneeded)
        chosen = self._within_budget([name for name in judged.unneeded if due[name] <= 0], names, look.pods)
        for node in (node for found in look.members.values() for node in found if node["metadata"]["name"] not in names):
            name = node["metadata"]["name"]
            if name in chosen:
                await begin(ctx, self._drains, node, status_object(ctx), look.pods[name], room_of(node, look.pods[name]))
            else:
                await set_taint(ctx, node, CANDIDATE, present=name in due)
        return min((seconds for seconds in (*again, *due.values()) if seconds > 0), default=None)

    async def _go_on(self, ctx: Context, leaving: Sequence[Object], pods: Mapping[str, Sequence[Object]]) -> list[float]:
        """Removals under way; the seconds after which they are to be looked at again."""
        again = []
        for node in leaving:
            name = node["metadata"]["name"]
            outcome = await advance(ctx, self._drains, node, status_object(ctx), pods[name], self._patience)
            if outcome.failed:
                self._failed_at = self.unneeded_since[name] = ctx.clock.monotonic()
            again += [outcome.again_seconds] if outcome.again_seconds is not None else []
        self._drains.forget_others({pod["metadata"]["uid"] for name in pods for pod in pods[name]})
        return again

    def _due(self, ctx: Context, look: Look, unneeded: Sequence[str]) -> dict[str, float]:
        """Seconds until each unneeded node may go; the marks of a former life tell since when it is unneeded."""
        now, config = ctx.clock.monotonic(), self._config
        nodes = {node["metadata"]["name"]: node for node in look.nodes}
        ages = {name: _marked_for(ctx, nodes[name]) for name in unneeded if name not in self.unneeded_since}
        self.unneeded_since = {name: self.unneeded_since.get(name, now - ages.get(name, 0.0)) for name in unneeded}
        free_at = max(look.grown_at + config.scale_down_delay_after_add, self._failed_at + config.scale_down_delay_after_failure)
        times = {True: config.scale_down_unneeded_time, False: config.scale_down_unready_time}
        return {
            name: max(since + times[ready_status(nodes[name]) == "True"], free_at) - now for name, since in self.unneeded_since.items()
        }  # fmt: skip

    def _within_budget(self, due: Sequence[str], leaving: Iterable[str], pods: Mapping[str, Sequence[Object]]) -> set[str]:
        """Those of the nodes that are due which may go now: empty ones first, and only so many with pods at once."""
        going = list(leaving)
        draining = sum(name in self._drains.drained or bool(movable(pods[name])) for name in going)
        room = max(self._config.max_scale_down_parallelism - len(going), 0)
        empty = [name for name in due if not movable(pods[name])][:room]
        drains = max(min(self._config.max_drain_parallelism - draining, room - len(empty)), 0)
        return {*empty, *[name for name in due if movable(pods[name])][:drains]}


def _marked_for(ctx: Context, node: Object) -> float:
    """Seconds since the node was marked as a candidate for removal; 0 if it was not, or so long ago that it means nothing."""
    marked = taint_time(node, CANDIDATE)
    seconds = (ctx.clock.now() - marked).total_seconds() if marked is not None else 0.0
    return seconds if 0.0 < seconds <= CANDIDATE_SECONDS_MAX else 0.0

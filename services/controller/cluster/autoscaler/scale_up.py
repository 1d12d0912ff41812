"""Which groups grow by how many nodes for pods that fit nowhere. Pure.

Imitates cluster-autoscaler's scale-up with the binpacking estimator. expander.py chooses between groups, balance.py spreads over those that
are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .backoff import IN_BACKOFF
from .balance import are_alike, spread
from .groups import NodeGroup, ordered
from .simulation import Ask, Room, largest_first, room_of
from .world import World

MAX_REACHED = "max node group size reached"
LIMIT_REACHED = "max total nodes in cluster reached"


@dataclass
class Increase:
    """A group that gets more nodes, and for whom."""

    group: NodeGroup
    before: int
    nodes: int
    pods: list[Ask] = field(default_factory=list)
    together: tuple[Increase, ...] = ()
    """All increases of the same choice, when it was spread over groups that are alike."""

    def __str__(self) -> str:
        return f"{{{self.group.name} {self.before}->{self.before + self.nodes} (max: {self.group.maximum})}}"


@dataclass
class ScaleUp:
    """What to make, and who cannot be helped: (pod, how many groups for which reason)."""

    increases: list[Increase] = field(default_factory=list)
    refused: list[tuple[Ask, Counter[str]]] = field(default_factory=list)
    at_limit: bool = False
    """The cluster has all the nodes it may have."""


@dataclass
class Option:
    """New nodes of one group, and the pods that they would take."""

    group: NodeGroup
    rooms: list[Room]
    pods: list[Ask]
    world: World
    """How things would be then."""

    @property
    def waste(self) -> float:
        """The shares of CPU and memory that would be left over, summed."""
        shares = 0.0
        for name in ("cpu", "memory"):
            whole = sum(room.capacity.get(name, 0) for room in self.rooms)
            shares += sum(room.free.get(name, 0) for room in self.rooms) / whole if whole else 0.0
        return shares


Choose = Callable[[Sequence[Option]], Option | None]
"""None: none of the options will do."""


@dataclass(frozen=True)
class Limits:
    """--max-nodes-total (0: none), --balance-similar-node-groups, and the groups that are in back-off"""

    nodes_total: int = 0
    balance: bool = False
    closed: frozenset[str] = frozenset()


def plan_scale_up(
    groups: Sequence[NodeGroup], sizes: Mapping[str, int], pending: Sequence[Ask], rooms: Sequence[Room], choose: Choose,
    limits: Limits = Limits(),
) -> ScaleUp:  # fmt: skip
    """`rooms`: the nodes there are, those just made included; `sizes`: nodes by group. Groups below their minimum grow in any case."""
    plan = ScaleUp()
    grown = dict(sizes)
    open_groups = [group for group in ordered(groups) if group.name not in limits.closed]
    for group in open_groups:
        missing = group.minimum - grown.get(group.name, 0)
        if missing > 0:
            plan.increases.append(Increase(group, grown.get(group.name, 0), missing))
            grown[group.name] = group.minimum
            rooms = [*rooms, *(_new_room(group, number) for number in range(missing))]
    world = World(rooms)
    _, waiting = world.place(largest_first(pending))
    asks = [ask for ask, _ in waiting]
    while asks:
        options = []
        for group in open_groups:
            alike = _alike(group, open_groups, limits)
            left = sum(one.maximum - grown.get(one.name, 0) for one in alike)
            option = _option(group, min(left, limits.nodes_total - len(world.rooms)) if limits.nodes_total else left, asks, world.fork())
            options += [option] if option is not None else []
        best = choose(options) if options else None
        if best is None:
            break
        for increase in _increases(best, _alike(best.group, open_groups, limits), grown):
            plan.increases.append(increase)
            grown[increase.group.name] = increase.before + increase.nodes
        world = best.world
        helped = {id(ask) for ask in best.pods}
        asks = [ask for ask in asks if id(ask) not in helped]
    plan.at_limit = bool(limits.nodes_total) and len(world.rooms) >= limits.nodes_total
    plan.refused = [(ask, _reasons(ask, groups, grown, world, limits.closed)) for ask in asks]
    return plan


def _alike(group: NodeGroup, groups: Sequence[NodeGroup], limits: Limits) -> list[NodeGroup]:
    """The groups that new nodes are spread over if this one is chosen."""
    return [group, *(one for one in groups if one.name != group.name and are_alike(group, one))] if limits.balance else [group]


def _increases(best: Option, alike: Sequence[NodeGroup], grown: Mapping[str, int]) -> list[Increase]:
    """The pods are told of the chosen group, if it grows."""
    by_name = {one.name: one for one in alike}
    shares = spread(alike, grown, len(best.rooms))
    told = best.group.name if best.group.name in shares else next(iter(shares))
    made = [Increase(by_name[name], grown.get(name, 0), count, best.pods if name == told else []) for name, count in shares.items()]
    for increase in made:
        increase.together = tuple(made)
    return made


def _new_room(group: NodeGroup, number: int) -> Room:
    return room_of(group.node(f"template-node-for-{group.name}-{number}"))


def _option(group: NodeGroup, nodes_max: int, asks: Sequence[Ask], world: World) -> Option | None:
    """The pods that so many new nodes of the group would take at most, and how many it takes; None if that is nobody. Changes `world`."""
    rooms: list[Room] = []
    pods: list[Ask] = []
    for ask in asks:
        placed, _ = world.place([ask], rooms)
        if not placed and len(rooms) < nodes_max:
            room = _new_room(group, len(world.rooms))
            if world.why_not(ask, room) is None:
                world.rooms.append(room)
                world.take(ask, room)
                rooms.append(room)
                placed = [ask]
        pods += placed
    return Option(group, rooms, pods, world) if pods else None


def told_reasons(reasons: Counter[str], *, at_limit: bool) -> str:
    """Why a pod gets no node, as its event tells it."""
    return LIMIT_REACHED if at_limit else ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def _reasons(ask: Ask, groups: Sequence[NodeGroup], sizes: Mapping[str, int], world: World, closed: Collection[str]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for group in groups:
        reason = IN_BACKOFF if group.name in closed else world.why_not(ask, _new_room(group, len(world.rooms)))
        if reason is None and sizes.get(group.name, 0) >= group.maximum:
            reason = MAX_REACHED
        if reason is not None:
            reasons[reason] += 1
    return reasons

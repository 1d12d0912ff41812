"""Which groups grow by how many nodes for pods that fit nowhere. Pure.

Imitates cluster-autoscaler's scale-up with the binpacking estimator and the least-waste expander.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .groups import NodeGroup, ordered
from .simulation import Ask, Room, largest_first, place, room_of, why_not

MAX_REACHED = "max node group size reached"


@dataclass
class Increase:
    """A group that gets more nodes, and for whom."""

    group: NodeGroup
    before: int
    nodes: int
    pods: list[Ask] = field(default_factory=list)


@dataclass
class ScaleUp:
    """What to make, and who cannot be helped: (pod, how many groups for which reason)."""

    increases: list[Increase] = field(default_factory=list)
    refused: list[tuple[Ask, Counter[str]]] = field(default_factory=list)


@dataclass
class _Option:
    group: NodeGroup
    rooms: list[Room]
    pods: list[Ask]

    @property
    def waste(self) -> tuple[float, int, str]:
        """The share of CPU and memory that would be left over."""
        shares = []
        for name in ("cpu", "memory"):
            whole = sum(room.capacity.get(name, 0) for room in self.rooms)
            shares.append(sum(room.free.get(name, 0) for room in self.rooms) / whole if whole else 0.0)
        return sum(shares), len(self.rooms), self.group.name


def plan_scale_up(groups: Sequence[NodeGroup], sizes: Mapping[str, int], pending: Sequence[Ask], rooms: Sequence[Room]) -> ScaleUp:
    """`rooms`: the nodes there are, those just made included; `sizes`: nodes by group. Groups below their minimum grow in any case."""
    plan = ScaleUp()
    grown = dict(sizes)
    for group in ordered(groups):
        missing = group.minimum - grown.get(group.name, 0)
        if missing > 0:
            plan.increases.append(Increase(group, grown.get(group.name, 0), missing))
            grown[group.name] = group.minimum
            rooms = [*rooms, *(_new_room(group, number) for number in range(missing))]
    _, waiting = place(largest_first(pending), rooms)
    asks = [ask for ask, _ in waiting]
    while asks:
        options = [option for group in ordered(groups) if (option := _option(group, grown.get(group.name, 0), asks)) is not None]
        if not options:
            break
        best = min(options, key=lambda option: option.waste)
        before = grown.get(best.group.name, 0)
        plan.increases.append(Increase(best.group, before, len(best.rooms), best.pods))
        grown[best.group.name] = before + len(best.rooms)
        helped = {id(ask) for ask in best.pods}
        asks = [ask for ask in asks if id(ask) not in helped]
    plan.refused = [(ask, _reasons(ask, groups, grown)) for ask in asks]
    return plan


def _new_room(group: NodeGroup, number: int) -> Room:
    return room_of(group.node(f"template-node-for-{group.name}-{number}"))


def _option(group: NodeGroup, size: int, asks: Sequence[Ask]) -> _Option | None:
    """The pods that new nodes of the group would take, and how many nodes; None if that is nobody."""
    rooms: list[Room] = []
    pods: list[Ask] = []
    for ask in asks:
        placed, _ = place([ask], rooms)
        if not placed and size + len(rooms) < group.maximum:
            room = _new_room(group, len(rooms))
            if why_not(ask, room) is None:
                room.take(ask)
                rooms.append(room)
                placed = [ask]
        pods += placed
    return _Option(group, rooms, pods) if pods else None


def _reasons(ask: Ask, groups: Sequence[NodeGroup], sizes: Mapping[str, int]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for group in groups:
        reason = why_not(ask, _new_room(group, 0))
        if reason is None and sizes.get(group.name, 0) >= group.maximum:
            reason = MAX_REACHED
        if reason is not None:
            reasons[reason] += 1
    return reasons

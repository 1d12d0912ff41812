"""Which nodes nothing needs: hardly used, their pods fit elsewhere, and no pod forbids to be moved. Pure.

Imitates cluster-autoscaler's unneeded nodes (core/scaledown/planner).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_SCALE_DOWN_DISABLED
from kubecosm.api.resources import Object

from .budgets import Budgets
from .drainability import MESSAGES, DrainRules, Unremovable, blocker, movable
from .groups import NodeGroup
from .simulation import Ask, Room, ask_of, largest_first, room_of
from .world import World

NOTHING_COVERED = Budgets(())


@dataclass
class Judgement:
    """Names of nodes that could go, the emptiest first, and why the others cannot."""

    unneeded: list[str] = field(default_factory=list)
    unremovable: dict[str, Unremovable] = field(default_factory=dict)
    blocked_by: dict[str, str] = field(default_factory=dict)
    """Of nodes that a pod holds: which, and why."""


@dataclass(frozen=True)
class Rules:
    """How full a node may be, what holds it, and what its pods demand of others."""

    threshold: float
    drain: DrainRules = field(default_factory=DrainRules)
    ask: Callable[[Object], Ask] = ask_of


def plan_unneeded(
    groups: Mapping[str, NodeGroup], members: Mapping[str, Sequence[Object]], pods: Mapping[str, Sequence[Object]],
    others: Sequence[Object], rules: Rules, leaving: Collection[str], budgets: Budgets = NOTHING_COVERED,
) -> Judgement:  # fmt: skip
    """A node that takes in another's pods stays, so all of the unneeded ones could go at once.

    `members`: nodes by group; `pods`: by node; `others`: nodes of no group; `leaving`: nodes that are being removed already.
    """
    rooms = {
        node["metadata"]["name"]: room_of(node, pods.get(node["metadata"]["name"], ()))
        for node in (*others, *(node for group in members.values() for node in group))
        if node["metadata"]["name"] not in leaving
    }
    judged = Judgement()
    hosts: set[str] = set()
    for name, nodes in members.items():
        staying = len(nodes) - sum(node["metadata"]["name"] in leaving for node in nodes)
        for room in sorted((rooms[n["metadata"]["name"]] for n in nodes if n["metadata"]["name"] in rooms), key=Room.utilization):
            node = room.node["metadata"]["name"]
            at_minimum = staying <= groups[name].minimum
            why = Unremovable.MINIMUM if at_minimum else _why_not(judged, room, pods.get(node, ()), rules, rooms, hosts, budgets)
            if why is not None:
                judged.unremovable[node] = why
                continue
            budgets.take(movable(pods.get(node, ())))
            judged.unneeded.append(node)
            staying -= 1
    return judged


def _why_not(
    judged: Judgement, room: Room, pods: Sequence[Object], rules: Rules, rooms: Mapping[str, Room], hosts: set[str], budgets: Budgets
) -> Unremovable | None:
    """Why the node has to stay. If it need not, its pods have moved to other rooms, whose nodes are now `hosts`."""
    node, moving = room.node["metadata"]["name"], movable(pods)
    if annotations_of(room.node).get(ANNOTATION_SCALE_DOWN_DISABLED) == "true":
        return Unremovable.DISABLED
    if node in hosts:
        return Unremovable.HOST
    if room.utilization() >= rules.threshold:
        return Unremovable.UTILIZED
    if not moving:
        return None
    held = blocker(moving, budgets, rules.drain)
    if held is not None:
        pod, why = held
        judged.blocked_by[node] = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}: {MESSAGES[why]}"
        return Unremovable.BLOCKED
    targets = {other: target for other, target in rooms.items() if other != node and other not in judged.unneeded}
    taken = _move([rules.ask(_unbound(pod)) for pod in moving], targets)
    if taken is None:
        return Unremovable.NO_PLACE
    hosts |= taken
    return None


def _unbound(pod: Object) -> Object:
    """The pod as its successor will ask for a node."""
    return {**pod, "spec": {field: value for field, value in pod["spec"].items() if field != "nodeName"}}


def _move(asks: Sequence[Ask], targets: Mapping[str, Room]) -> set[str] | None:
    """The nodes that would take the pods in (their rooms are then fuller); None if not all fit, and nothing is taken."""
    copies = {name: Room(room.node, dict(room.free), room.capacity, list(room.pods), set(room.ports)) for name, room in targets.items()}
    _, left = World(copies.values()).place(largest_first(asks))
    if left:
        return None
    taken = {name for name, copy in copies.items() if len(copy.pods) > len(targets[name].pods)}
    for name in taken:
        target, copy = targets[name], copies[name]
        target.free, target.pods, target.ports = copy.free, copy.pods, copy.ports
    return taken

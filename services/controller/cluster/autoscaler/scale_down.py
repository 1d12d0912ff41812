"""Which nodes nothing needs: hardly used, their pods fit elsewhere, and no pod forbids to be moved. Pure.

Imitates cluster-autoscaler's unneeded nodes and its drainability rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kubecosm.api.meta import annotations_of, controller_of, is_deleting
from kubecosm.api.names import (
    ANNOTATION_CONFIG_MIRROR,
    ANNOTATION_SAFE_TO_EVICT,
    ANNOTATION_SCALE_DOWN_DISABLED,
    NAMESPACE_SYSTEM,
)
from kubecosm.api.resources import Object

from ...common.pods import is_terminal
from .groups import NodeGroup
from .simulation import Room, ask_of, largest_first, place, room_of


def is_daemon(pod: Object) -> bool:
    """Pods that belong to the node itself: they go with it, and never hold it."""
    owner = controller_of(pod)
    return ANNOTATION_CONFIG_MIRROR in annotations_of(pod) or (owner is not None and owner["kind"] == "DaemonSet")


def movable(pods: Sequence[Object]) -> list[Object]:
    """The pods that must find another node."""
    return [pod for pod in pods if not is_daemon(pod) and not is_terminal(pod) and not is_deleting(pod)]


def forbids_eviction(pod: Object) -> bool:
    """Whether a pod holds its node: it says so, nobody would make it anew, it is the system's, or it keeps data on the node."""
    verdict = annotations_of(pod).get(ANNOTATION_SAFE_TO_EVICT)
    if verdict in ("true", "false"):
        return verdict == "false"
    if controller_of(pod) is None or pod["metadata"]["namespace"] == NAMESPACE_SYSTEM:
        return True
    return any("emptyDir" in volume or "hostPath" in volume for volume in pod["spec"].get("volumes") or ())


def plan_unneeded(
    groups: Mapping[str, NodeGroup], members: Mapping[str, Sequence[Object]], pods: Mapping[str, Sequence[Object]],
    others: Sequence[Object], threshold: float, leaving: Collection[str],
) -> list[str]:  # fmt: skip
    """Names of nodes that could go, the emptiest first. A node that takes in another's pods stays, so all of them could go at once.

    `members`: nodes by group; `pods`: by node; `others`: nodes of no group; `leaving`: nodes that are being removed already.
    """
    rooms = {
        node["metadata"]["name"]: room_of(node, pods.get(node["metadata"]["name"], ()))
        for node in (*others, *(node for group in members.values() for node in group))
        if node["metadata"]["name"] not in leaving
    }
    unneeded: list[str] = []
    hosts: set[str] = set()
    for name, nodes in members.items():
        staying = len(nodes) - sum(node["metadata"]["name"] in leaving for node in nodes)
        for room in sorted((rooms[n["metadata"]["name"]] for n in nodes if n["metadata"]["name"] in rooms), key=Room.utilization):
            node = room.node["metadata"]["name"]
            if staying <= groups[name].minimum or node in hosts or not _may_go(room, pods.get(node, ()), threshold):
                continue
            targets = {other: target for other, target in rooms.items() if other != node and other not in unneeded}
            taken = _move(movable(pods.get(node, ())), targets)
            if taken is None:
                continue
            hosts |= taken
            unneeded.append(node)
            staying -= 1
    return unneeded


def _may_go(room: Room, pods: Sequence[Object], threshold: float) -> bool:
    if annotations_of(room.node).get(ANNOTATION_SCALE_DOWN_DISABLED) == "true":
        return False
    moving = movable(pods)
    return not moving or (room.utilization() < threshold and not any(forbids_eviction(pod) for pod in moving))


def _move(pods: Sequence[Object], targets: Mapping[str, Room]) -> set[str] | None:
    """The nodes that would take the pods in (their rooms are then fuller); None if not all fit, and nothing is taken."""
    copies = {name: Room(room.node, dict(room.free), room.capacity, list(room.pods), set(room.ports)) for name, room in targets.items()}
    _, left = place(largest_first(ask_of(pod) for pod in pods), list(copies.values()))
    if left:
        return None
    taken = {name for name, copy in copies.items() if len(copy.pods) > len(targets[name].pods)}
    for name in taken:
        target, copy = targets[name], copies[name]
        target.free, target.pods, target.ports = copy.free, copy.pods, copy.ports
    return taken

"""Which daemon pods to start and which to delete, and the status they give. Pure functions.

Imitates pkg/controller/daemon/{daemon_controller,update}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.intstr import scaled_value
from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.names import LABEL_CONTROLLER_REVISION_HASH
from kubecosm.api.resources import Object

from ...common.pods import is_available, is_ready, node_of, phase_of
from .placement import is_updated, should_run

BURST_REPLICAS = 250
"""At most so many pods are created by one sync."""

PodsByNode = Mapping[str, Sequence[Object]]
InBackoff = Callable[[str], bool]
"""Whether the failed pod of this node has been replaced so recently that it must wait."""


@dataclass
class DaemonPlan:
    """Start a pod on these nodes; delete these pods; say why for those that ended."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)
    """Failed pods among those to delete."""
    succeeded: list[Object] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Nodes whose failed pod must wait."""


def _rolling(daemonset: Object) -> Object:
    rolling: Object = (daemonset["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return rolling


def is_rolling(daemonset: Object) -> bool:
    kind: str = (daemonset["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
    return kind == "RollingUpdate"


def allows_surge(daemonset: Object) -> bool:
    return is_rolling(daemonset) and scaled_value(_rolling(daemonset).get("maxSurge") or 0, 100, round_up=True) > 0


def update_limits(daemonset: Object, desired: int) -> tuple[int, int]:
    """(surge, unavailable) for so many nodes."""
    surge = scaled_value(_rolling(daemonset).get("maxSurge") or 0, desired, round_up=True)
    unavailable = _rolling(daemonset).get("maxUnavailable")
    most = scaled_value(1 if unavailable is None else unavailable, desired, round_up=True)
    return surge, most if most or surge else 1


def _by_age(pods: Iterable[Object]) -> list[Object]:
    """Scheduled pods first, then the oldest."""
    return sorted(pods, key=lambda p: (not node_of(p), p["metadata"].get("creationTimestamp") or "", p["metadata"]["name"]))


def plan_placement(
    daemonset: Object, nodes: Sequence[Object], pods: PodsByNode, hash_text: str, now: datetime, in_backoff: InBackoff = lambda _: False
) -> DaemonPlan:
    """One pod on each node that should have one, none elsewhere."""
    plan = DaemonPlan()
    names = {node["metadata"]["name"] for node in nodes}
    for node in nodes:
        _plan_node(plan, daemonset, node, pods.get(node["metadata"]["name"], ()), hash_text, now, in_backoff)
    for name, stray in pods.items():
        if name not in names:  # bound for a node that is gone, before the scheduler could place it
            plan.delete += [pod for pod in stray if not node_of(pod) and not is_deleting(pod)]
    return plan


def _plan_node(
    plan: DaemonPlan, daemonset: Object, node: Object, pods: Sequence[Object], hash_text: str, now: datetime, in_backoff: InBackoff
) -> None:
    name = node["metadata"]["name"]
    wanted, may_stay = should_run(daemonset, node)
    if wanted and not pods:
        plan.create.append(name)
        return
    if not may_stay:
        plan.delete += [pod for pod in pods if not is_deleting(pod)]
        return
    running = []
    for pod in pods:
        if is_deleting(pod):
            continue
        if phase_of(pod) == "Failed":
            if in_backoff(name):
                plan.waiting.append(name)
                continue
            plan.failed.append(pod)
            plan.delete.append(pod)
        elif phase_of(pod) == "Succeeded":
            plan.succeeded.append(pod)
            plan.delete.append(pod)
        else:
            running.append(pod)
    if not allows_surge(daemonset):
        plan.delete += _by_age(running)[1:]
    elif not running:
        if wanted and name not in plan.waiting:
            plan.create.append(name)
    else:
        plan.delete += _superfluous(daemonset, running, hash_text, now)


def _superfluous(daemonset: Object, running: Sequence[Object], hash_text: str, now: datetime) -> list[Object]:
    """With surge a node may have an old and a new pod, until the new one is available or the old one is not ready."""
    ordered = _by_age(running)
    new = [pod for pod in ordered if labels_of(pod).get(LABEL_CONTROLLER_REVISION_HASH) == hash_text]
    old = [pod for pod in ordered if labels_of(pod).get(LABEL_CONTROLLER_REVISION_HASH) != hash_text]
    extra = new[1:] + old[1:]
    if new and old and (not is_ready(old[0]) or is_available(new[0], daemonset["spec"].get("minReadySeconds", 0), now)):
        extra.append(old[0])
    return extra


def _new_and_old(daemonset: Object, pods: Sequence[Object], hash_text: str) -> tuple[Object | None, Object | None] | None:
    """The updated and the old pod of a node; None if there are more than one of either: the placement puts that right first."""
    standing = [pod for pod in pods if not is_deleting(pod)]
    new = [pod for pod in standing if is_updated(daemonset, pod, hash_text)]
    old = [pod for pod in standing if not is_updated(daemonset, pod, hash_text)]
    if len(new) > 1 or len(old) > 1:
        return None
    return new[0] if new else None, old[0] if old else None


def plan_update(daemonset: Object, nodes: Sequence[Object], pods: PodsByNode, hash_text: str, now: datetime) -> DaemonPlan:
    """One step of a rolling update, within maxUnavailable, or within maxSurge when that is set."""
    wanted = {node["metadata"]["name"] for node in nodes if should_run(daemonset, node)[0]}
    surge, unavailable = update_limits(daemonset, len(wanted))
    names = {node["metadata"]["name"] for node in nodes}
    pairs = {name: _new_and_old(daemonset, found, hash_text) for name, found in sorted(pods.items()) if name in names}

    def available(pod: Object) -> bool:
        return is_available(pod, daemonset["spec"].get("minReadySeconds", 0), now)

    return _plan_surge(pairs, wanted, surge, available) if surge else _plan_replace(pairs, unavailable, available)


Pairs = Mapping[str, tuple[Object | None, Object | None] | None]


def _plan_replace(pairs: Pairs, unavailable_max: int, available: Callable[[Object], bool]) -> DaemonPlan:
    unavailable = 0
    broken: list[Object] = []
    candidates: list[Object] = []
    for pair in pairs.values():
        new, old = pair or (None, None)
        if (new is None) == (old is None):
            unavailable += 1
        elif new is not None:
            unavailable += not available(new)
        elif old is not None and not available(old):
            broken.append(old)
            unavailable += 1
        elif old is not None:
            candidates.append(old)
    return DaemonPlan(delete=broken + candidates[: max(unavailable_max - unavailable, 0)])


def _plan_surge(pairs: Pairs, wanted: Collection[str], surge_max: int, available: Callable[[Object], bool]) -> DaemonPlan:
    """Old pods on nodes that shall have none any more go when there are enough available ones elsewhere."""
    plan = DaemonPlan()
    surging = standing = 0
    candidates: list[str] = []
    unwanted: list[Object] = []
    for name, pair in pairs.items():
        if pair is None:
            surging += 1
            continue
        new, old = pair
        standing += any(available(pod) for pod in (old or new,) if pod is not None)
        if old is None:
            continue
        if new is None and name in wanted:
            (candidates if available(old) else plan.create).append(name)
        elif new is None:
            (unwanted if available(old) else plan.delete).append(old)
        elif available(new):
            plan.delete.append(old)
        else:
            surging += 1
    plan.delete += unwanted[: max(standing - len(wanted), 0)]
    plan.create += candidates[: max(surge_max - surging, 0)]
    return plan


def plan_status(
    daemonset: Object, nodes: Sequence[Object], pods: PodsByNode, hash_text: str, collision_count: int | None, now: datetime
) -> Object:
    """The status that these pods give; fields in the order of the Go type, zeros left out where Go leaves them out."""
    desired = current = misscheduled = ready = available = updated = 0
    for node in nodes:
        found = _by_age(pods.get(node["metadata"]["name"], ()))
        if not should_run(daemonset, node)[0]:
            misscheduled += bool(found)
            continue
        desired += 1
        if not found:
            continue
        current += 1
        ready += is_ready(found[0])
        available += is_available(found[0], daemonset["spec"].get("minReadySeconds", 0), now)
        updated += is_updated(daemonset, found[0], hash_text)
    status: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": daemonset["metadata"].get("generation", 0),
    }
    counts = {"updatedNumberScheduled": updated, "numberAvailable": available, "numberUnavailable": desired - available}
    status |= {name: count for name, count in counts.items() if count}
    if collision_count is not None:
        status["collisionCount"] = collision_count
    if conditions := (daemonset.get("status") or {}).get("conditions"):
        status["conditions"] = conditions
    return status

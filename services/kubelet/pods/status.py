"""The whole status of a pod, computed from the pod and one observation (the kubelet's generateAPIPodStatus)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..cri.types import ContainerKind
from .actions import must_restart_all
from .conditions import KUBELET_CONDITIONS, compute_conditions, merge_conditions
from .conditions import Verdict as ConditionVerdict
from .container_status import Observation, container_statuses
from .phase import PENDING, RUNNING, TERMINAL, compute_phase
from .resize import OWN_CONDITIONS
from .spec import ephemeral_containers, init_containers, is_host_network, qos_class

DISRUPTION_TARGET = "DisruptionTarget"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason to end the pod that does not come from its containers: deadline, eviction, refused admission."""

    reason: str
    message: str
    phase: str = "Failed"
    grace_seconds: int | None = None
    """What its containers get at most to end; None: what the pod asks for."""
    is_refusal: bool = False
    """The pod was never let in: nothing is told of its containers."""
    is_disruption: bool = False
    """The node ends a pod that might have gone on: told by the condition DisruptionTarget."""


def refused(reason: str, message: str) -> Verdict:
    """The node does not take the pod (kubelet.go's rejectPod)."""
    return Verdict(reason, f"Pod was rejected: {message}", is_refusal=True)


def refusal_status(pod: Object, now: datetime, verdict: Verdict) -> Object:
    """The status of a pod that was never let in."""
    old: Object = pod.get("status") or {}
    return {
        "observedGeneration": pod["metadata"].get("generation") or 1,
        "phase": verdict.phase,
        "conditions": [one for one in old.get("conditions") or () if one["type"] not in OWN_CONDITIONS],
        "startTime": old.get("startTime") or format_time(now),
        "qosClass": old.get("qosClass") or qos_class(pod),
        "reason": verdict.reason,
        "message": verdict.message,
    }


def held_back(status: Object, before: Object) -> Object:
    """The status while containers still end: that the pod is over is told when they have (status_manager.go's mergePodStatus)."""
    kept = {key: before[key] for key in ("reason", "message") if before.get(key)}
    rest = {key: value for key, value in status.items() if key not in ("reason", "message")}
    return {**rest, "phase": before.get("phase") or PENDING, **kept}


def with_base_status(pod: Object, last: Object | None, resize_kinds: Container[str]) -> Object:
    """The pod with the status that was computed last, and with the conditions that others own as the API has them now."""
    if last is None:
        return pod
    foreign = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] not in OWN_CONDITIONS]
    ours = [c for c in last.get("conditions") or () if c["type"] in KUBELET_CONDITIONS or c["type"] in resize_kinds]
    return {**pod, "status": {**last, "conditions": [*ours, *foreign]}}


def compute_status(pod: Object, seen: Observation, now: datetime, *, terminating: bool = False, verdict: Verdict | None = None) -> Object:
    """status as it is. `terminating`: no container will be started again; `verdict` fixes phase and reason."""
    old: Object = pod.get("status") or {}
    init_statuses = container_statuses(pod, ContainerKind.INIT, seen)
    statuses = container_statuses(pod, ContainerKind.REGULAR, seen)
    restarts_all = must_restart_all(pod, seen.runtime)
    phase = _phase(pod, old, init_statuses, statuses, terminating=terminating, verdict=verdict, running=seen.runtime.any_running())
    if old.get("phase") == RUNNING and verdict is None and not terminating and (restarts_all or _begins_anew(seen)):
        phase = RUNNING
    generation = pod["metadata"].get("generation") or 1
    stamp = format_time(now)
    has_sandbox = bool(seen.runtime.sandbox_id) and bool(seen.runtime.ip)
    verdicts = compute_conditions(pod, phase, init_statuses, statuses, has_sandbox=has_sandbox, restarts_all=restarts_all)
    verdicts |= seen.resize
    status: Object = {
        "observedGeneration": generation,
        "phase": phase,
        "conditions": merge_conditions(old.get("conditions") or (), verdicts, stamp, generation),
        "hostIP": seen.node_ip,
        "hostIPs": [{"ip": seen.node_ip}],
        "startTime": old.get("startTime") or stamp,
        "qosClass": old.get("qosClass") or qos_class(pod),
    }
    if verdict is not None and verdict.is_disruption:
        verdicts = {DISRUPTION_TARGET: ConditionVerdict(True, "TerminationByKubelet", verdict.message)}
        status["conditions"] = merge_conditions(status["conditions"], verdicts, stamp, generation)
    if verdict is not None:
        status["reason"], status["message"] = verdict.reason, verdict.message
    elif old.get("reason") and old.get("phase") == phase:
        status["reason"] = old["reason"]
        if old.get("message"):
            status["message"] = old["message"]
    _add_addresses(pod, old, seen, status)
    if init_containers(pod):
        status["initContainerStatuses"] = init_statuses
    status["containerStatuses"] = statuses
    if ephemeral_containers(pod):
        status["ephemeralContainerStatuses"] = container_statuses(pod, ContainerKind.EPHEMERAL, seen)
    return status


def _begins_anew(seen: Observation) -> bool:
    return any(one.is_reset for one in seen.runtime.containers.values())


def _phase(
    pod: Object,
    old: Object,
    init_statuses: list[Object],
    statuses: list[Object],
    *,
    terminating: bool,
    verdict: Verdict | None,
    running: bool,
) -> str:
    if old.get("phase") in TERMINAL:
        return str(old["phase"])
    if verdict is not None:
        return verdict.phase
    phase = compute_phase(pod, init_statuses, statuses, terminating=terminating)
    if terminating and phase == PENDING and not running:
        return "Failed"
    return phase


def _add_addresses(pod: Object, old: Object, seen: Observation, status: Object) -> None:
    ip = seen.runtime.ip or (seen.node_ip if is_host_network(pod) else old.get("podIP"))
    if ip:
        status["podIP"] = ip
        status["podIPs"] = [{"ip": ip}]


def status_patch(old: Object, new: Object) -> Object | None:
    """The strategic merge patch of status that turns `old` into `new`; None if nothing differs.

    Conditions merge by type, so conditions of other owners survive a race; everything else is replaced when it differs.
    """
    patch: Object = {}
    for key, value in new.items():
        if key == "conditions":
            before = {c["type"]: c for c in old.get("conditions") or ()}
            changed = [_condition_patch(before.get(c["type"]), c) for c in value if before.get(c["type"]) != c]
            there = {c["type"] for c in value}
            changed += [{"$patch": "delete", "type": kind} for kind in OWN_CONDITIONS if kind in before and kind not in there]
            if changed:
                patch["conditions"] = changed
                patch["$setElementOrder/conditions"] = [{"type": c["type"]} for c in value]
        elif old.get(key) != value:
            patch[key] = value
    for key in {"podIPs", "hostIPs"} & patch.keys():
        # Addresses merge by themselves: what is no longer there must be deleted by name.
        kept = {entry["ip"] for entry in new[key]}
        gone = [{"$patch": "delete", "ip": entry["ip"]} for entry in old.get(key) or () if entry["ip"] not in kept]
        patch[key] = [*new[key], *gone]
    for key in ("reason", "message", "podIP", "podIPs"):
        if key in old and key not in new:
            patch[key] = None
    return patch or None


def _condition_patch(before: Object | None, after: Object) -> Object:
    """A condition in full, with null for what it no longer has."""
    if before is None:
        return after
    gone = {key: None for key in before if key not in after}
    return {**after, **gone}

"""The five conditions that a kubelet owns, in its order, with its reasons and messages (pkg/kubelet/status/generate.go)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecosm.api.resources import Object

from .phase import FAILED, SUCCEEDED, has_initialized
from .spec import containers, init_containers, is_sidecar, may_restart_all

READY_TO_START = "PodReadyToStartContainers"
INITIALIZED = "Initialized"
READY = "Ready"
CONTAINERS_READY = "ContainersReady"
SCHEDULED = "PodScheduled"
ALL_RESTARTING = "AllContainersRestarting"
KUBELET_CONDITIONS = (READY_TO_START, INITIALIZED, READY, CONTAINERS_READY, SCHEDULED, ALL_RESTARTING)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition before it is dated."""

    is_true: bool
    reason: str = ""
    message: str = ""


TRUE = Verdict(True)


def compute_conditions(
    pod: Object, phase: str, init_statuses: Sequence[Object], statuses: Sequence[Object], *, has_sandbox: bool, restarts_all: bool = False
) -> dict[str, Verdict]:
    """Verdicts by condition type, in the order in which they are listed."""
    containers_ready = _containers_ready(pod, phase, init_statuses, statuses)
    found = {
        READY_TO_START: Verdict(has_sandbox),
        INITIALIZED: _initialized(pod, phase, init_statuses, statuses),
        READY: _ready(pod, phase, containers_ready),
        CONTAINERS_READY: containers_ready,
        SCHEDULED: TRUE,
    }
    return found | {ALL_RESTARTING: _restarting(phase, restarts_all=restarts_all)} if may_restart_all(pod) else found


def _restarting(phase: str, *, restarts_all: bool) -> Verdict:
    """A pod whose containers may all be restarted says whether that goes on."""
    if phase in (SUCCEEDED, FAILED):
        return Verdict(False, "PodCompleted" if phase == SUCCEEDED else "PodFailed")
    if restarts_all:
        return Verdict(True, "RestartAllContainersStarted", "container exited with restart policy rule")
    return Verdict(False)


def _containers_ready(pod: Object, phase: str, init_statuses: Sequence[Object], statuses: Sequence[Object]) -> Verdict:
    ready = {status["name"]: status["ready"] for status in (*init_statuses, *statuses)}
    considered = [spec["name"] for spec in init_containers(pod) if is_sidecar(spec)] + [spec["name"] for spec in containers(pod)]
    unknown = [name for name in considered if name not in ready]
    unready = [name for name in considered if ready.get(name) is False]
    if phase == SUCCEEDED and not unknown:
        return Verdict(False, "PodCompleted")
    if phase == FAILED:
        return Verdict(False, "PodFailed")
    return _unless(unknown, unready, "unready", "ContainersNotReady")


def _initialized(pod: Object, phase: str, init_statuses: Sequence[Object], statuses: Sequence[Object]) -> Verdict:
    specs = init_containers(pod)
    if not specs:
        return Verdict(True, "PodCompleted") if phase == SUCCEEDED else TRUE
    by_name = {status["name"]: status for status in init_statuses}
    unknown = [spec["name"] for spec in specs if spec["name"] not in by_name]
    incomplete = []
    for spec in specs:
        status = by_name.get(spec["name"])
        if status is not None and not (status.get("started") if is_sidecar(spec) else status["ready"]):
            incomplete.append(spec["name"])
    if phase == SUCCEEDED and not unknown:
        return Verdict(True, "PodCompleted")
    if incomplete and (has_initialized(pod, init_statuses, statuses) or _was_initialized(pod)):
        return TRUE
    return _unless(unknown, incomplete, "incomplete", "ContainersNotInitialized")


def _was_initialized(pod: Object) -> bool:
    """Once initialized a pod stays so, also while all its containers begin anew."""
    return any(one["type"] == INITIALIZED and one["status"] == "True" for one in (pod.get("status") or {}).get("conditions") or ())


def _ready(pod: Object, phase: str, containers_ready: Verdict) -> Verdict:
    if phase == SUCCEEDED:
        return Verdict(False, "PodCompleted")
    if phase == FAILED:
        return Verdict(False, "PodFailed")
    if not containers_ready.is_true:
        return Verdict(False, containers_ready.reason, containers_ready.message)
    gates = pod["spec"].get("readinessGates")
    if not gates:
        return TRUE
    present = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    complaints = []
    for gate in gates:
        wanted = gate["conditionType"]
        if wanted not in present:
            complaints.append(f'corresponding condition of pod readiness gate "{wanted}" does not exist.')
        elif present[wanted] != "True":
            complaints.append(f'the status of pod readiness gate "{wanted}" is not "True", but {present[wanted]}')
    return Verdict(False, "ReadinessGatesNotReady", ", ".join(complaints)) if complaints else TRUE


def _unless(unknown: list[str], lacking: list[str], adjective: str, reason: str) -> Verdict:
    parts = []
    if unknown:
        parts.append(f"containers with unknown status: [{' '.join(unknown)}]")
    if lacking:
        parts.append(f"containers with {adjective} status: [{' '.join(lacking)}]")
    return Verdict(False, reason, ", ".join(parts)) if parts else TRUE


def merge_conditions(old: Sequence[Object], verdicts: dict[str, Verdict], now: str, generation: int) -> list[Object]:
    """Dated conditions: a transition time stays while the status stays; conditions of other owners are kept behind ours."""
    by_type = {condition["type"]: condition for condition in old}
    merged = [_dated(kind, verdict, by_type.get(kind), now, generation) for kind, verdict in verdicts.items()]
    merged.extend(condition for condition in old if condition["type"] not in verdicts)
    return merged


def _dated(kind: str, verdict: Verdict, old: Object | None, now: str, generation: int) -> Object:
    status = "True" if verdict.is_true else "False"
    since = old["lastTransitionTime"] if old is not None and old["status"] == status and old.get("lastTransitionTime") else now
    condition: Object = {
        "type": kind,
        "observedGeneration": generation,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since,
    }
    if verdict.reason:
        condition["reason"] = verdict.reason
    if verdict.message:
        condition["message"] = verdict.message
    return condition

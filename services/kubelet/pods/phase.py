"""The phase of a pod from its container statuses: the kubelet's getPhase as a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubecosm.api.resources import Object

from .spec import containers, init_containers, is_restartable, is_sidecar

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
TERMINAL = frozenset((SUCCEEDED, FAILED))


def is_terminal(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in TERMINAL


def has_initialized(pod: Object, init_statuses: Sequence[Object], statuses: Sequence[Object]) -> bool:
    """Every init container has done its part, or a regular container was created (kubecontainer.HasAnyRegularContainerCreated)."""
    if any("containerID" in status for status in statuses):
        return True
    by_name = {status["name"]: status for status in init_statuses}
    for spec in init_containers(pod):
        status = by_name.get(spec["name"])
        if status is None:
            return False
        if is_sidecar(spec):
            if not status.get("started"):
                return False
        elif (status["state"].get("terminated") or {}).get("exitCode") != 0:
            return False
    return True


def compute_phase(pod: Object, init_statuses: Sequence[Object], statuses: Sequence[Object], *, terminating: bool = False) -> str:
    """`terminating`: nothing will be restarted whatever the policy says (deleted, evicted or past its deadline)."""
    waiting = running = stopped = succeeded = unknown = restartable = 0
    pending_init, pending_sidecar, failed_init = _count_init(pod, init_statuses)
    by_name = {status["name"]: status for status in statuses}
    for spec in containers(pod):
        state, last = _states(by_name, spec["name"])
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
            restartable += is_restartable(pod, spec, state["terminated"]["exitCode"])
        elif "waiting" in state:
            if "terminated" in last:
                stopped += 1
                restartable += is_restartable(pod, spec, last["terminated"]["exitCode"])
            else:
                waiting += 1
        else:
            unknown += 1
    if failed_init and (not _retries_init(pod, init_statuses) or terminating):
        return FAILED
    if pending_init or failed_init or (pending_sidecar and not has_initialized(pod, init_statuses, statuses)) or waiting:
        return FAILED if terminating and not running and stopped != succeeded else PENDING
    if running and not unknown:
        return RUNNING
    if stopped and not running and not unknown:
        if restartable and not terminating:
            return RUNNING
        return SUCCEEDED if stopped == succeeded else FAILED
    return PENDING


def _retries_init(pod: Object, init_statuses: Sequence[Object]) -> bool:
    """Whether the init container that failed is started again."""
    by_name = {status["name"]: status for status in init_statuses}
    for spec in init_containers(pod):
        state, last = _states(by_name, spec["name"])
        ended = state.get("terminated") or last.get("terminated")
        if not is_sidecar(spec) and ended is not None and ended["exitCode"] != 0:
            return is_restartable(pod, spec, ended["exitCode"])
    return False


def _count_init(pod: Object, init_statuses: Sequence[Object]) -> tuple[int, int, int]:
    """Init containers not done: (regular ones pending, sidecars pending, regular ones failed)."""
    pending = sidecars = failed = 0
    by_name = {status["name"]: status for status in init_statuses}
    for spec in init_containers(pod):
        state, last = _states(by_name, spec["name"])
        if is_sidecar(spec):
            status = by_name.get(spec["name"]) or {}
            if ("running" in state and not status.get("started")) or ("waiting" in state and "terminated" not in last) or not state:
                sidecars += 1
        elif "terminated" in state:
            failed += state["terminated"]["exitCode"] != 0
        elif "waiting" in state and "terminated" in last:
            failed += last["terminated"]["exitCode"] != 0
        else:
            pending += 1
    return pending, sidecars, failed


def _states(by_name: Mapping[str, Object], name: str) -> tuple[Object, Object]:
    status = by_name.get(name)
    if status is None:
        return {}, {}
    return status["state"], status.get("lastState") or {}

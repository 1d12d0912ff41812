"""The cells of a pod. Its status word comes from whatever keeps it from running. Imitates printPod of pkg/printers/internalversion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubecosm.api.resources import Object

from .texts import NONE, age, condition, name_of, part, since

SUCCEEDED = [{"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."}]
FAILED = [{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}]
_NODE_LOST = "NodeLost"


@dataclass
class _Count:
    """What the containers seen so far add up to."""

    restarts: int = 0
    last_restart: str = ""
    ready: int = 0

    def add_restarts(self, status: Object) -> None:
        self.restarts += status.get("restartCount", 0)
        # Times of one format compare like the moments they name.
        self.last_restart = max(self.last_restart, part(status, "lastState", "terminated", "finishedAt") or "")


def pods(pod: Object, now: datetime) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    reason = status.get("reason") or status.get("phase", "")
    if (part(condition(pod, "PodScheduled") or {}, "reason")) == "SchedulingGated":
        reason = "SchedulingGated"
    everything, of_sidecars = _Count(), _Count()
    starting = _init_reason(status, spec, sidecars, everything, of_sidecars)
    count = everything
    if starting is None or (condition(pod, "Initialized") or {}).get("status") == "True":
        of_sidecars.ready = everything.ready
        count = of_sidecars
        reason = _main_reason(pod, starting or reason, count)
    else:
        reason = starting
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == _NODE_LOST:
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(count.restarts)
    if count.restarts and count.last_restart:
        restarts += f" ({since(count.last_restart, now)} ago)"
    total = len(spec.get("containers") or ()) + len(sidecars)
    ips: list[Object] = status.get("podIPs") or [{}]
    return [
        name_of(pod), f"{count.ready}/{total}", reason, restarts, age(pod, now), ips[0].get("ip") or NONE, spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE, _readiness_gates(pod),
    ]  # fmt: skip


def pod_conditions(pod: Object) -> list[Object]:
    """A finished pod's row says so."""
    return {"Succeeded": SUCCEEDED, "Failed": FAILED}.get(part(pod, "status", "phase") or "", [])


def _init_reason(status: Object, spec: Object, sidecars: set[str], everything: _Count, of_sidecars: _Count) -> str | None:
    """The first init container that holds the pod back, as `Init:…`; None once all are through. Counts up to there."""
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        is_sidecar = container.get("name") in sidecars
        everything.add_restarts(container)
        if is_sidecar:
            of_sidecars.add_restarts(container)
        terminated = state.get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            everything.ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            return f"Init:{_end_of(terminated)}"
        waiting = part(state, "waiting", "reason")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{i}/{len(spec.get('initContainers') or ())}"
    return None


def _main_reason(pod: Object, reason: str, count: _Count) -> str:
    """The status word by the pod's containers, the first one having the last say."""
    running, error = False, ""
    statuses: list[Object] = part(pod, "status", "containerStatuses") or []
    for container in reversed(statuses):
        count.add_restarts(container)
        state = container.get("state") or {}
        terminated = state.get("terminated")
        if part(state, "waiting", "reason"):
            reason = state["waiting"]["reason"]
        elif terminated is not None:
            reason = _end_of(terminated)
            if terminated.get("exitCode"):
                error = reason
        elif container.get("ready") and state.get("running") is not None:
            running = True
            count.ready += 1
    if reason != "Completed":
        return reason
    if running and (condition(pod, "Ready") or {}).get("status") == "True":
        return "Running"
    return error or ("NotReady" if running else reason)


def _end_of(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _readiness_gates(pod: Object) -> str:
    gates: list[Object] = part(pod, "spec", "readinessGates") or []
    if not gates:
        return NONE
    return f"{_true_count(pod, (gate.get('conditionType', '') for gate in gates))}/{len(gates)}"


def _true_count(pod: Object, types: Iterable[str]) -> int:
    return sum((condition(pod, name) or {}).get("status") == "True" for name in types)

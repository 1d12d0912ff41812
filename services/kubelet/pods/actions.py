"""What must happen to bring a pod's containers to its spec: one pure decision (kuberuntime's computePodActions).

Leaves out: sandbox changes of host namespaces.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from kubecosm.api.resources import Object

from ..cri.images import full_name
from ..cri.types import ContainerKind, ContainerState, ContainerStatus, PodStatus
from .spec import (
    RESTART_ALL,
    all_containers,
    containers,
    ephemeral_containers,
    init_containers,
    is_sidecar,
    matching_rule_action,
    may_restart_all,
    restart_policy,
    should_restart,
)


@dataclass(frozen=True, slots=True)
class ContainerToStart:
    kind: ContainerKind
    spec: Object


@dataclass(frozen=True, slots=True)
class ContainerToKill:
    """A running container to stop; `message` is that of the Killing event, `reason` the probe that failed (its field), if one did."""

    status: ContainerStatus
    spec: Object
    message: str
    reason: str = ""


@dataclass(slots=True)
class PodActions:
    kill_pod: bool = False
    create_sandbox: bool = False
    kill: list[ContainerToKill] = field(default_factory=list)
    start: list[ContainerToStart] = field(default_factory=list)
    restart_all: bool = False
    """Everything is to end (`kill`), at once and without hooks, and then to begin anew."""


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """What the probes say, by container id. Absent means not known yet."""

    liveness: Mapping[str, bool] = field(default_factory=dict)
    startup: Mapping[str, bool] = field(default_factory=dict)
    readiness: Mapping[str, bool] = field(default_factory=dict)

    def is_started(self, spec: Object, status: ContainerStatus) -> bool:
        """Running, and past its startup probe if it has one."""
        if status.state is not ContainerState.RUNNING:
            return False
        return not spec.get("startupProbe") or self.startup.get(status.container_id) is True


NO_PROBES = ProbeResults()


def compute_actions(pod: Object, status: PodStatus, probes: ProbeResults = NO_PROBES, resizing: Container[str] = frozenset()) -> PodActions:
    """Decide from the spec and what runs. Starting a container in back-off is refused later, by the worker.

    `resizing`: ids of running containers that must be restarted for their new resources.
    """
    if not status.sandbox_id:
        return _actions_without_sandbox(pod, status)
    if must_restart_all(pod, status):
        return PodActions(restart_all=True, kill=[*_everything_running(pod, status)])
    actions = PodActions()
    for spec in ephemeral_containers(pod):
        if spec["name"] not in status.containers:
            actions.start.append(ContainerToStart(ContainerKind.EPHEMERAL, spec))
    initialized = _plan_init_containers(pod, status, probes, actions)
    if actions.kill_pod or not initialized:
        return actions
    _plan_containers(pod, status, probes, actions, resizing)
    return actions


def must_restart_all(pod: Object, status: PodStatus) -> bool:
    """A container ended with a code for which its rules restart all of them (kubecontainer.ShouldAllContainersRestart)."""
    if pod["metadata"].get("deletionTimestamp") is not None or not may_restart_all(pod):
        return False
    ended = ((spec, status.latest(spec["name"])) for spec in (*init_containers(pod), *containers(pod)))
    return any(
        one is not None and one.state is ContainerState.EXITED and matching_rule_action(spec, one.exit_code) == RESTART_ALL
        for spec, one in ended
    )


def _everything_running(pod: Object, status: PodStatus) -> Iterator[ContainerToKill]:
    for _, spec in all_containers(pod):
        current = status.containers.get(spec["name"])
        if current is not None and current.state is not ContainerState.EXITED:
            yield ContainerToKill(current, spec, f"Container {spec['name']} is restarted with all others of its pod", RESTART_ALL)


def _actions_without_sandbox(pod: Object, status: PodStatus) -> PodActions:
    started_before = bool(status.containers)
    if restart_policy(pod) == "Never" and started_before:
        return PodActions(kill_pod=True)
    actions = PodActions(create_sandbox=True, kill_pod=started_before)
    if init := init_containers(pod):
        actions.start.append(ContainerToStart(ContainerKind.INIT, init[0]))
        return actions
    for spec in containers(pod):
        previous = status.latest(spec["name"])
        if previous is None or should_restart(pod, spec, previous.exit_code):
            actions.start.append(ContainerToStart(ContainerKind.REGULAR, spec))
    if not actions.start:
        return PodActions(kill_pod=True)
    return actions


def _plan_init_containers(pod: Object, status: PodStatus, probes: ProbeResults, actions: PodActions) -> bool:
    """Plan init containers in order; true once all have done their part and the regular ones may run."""
    is_past = any(status.current(spec["name"]) is not None for spec in containers(pod))
    for spec in init_containers(pod):
        current = status.current(spec["name"])
        if is_sidecar(spec):
            proceeds = _plan_sidecar(spec, current, probes, actions)
        else:
            proceeds = is_past or _plan_regular_init(pod, spec, current, probes, actions)
        if actions.kill_pod:
            return False
        if not proceeds and not is_past:
            return False
    return True


def _plan_sidecar(spec: Object, current: ContainerStatus | None, probes: ProbeResults, actions: PodActions) -> bool:
    if current is None or current.state is not ContainerState.RUNNING:
        actions.start.append(ContainerToStart(ContainerKind.INIT, spec))
        return False
    if failed := _probe_failure(spec, current, probes):
        actions.kill.append(ContainerToKill(current, spec, f"{failed[0]}, will be restarted", failed[1]))
        actions.start.append(ContainerToStart(ContainerKind.INIT, spec))
        return False
    return probes.is_started(spec, current)


def _plan_regular_init(pod: Object, spec: Object, current: ContainerStatus | None, probes: ProbeResults, actions: PodActions) -> bool:
    if current is None:
        actions.start.append(ContainerToStart(ContainerKind.INIT, spec))
        return False
    if current.state is not ContainerState.EXITED:
        return False
    if current.exit_code == 0:
        return True
    if should_restart(pod, spec, current.exit_code):
        actions.start.append(ContainerToStart(ContainerKind.INIT, spec))
    else:
        actions.kill_pod = True
        actions.start.clear()
    return False


def _plan_containers(pod: Object, status: PodStatus, probes: ProbeResults, actions: PodActions, resizing: Container[str]) -> None:
    kept = 0
    starts_sidecars = list(actions.start)
    starting = 0
    for spec in containers(pod):
        current = status.latest(spec["name"])
        if current is None or current.state is not ContainerState.RUNNING:
            resumes = current is not None and current.container_id in resizing
            if current is None or current.state is ContainerState.CREATED or resumes or should_restart(pod, spec, current.exit_code):
                actions.start.append(ContainerToStart(ContainerKind.REGULAR, spec))
                starting += 1
            continue
        restart = should_restart(pod, spec, 1)
        if current.image != (image := spec.get("image", "")) and full_name(current.image) != full_name(image):
            message, reason, restart = f"Container {spec['name']} definition changed", "", True
        elif failed := _probe_failure(spec, current, probes):
            message, reason = failed
        elif current.container_id in resizing:
            actions.start.append(ContainerToStart(ContainerKind.REGULAR, spec))
            actions.kill.append(ContainerToKill(current, spec, f"Container {spec['name']} resize requires restart"))
            starting += 1
            continue
        else:
            kept += 1
            continue
        if restart:
            message = f"{message}, will be restarted"
            actions.start.append(ContainerToStart(ContainerKind.REGULAR, spec))
            starting += 1
        actions.kill.append(ContainerToKill(current, spec, message, reason))
    if kept == 0 and starting == 0:
        actions.kill_pod = True
        actions.start = [start for start in actions.start if start not in starts_sidecars]


def _probe_failure(spec: Object, current: ContainerStatus, probes: ProbeResults) -> tuple[str, str] | None:
    """Message and probe (its field of the spec)."""
    if probes.liveness.get(current.container_id) is False:
        return f"Container {spec['name']} failed liveness probe", "livenessProbe"
    if probes.startup.get(current.container_id) is False:
        return f"Container {spec['name']} failed startup probe", "startupProbe"
    return None

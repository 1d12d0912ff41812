"""status.containerStatuses from what the runtime tells: the kubelet's convertToAPIContainerStatuses as pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..cri.images import full_name
from ..cri.types import ContainerKind, ContainerState, ContainerStatus, PodStatus
from .actions import NO_PROBES, ProbeResults
from .conditions import Verdict
from .spec import init_containers, is_sidecar, should_restart


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not start, as its last attempt said: `CrashLoopBackOff`, `ErrImagePull`, …"""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a pod's status is computed from, besides the pod itself."""

    runtime: PodStatus
    probes: ProbeResults = NO_PROBES
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    node_ip: str = ""
    resize: Mapping[str, Verdict] = field(default_factory=dict)
    """Conditions that tell of a change of resources."""


def container_statuses(pod: Object, kind: ContainerKind, seen: Observation) -> list[Object]:
    """The list for one kind of container; regular ones sorted by name, the others in the order of the spec."""
    specs = pod["spec"].get(kind.value) or ()
    default = _default_state(pod, kind, seen.runtime)
    statuses = [_container_status(pod, spec, kind, seen, default) for spec in specs]
    if kind is ContainerKind.REGULAR and len(statuses) > 1:
        statuses.sort(key=lambda status: str(status["name"]))
    return statuses


def _default_state(pod: Object, kind: ContainerKind, runtime: PodStatus) -> Object:
    if kind is ContainerKind.EPHEMERAL or not init_containers(pod):
        return {"waiting": {"reason": "ContainerCreating"}}
    return {"waiting": {"reason": "PodInitializing"}}


def _container_status(pod: Object, spec: Object, kind: ContainerKind, seen: Observation, default: Object) -> Object:
    name = spec["name"]
    current = seen.runtime.containers.get(name)
    if current is None:
        waiting = seen.waiting.get(name)
        state = {"waiting": _waiting_body(waiting)} if waiting else default
        return _never_created(spec, kind, state)
    state, last_state = _states(pod, spec, kind, current, seen) if not current.is_reset else _states_after_reset(current, seen, default)
    is_running = current.state is ContainerState.RUNNING
    status: Object = {
        "name": name,
        "state": state,
        "lastState": last_state,
        "ready": _is_ready(spec, kind, current, seen.probes),
        "restartCount": current.restart_count,
        "image": full_name(current.image),
        "imageID": current.image_id,
        "containerID": current.container_id,
        "started": is_running and seen.probes.is_started(spec, current),
    }
    if kind is ContainerKind.INIT and not is_sidecar(spec) and not is_running:
        status["started"] = False
    _add_resources(status, spec, is_running)
    if is_running:
        status["user"] = {"linux": _linux_user(pod, spec, current.uid)}
    return status


def _never_created(spec: Object, kind: ContainerKind, state: Object) -> Object:
    status: Object = {
        "name": spec["name"], "state": state, "lastState": {}, "ready": False, "restartCount": 0, "image": spec.get("image", ""),
        "imageID": "",
        "started": False,
    }  # fmt: skip
    _add_resources(status, spec, False)
    return status


def _states(pod: Object, spec: Object, kind: ContainerKind, current: ContainerStatus, seen: Observation) -> tuple[Object, Object]:
    """The pair (state, lastState)."""
    previous = seen.runtime.previous.get(current.name)
    last_state = {"terminated": _terminated(previous)} if previous is not None else {}
    if current.state is ContainerState.RUNNING:
        assert current.started_at is not None
        return {"running": {"startedAt": format_time(current.started_at)}}, last_state
    waiting = seen.waiting.get(current.name)
    if current.state is ContainerState.EXITED:
        state: Object = {"terminated": _terminated(current)}
        is_done_init = kind is ContainerKind.INIT and not is_sidecar(spec) and current.exit_code == 0
        if waiting is None or is_done_init or not should_restart(pod, spec, current.exit_code):
            return state, last_state
        return {"waiting": _waiting_body(waiting)}, state
    return {"waiting": _waiting_body(waiting or Waiting("ContainerCreating"))}, last_state


def _states_after_reset(current: ContainerStatus, seen: Observation, default: Object) -> tuple[Object, Object]:
    waiting = seen.waiting.get(current.name)
    return {"waiting": _waiting_body(waiting)} if waiting else default, {"terminated": _terminated(current)}


def _terminated(status: ContainerStatus) -> Object:
    body: Object = {"exitCode": status.exit_code}
    if status.reason:
        body["reason"] = status.reason
    if status.message:
        body["message"] = status.message
    body["startedAt"] = format_time(status.started_at) if status.started_at else None
    body["finishedAt"] = format_time(status.finished_at) if status.finished_at else None
    body["containerID"] = status.container_id
    return body


def _waiting_body(waiting: Waiting) -> Object:
    return {"reason": waiting.reason, "message": waiting.message} if waiting.message else {"reason": waiting.reason}


def _is_ready(spec: Object, kind: ContainerKind, current: ContainerStatus, probes: ProbeResults) -> bool:
    """A regular init container is ready once it succeeded; any other once it runs, started, and its readiness probe agrees."""
    if kind is ContainerKind.EPHEMERAL:
        return False
    if kind is ContainerKind.INIT and not is_sidecar(spec):
        return current.state is ContainerState.EXITED and current.exit_code == 0 and not current.is_reset
    if not probes.is_started(spec, current):
        return False
    return not spec.get("readinessProbe") or probes.readiness.get(current.container_id) is True


def _add_resources(status: Object, spec: Object, is_running: bool) -> None:
    resources = spec.get("resources") or {}
    if requests := resources.get("requests"):
        status["allocatedResources"] = dict(requests)
    if is_running:
        status["resources"] = {key: dict(resources[key]) for key in ("limits", "requests") if resources.get(key)}
    if mounts := spec.get("volumeMounts"):
        status["volumeMounts"] = [_mount_status(mount) for mount in mounts]


def _mount_status(mount: Object) -> Object:
    status: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status["readOnly"] = True
        status["recursiveReadOnly"] = "Disabled"
    return status


def _linux_user(pod: Object, spec: Object, uid: int) -> Object:
    """Identity of the main process: of the container, else of the pod; the pod's groups come on top (kuberuntime/security_context.go)."""
    of_pod: Object = pod["spec"].get("securityContext") or {}
    gid = (spec.get("securityContext") or {}).get("runAsGroup", of_pod.get("runAsGroup")) or 0
    more = [*([of_pod["fsGroup"]] if of_pod.get("fsGroup") is not None else []), *(of_pod.get("supplementalGroups") or ())]
    return {"uid": uid, "gid": gid, "supplementalGroups": list(dict.fromkeys([gid, *more]))}

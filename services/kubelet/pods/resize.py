"""Resources of a running pod that change in place: what is granted, what waits for room, and what needs a restart.

The API holds what is wanted (spec), the kubelet grants it when its node has room, and the status tells what is granted. Pure but for the
record that a worker keeps. Imitates pkg/kubelet/allocation; simulated runtimes take new values at once, so PodResizeInProgress is only
seen while a container is restarted for its new resources. Leaves out: resources of the pod as a whole, and refusing a memory limit below
what is in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from kubecosm.api.resources import Object

from ..cri.types import ContainerState, PodStatus
from .conditions import KUBELET_CONDITIONS, Verdict
from .spec import containers, init_containers, is_sidecar

Resources = Mapping[str, Object]
"""Container → its `resources`."""
PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
RESIZE_CONDITIONS = (PENDING, IN_PROGRESS)
OWN_CONDITIONS = (*KUBELET_CONDITIONS, *RESIZE_CONDITIONS)
"""What the kubelet alone tells of pods."""
DEFERRED, INFEASIBLE = "Deferred", "Infeasible"


def resources_of(pod: Object) -> dict[str, Object]:
    """Of the containers that can be resized: regular ones and sidecars."""
    resizable = (*containers(pod), *(spec for spec in init_containers(pod) if is_sidecar(spec)))
    return {spec["name"]: spec.get("resources") or {} for spec in resizable}


def reported_resources(pod: Object) -> dict[str, Object]:
    """What was granted according to the status: after a restart of the kubelet. What the status does not tell is as the spec says."""
    status = pod.get("status") or {}
    told = {
        one["name"]: one["resources"]
        for one in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
        if one.get("resources")
    }
    return {name: {**wanted, **told.get(name, {})} for name, wanted in resources_of(pod).items()}


def with_resources(pod: Object, granted: Resources) -> Object:
    """The pod as if its spec asked for what is granted."""

    def replaced(specs: list[Object]) -> list[Object]:
        return [{**spec, "resources": granted[spec["name"]]} if spec["name"] in granted else spec for spec in specs]

    spec = {**pod["spec"], "containers": replaced(containers(pod))}
    if init_containers(pod):
        spec["initContainers"] = replaced(init_containers(pod))
    return {**pod, "spec": spec}


def told_resources(pod: Object, error: str = "") -> str:
    """What a pod's containers are to have, as events about it tell (pkg/kubelet/allocation)."""

    def told(specs: Iterable[Object]) -> list[Object]:
        return [{"name": spec["name"], "resources": _in_order(spec.get("resources") or {})} for spec in specs]

    sidecars = told(spec for spec in init_containers(pod) if is_sidecar(spec))
    details: Object = {"initContainers": sidecars} if sidecars else {}
    details |= {"containers": told(containers(pod)), "generation": pod["metadata"].get("generation") or 1}
    return orjson.dumps({**details, **({"error": error} if error else {})}).decode()


def _in_order(resources: Object) -> Object:
    """Go's order: fields as declared, maps by key."""
    return {kind: dict(sorted(resources[kind].items())) for kind in ("limits", "requests") if resources.get(kind)}


def plan_restarts(pod: Object, before: Resources, after: Resources) -> set[str]:
    """Containers that must be restarted for their change, as their resizePolicy says."""
    names = set()
    for spec in (*containers(pod), *init_containers(pod)):
        name = spec["name"]
        policies = {policy["resourceName"]: policy["restartPolicy"] for policy in spec.get("resizePolicy") or ()}
        changed = _changed(before.get(name, {}), after.get(name, {}))
        if any(policies.get(resource) == "RestartContainer" for resource in changed):
            names.add(name)
    return names


def _changed(before: Object, after: Object) -> set[str]:
    return {
        resource
        for kind in ("requests", "limits")
        for resource in {*(before.get(kind) or {}), *(after.get(kind) or {})}
        if (before.get(kind) or {}).get(resource) != (after.get(kind) or {}).get(resource)
    }


@dataclass(slots=True)
class Resize:
    """A pod whose resources were changed since it started."""

    granted: dict[str, Object]
    pending: Verdict | None = None
    """Why the newest wish is not granted."""
    restarting: dict[str, str] = field(default_factory=dict)
    """Container → the id of the one that must end for its new resources."""

    def grant(self, pod: Object, runtime: PodStatus) -> None:
        """Give the pod what its spec asks for."""
        wanted = resources_of(pod)
        for name in plan_restarts(pod, self.granted, wanted):
            current = runtime.containers.get(name)
            if current is not None and current.state is ContainerState.RUNNING:
                self.restarting[name] = current.container_id
        self.granted, self.pending = wanted, None

    def is_done(self) -> bool:
        """Everything that was granted is in effect."""
        return self.pending is None and not self.restarting

    def settle(self, runtime: PodStatus) -> bool:
        """Forget restarts that have taken place; true if there were any."""
        before = len(self.restarting)
        for name, container_id in tuple(self.restarting.items()):
            current = runtime.containers.get(name)
            if current is None or current.container_id != container_id:
                del self.restarting[name]
        return len(self.restarting) < before

    def conditions(self) -> dict[str, Verdict]:
        found = {} if self.pending is None else {PENDING: self.pending}
        return found | ({IN_PROGRESS: Verdict(True)} if self.restarting else {})

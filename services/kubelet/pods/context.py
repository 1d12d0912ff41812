"""What every pod worker shares, handed over as one bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kubecosm.api.resources import SECRETS, SERVICES, Object, Resource
from kubecosm.runtime.clock import Clock

from ..cri.runtime import Runtime
from ..cri.types import ContainerKind
from ..env.environment import (
    ConfigMissing,
    Lookup,
    compute_environment,
    has_computed_paths,
    named_objects,
    snapshot,
    sub_path,
)
from ..env.objects import Needed, ObjectCache
from ..probes.manager import ProbeManager
from ..timers import Timers
from ..volumes.filesystem import Node
from ..volumes.volumes import VolumeManager, check, references, required
from .admission import Refusal, Refused
from .backoff import Backoff
from .events import KubeletEvents
from .status_manager import StatusManager


class PodResources:
    """Environment and volumes of containers, from the API's objects."""

    def __init__(self, objects: ObjectCache, volumes: VolumeManager, allocatable: Callable[[str], Mapping[str, str]]) -> None:
        """`allocatable`: what a node, by name, has for pods."""
        self._objects = objects
        self.volumes = volumes
        self._allocatable = allocatable

    async def check_volumes(self, pod: Object) -> None:
        """VolumeMissing while something that a volume shows is not there. Costs nothing for pods without such volumes."""
        if required(pod):
            await self._need(pod, shown_objects(pod))
            check(pod, self._objects.get)

    async def missing_pull_secrets(self, pod: Object) -> list[str]:
        """Of the Secrets that the pod names for pulling images, those that are not there."""
        names = [reference["name"] for reference in pod["spec"].get("imagePullSecrets") or () if reference.get("name")]
        if not names:
            return []
        await self._need(pod, [(SECRETS, name) for name in names])
        return [name for name in names if self._objects.get(SECRETS, pod["metadata"]["namespace"], name) is None]

    async def check_environment(self, pod: Object, spec: Object, *, pod_ip: str, node_ip: str) -> None:
        """ConfigMissing while the container's environment, or a path that depends on it, cannot be made."""
        if has_computed_paths(spec):
            known = await self.environment(pod, spec, pod_ip=pod_ip, node_ip=node_ip)
            for mount in spec["volumeMounts"]:
                sub_path(mount, known)
        elif named := named_objects(spec):
            await self._need(pod, named)
            compute_environment(pod, spec, self._objects.get, (), pod_ip=pod_ip, node_ip=node_ip)

    def snapshot(self, pod: Object, spec: Object) -> Lookup | None:
        """What a container that starts now has of ConfigMaps and Secrets in its environment; None if nothing, which costs nothing."""
        return snapshot(pod, spec, self._objects.get) if named_objects(spec) else None

    async def environment(
        self, pod: Object, spec: Object, *, pod_ip: str, node_ip: str, held: Lookup | None = None, started: str = ""
    ) -> Mapping[str, str]:
        """`held` has the objects as they were when the container started; Services that came after `started` are not in it."""
        if held is None and (named := named_objects(spec)):
            await self._need(pod, named)
        await self._objects.ensure(SERVICES)
        services = [s for s in self._objects.services(pod) if not started or s["metadata"]["creationTimestamp"] <= started]
        return compute_environment(
            pod, spec, held or self._objects.get, services, pod_ip=pod_ip, node_ip=node_ip,
            allocatable=self._allocatable(pod["spec"].get("nodeName", "")),
        )  # fmt: skip

    async def mounted(self, pod: Object, *, pod_ip: str, node_ip: str) -> Mapping[str, Node]:
        if not pod["spec"].get("volumes"):
            return {}
        await self._need(pod, shown_objects(pod))
        return await self.volumes.volumes(pod, pod_ip, node_ip)

    async def _need(self, pod: Object, named: list[tuple[Resource, str]]) -> None:
        meta = pod["metadata"]
        await self._objects.need(meta["uid"], [Needed(resource, meta["namespace"], name) for resource, name in named])

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self.volumes.forget(uid)
        self._objects.forget(uid)


def check_user(pod: Object, spec: Object, image_user: str | None) -> None:
    """ConfigMissing if the container must not run as root and would, or may (security_context.go's verifyRunAsNonRoot)."""
    context = {**(pod["spec"].get("securityContext") or {}), **(spec.get("securityContext") or {})}
    if not context.get("runAsNonRoot"):
        return
    uid, name = context.get("runAsUser"), (image_user or "").partition(":")[0]
    if uid == 0:
        problem = "container's runAsUser breaks non-root policy"
    elif uid is not None or image_user is None:
        return
    elif name in ("", "0"):
        problem = "container has runAsNonRoot and image will run as root"
    elif not name.isdigit():
        problem = f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
    else:
        return
    meta = pod["metadata"]
    raise ConfigMissing(f'{problem} (pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {spec["name"]})')


def shown_objects(pod: Object) -> list[tuple[Resource, str]]:
    """ConfigMaps and Secrets that the pod's volumes show."""
    return [(shown.resource, shown.name) for shown in references(pod)]


class WorkerMetrics(Protocol):
    """What workers count."""

    def container_started(self, kind: ContainerKind) -> None: ...

    def sandbox_started(self) -> None: ...

    def pod_started(self, seconds: float) -> None: ...


class Evictions(Protocol):
    """The EvictionManager."""

    def consider(self, pod: Object, node: str) -> None: ...

    def refusal(self, pod: Object, node: str) -> Refused | None: ...


@dataclass(frozen=True, slots=True)
class PodContext:
    """The services of the kubelet that pod workers use."""

    runtime_of: Callable[[Object], Runtime]
    """The runtime that runs a pod, by its RuntimeClass."""
    clock: Clock
    timers: Timers
    tasks: asyncio.TaskGroup
    probes: ProbeManager
    statuses: StatusManager
    events: KubeletEvents
    resources: PodResources
    backoff: Backoff
    image_backoff: Backoff
    metrics: WorkerMetrics
    waiting_for_objects: set[str]
    """Pods (uids) that may go on when a ConfigMap or Secret appears."""
    evictions: Evictions
    resize: Callable[[Object], Refusal | None]
    """Asks the node for the resources that a pod wants now; why not, if there is no room."""
    on_ended: Callable[[str], None]
    """Everything of the pod (uid) has ended; its object may still be there."""
    on_finished: Callable[[str], None]
    """A worker has nothing left to do for its pod (uid)."""

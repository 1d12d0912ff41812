"""What plugins are given when they are made: the cluster state, the clock, chance, and the effects they may have (framework.Handle)."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..dra.state import DeviceState
from ..state.cluster import ClusterState
from ..state.columns import BoolArray
from ..state.podinfo import PodInfo
from ..state.requests import Requests
from ..state.volumes import VolumeState
from ..state.workloads import WorkloadIndex

if TYPE_CHECKING:
    from ..queue.nominator import Nominator
    from ..waiting import WaitingPods
    from .status import Status


class ApiEffects(Protocol):
    """What the scheduler does to the API. Failures are ApiErrors or the HTTP library's."""

    async def bind(self, pod: PodInfo, node_name: str) -> None:
        """POST …/pods/<name>/binding."""

    async def patch_status(self, pod: PodInfo, patch: Object) -> None:
        """Strategic merge patch of the pod's status."""

    async def delete_pod(self, pod: PodInfo) -> None:
        """Graceful deletion of that very pod: NotFound if it is gone, Conflict if its name belongs to another."""

    async def patch_claim(self, namespace: str, name: str, patch: Object) -> None:
        """Merge patch of a PersistentVolumeClaim."""

    async def patch_volume(self, name: str, patch: Object) -> None:
        """Merge patch of a PersistentVolume."""

    async def patch_resource_claim(self, namespace: str, name: str, patch: Object, subresource: str) -> Object:
        """Merge patch of a ResourceClaim, or of its status; the claim afterwards."""

    async def create_resource_claim(self, claim: Object) -> Object:
        """The claim as the API server has named it."""

    async def delete_resource_claim(self, namespace: str, name: str, uid: str) -> None:
        """Delete that very claim; one that is gone is fine."""

    def event(
        self, regarding: PodInfo, type: str, reason: str, action: str, note: str, *, related: PodInfo | None = None, once: bool = False
    ) -> None:
        """Record an Event; never blocks. `once`: it cannot repeat for this pod."""


@dataclass(frozen=True, slots=True)
class ResourceFit:
    """A pod that fits wherever `ok` says so and the node has room for `wanted` (and for one pod more)."""

    ok: BoolArray
    wanted: Requests


class Framework(Protocol):
    """What a plugin may ask of the profile it belongs to."""

    name: str

    def fits(self, pod: PodInfo, row: int) -> Status | None:
        """Whether the node of `row` would take the pod as the cluster state is now; None if so."""

    def fit_by_resources(self, pod: PodInfo) -> ResourceFit | None:
        """The short answer to "what if these pods were gone?" if only their requests make a difference; None if other things may."""


class Runner(Protocol):
    """What a plugin may ask of the scheduler."""

    @property
    def waiting(self) -> WaitingPods:
        """The pods that Permit plugins hold; a plugin allows and rejects by its own name."""

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside scheduling; an expected failure (API, network) is logged."""

    def activate(self, uid: str) -> None:
        """Try this pending pod at once."""

    def preempt_unbound(self, uid: str, plugin: str) -> bool:
        """Send back a pod that Permit or PreBind plugins hold, so that it need not be deleted; False if it is not one."""

    def recheck_gates(self, uid: str) -> None:
        """A PreEnqueue plugin may have changed its mind about this pod."""


@dataclass
class Handle:
    """What all plugins of the process share; each profile has a copy that knows it as `framework`."""

    cluster: ClusterState
    clock: Clock
    random: random.Random
    nominator: Nominator
    effects: ApiEffects
    workloads: WorkloadIndex = field(default_factory=WorkloadIndex)
    volumes: VolumeState = field(default_factory=VolumeState)
    devices: DeviceState = field(default_factory=DeviceState)
    disruption_budgets: Mapping[str, Object] = field(default_factory=dict)
    """PodDisruptionBudgets by namespace/name."""
    framework: Framework | None = None
    runner: Runner | None = None
    preemption_tried: Callable[[], None] | None = None
    """Told of each search for victims, for metrics."""
    preempted: Callable[[int], None] | None = None
    """Told of each preemption's number of victims, for metrics."""
    claim_created: Callable[[str], None] | None = None
    """Told of each ResourceClaim for extended resources (success, failure), for metrics."""
    devices_prepared: Callable[[str, Iterable[str], str, float], None] | None = None
    """Told how long drivers took to prepare devices: profile, drivers, result, seconds."""
    evicted: Callable[[str, float], None] | None = None
    """Told how each eviction of victims ended (success, error), after how many seconds."""

"""DynamicResources: gives a pod's ResourceClaims devices on the node it goes to, and keeps it off nodes that have none.

Structured parameters only.
"""

from __future__ import annotations

import numpy as np

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..dra.allocator import AllocationError, Chosen, ClaimNeeds, Search, refuse_all
from ..dra.devices import Device, Updating
from ..dra.extended import asks_for_extended
from ..dra.result import allocation_of
from ..dra.room import Room
from ..dra.state import allocation_in, reservations_of
from ..framework.diagnosis import Diagnosis
from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, PostFilterResult, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import BoolArray, IntArray, Rows
from ..state.nodeselector import compile_selector
from ..state.podinfo import PodInfo
from .claimwriter import ClaimWriter
from .deviceclaims import PodClaims, named_claims, preference, sorted_claims, variant_for
from .helpers import default_normalize

NOTHING_TO_DEALLOCATE = "no new claims to deallocate"
DEALLOCATED = "deallocation of ResourceClaim completed"
DELETED = "deletion of ResourceClaim completed"
CACHES = "waiting for the caches of devices and claims"
NOT_AVAILABLE = "resourceclaim not available on the node"
STILL = "still not schedulable"
CANNOT_ALLOCATE = "cannot allocate all claims"
STALE = "cannot schedule extended resource claim"
BINDING_SECONDS_MAX = 600.0
"""How long drivers may take to prepare devices (bindingTimeout)."""


class DynamicResources:
    name = "DynamicResources"
    looks_at_pods = False

    def __init__(self, handle: Handle, binding_seconds_max: float = BINDING_SECONDS_MAX) -> None:
        self._handle = handle
        self._cluster = handle.cluster
        self._devices = handle.devices
        self._writer = ClaimWriter(handle)
        self._binding_seconds_max = binding_seconds_max

    def events_to_register(self) -> list[HintedEvent]:
        changed = Action.ADD | Action.UPDATE
        nodes = Action.ADD | Action.UPDATE_NODE_LABEL | Action.UPDATE_NODE_TAINT
        return [
            HintedEvent(ClusterEvent(EventResource.RESOURCE_CLAIM, Action.ALL)),
            HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_GENERATED_RESOURCE_CLAIM)),
            HintedEvent(ClusterEvent(EventResource.NODE, nodes)),
            HintedEvent(ClusterEvent(EventResource.DEVICE_CLASS, changed)),
            HintedEvent(ClusterEvent(EventResource.RESOURCE_SLICE, changed)),
        ]

    # ---- which claims

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        """A pod whose claims do not exist yet is not tried."""
        named = bool(pod.pod["spec"].get("resourceClaims"))
        if not named and not asks_for_extended(pod):
            return None
        if not self._devices.ready:
            return unresolvable(CACHES)
        found = named_claims(pod, self._devices) if named else []
        return unresolvable(found) if isinstance(found, str) else None

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        if not pod.pod["spec"].get("resourceClaims") and not asks_for_extended(pod):
            return SKIP_STATUS
        claims = sorted_claims(pod, self._devices, self._handle.clock.now(), self._binding_seconds_max)
        if claims is None:
            return SKIP_STATUS
        if isinstance(claims, Status):
            return claims
        state.data[self.name] = claims
        return None

    # ---- filter

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        claims: PodClaims = state.data[self.name]
        asked = np.arange(self._cluster.nodes.size)[rows]
        if claims.useless or claims.stale is not None:
            why = unresolvable(NOT_AVAILABLE if claims.useless else STALE)
            return Verdict(np.zeros(len(asked), np.bool_), [why], np.zeros(len(asked), np.int64))
        usable = self._usable(claims)[rows]
        statuses = [unresolvable(NOT_AVAILABLE), unresolvable(CANNOT_ALLOCATE)]
        codes = np.where(usable, -1, 0)
        if claims.needs or claims.extended:
            worth_a_search = self._has_devices()[rows]
            for index in np.flatnonzero(usable).tolist():
                needs = self._needs_on(claims, pod, int(asked[index]))
                if needs and not worth_a_search[index]:
                    codes[index] = 1
                elif needs:
                    codes[index] = self._try(claims, needs, int(asked[index]), statuses)
        ok = codes < 0
        return None if ok.all() else Verdict(ok, statuses, np.maximum(codes, 0))

    def _try(self, claims: PodClaims, needs: list[ClaimNeeds], row: int, statuses: list[Status]) -> int:
        """-1 if the node has the devices, else the index of why not."""
        try:
            claims.found[row] = chosen = self._search(needs, row)
            return 1 if chosen is None else -1
        except AllocationError as failed:
            return _code_of(statuses, unresolvable(str(failed)))

    def _needs_on(self, claims: PodClaims, pod: PodInfo, row: int) -> list[ClaimNeeds]:
        """The claims to be served, with that for extended resources which the node does not have itself."""
        lacking = self._lacking(claims, row)
        return [*claims.needs, variant_for(claims, pod, lacking, self._devices)] if lacking else claims.needs

    def _lacking(self, claims: PodClaims, row: int) -> tuple[str, ...]:
        return tuple(name for name in claims.extended if not self._cluster.nodes.allocatable(name)[row])

    def _usable(self, claims: PodClaims) -> BoolArray:
        """Nodes where all allocated claims can be used."""
        mask = np.ones(self._cluster.nodes.size, np.bool_)
        claims.unavailable = []
        for claim in claims.allocated:
            selector = compile_selector((allocation_in(claim) or {}).get("nodeSelector"))
            if selector is not None:
                reachable = self._cluster.matcher.mask(selector)
                if not reachable[self._cluster.nodes.exists].all():
                    claims.unavailable.append(claim)
                mask &= reachable
        return mask

    def _has_devices(self) -> BoolArray:
        """Nodes that can use any device at all: the only ones worth a search."""
        nodes = self._cluster.nodes
        mask = np.zeros(nodes.size, np.bool_)
        for device in self._devices.pools.devices:
            if device.node:
                row = nodes.row_of.get(device.node)
                if row is not None:
                    mask[row] = True
            else:
                mask |= True if device.terms is None else self._cluster.matcher.mask(device.terms)
        return mask

    def _search(self, needs: list[ClaimNeeds], row: int) -> list[Chosen] | None:
        """The devices that the claims would get on a node. AllocationError if that cannot be told."""
        pools = self._devices.pools
        devices = [device for device in pools.devices if self._reaches(device, row)]
        if updating := next((one for one in pools.updating if self._reaches(one, row)), None):
            refuse_all(needs, updating.pool)
        room = Room(pools.devices, self._devices.in_use, pools.counters)
        return Search(devices, room, self._devices.matcher.at(pools.version)).allocate(needs)

    def _reaches(self, device: Device | Updating, row: int) -> bool:
        if device.node:
            return device.node == self._cluster.nodes.names[row]
        return device.terms is None or bool(self._cluster.matcher.mask(device.terms)[row])

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        """Take the devices of a claim that keeps the pod off nodes and that nobody uses: it may get others elsewhere."""
        claims: PodClaims | None = state.data.get(self.name)
        if claims is not None and claims.stale is not None:
            self._writer.discard(claims.stale)
            return PostFilterResult(status=unschedulable(DELETED))
        for claim in claims.unavailable if claims is not None else ():
            if all(user.get("uid") == pod.uid for user in reservations_of(claim)):
                self._writer.deallocate(claim)
                return PostFilterResult(status=unschedulable(DEALLOCATED))
        return PostFilterResult(status=unschedulable(NOTHING_TO_DEALLOCATE if claims is None else STILL))

    # ---- score

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        claims: PodClaims | None = state.data.get(self.name)
        return None if claims is not None and any(len(one) > 1 for needs in claims.needs for one in needs.requests) else SKIP_STATUS

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        """The sooner an alternative stands in its list, the better a node where it is to be had."""
        claims: PodClaims = state.data[self.name]
        asked = np.arange(self._cluster.nodes.size)[rows]
        return np.array([preference(claims.needs, claims.found.get(row)) for row in asked.tolist()], np.int64)

    def normalize_score(self, state: CycleState, pod: PodInfo, scores: IntArray) -> IntArray:
        return default_normalize(scores)

    # ---- reserve, bind

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Set the devices of the chosen node aside."""
        claims: PodClaims | None = state.data.get(self.name)
        if claims is None:
            return None
        row = self._cluster.nodes.row_of[node_name]
        needs = self._needs_on(claims, pod, row)
        try:
            chosen = self._search(needs, row) if needs else []
        except AllocationError as failed:
            return unresolvable(str(failed))
        if chosen is None:
            return unresolvable(CANNOT_ALLOCATE)
        if len(needs) > len(claims.needs):
            claims.mapped = claims.variants[self._lacking(claims, row)][1]
        now = format_time(self._handle.clock.now())
        claims.reserved_needs = needs
        for need, devices in zip(needs, chosen, strict=True):
            allocation = allocation_of(need, devices, self._devices.classes, node_name, now, self._handle.random)
            claims.allocations.append(allocation)
            self._devices.assume(_identity(need.claim, pod), allocation)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        claims: PodClaims | None = state.data.get(self.name)
        if claims is None:
            return
        for needs in claims.reserved_needs:
            self._devices.forget(_identity(needs.claim, pod))
        claims.allocations, claims.reserved_needs = [], []
        for claim in claims.reserved:
            if claims.created is None or claim is not claims.created:
                self._writer.unreserve(claim, pod)
        if claims.created is not None:
            self._writer.discard(claims.created)

    def pre_bind_pre_flight(self, state: CycleState, pod: PodInfo) -> bool:
        claims: PodClaims | None = state.data.get(self.name)
        return claims is not None and bool(claims.reserved_needs or claims.allocated)

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Tell the API server what was decided; wait for drivers that have to prepare devices."""
        claims: PodClaims = state.data[self.name]
        await self._writer.bind_all(claims, pod)
        if claims.created is not None:
            self._devices.forget(_identity({"metadata": {}}, pod))
            self._devices.set_claim(claims.created)
        return await self._writer.wait_prepared(claims, pod, node_name, self._binding_seconds_max)


def _identity(claim: Object, pod: PodInfo) -> Object:
    """The claim, or for one that the API server has yet to name something that stands for it."""
    return claim if "name" in claim["metadata"] else {"metadata": {"uid": f"extended-{pod.uid}"}}


def _code_of(statuses: list[Status], status: Status) -> int:
    """The index of a status, which is added if it is new."""
    if status not in statuses:
        statuses.append(status)
    return statuses.index(status)

"""DynamicResources: gives a pod's ResourceClaims devices on the node it goes to, and keeps it off nodes that have none.

Structured parameters only. Left out: extended resources that map to device classes, binding conditions, scoring of alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kubecosm.api import names
from kubecosm.api.meta import is_controlled_by
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..dra.allocator import AllocationError, Chosen, ClaimNeeds, Search, allocation_of, needs_of
from ..dra.devices import Device
from ..dra.state import allocation_in, reservations_of
from ..framework.diagnosis import Diagnosis
from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, PostFilterResult, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import BoolArray, Rows
from ..state.nodeselector import compile_selector
from ..state.podinfo import PodInfo

NOTHING_TO_DEALLOCATE = "no new claims to deallocate"
DEALLOCATED = "deallocation of ResourceClaim completed"
CACHES = "waiting for the caches of devices and claims"
NOT_AVAILABLE = "resourceclaim not available on the node"
CANNOT_ALLOCATE = "cannot allocate all claims"
IN_USE = "resourceclaim in use"
IN_PROCESS = "resource claim is in the process of being allocated"
CONSUMERS_MAX = 256


@dataclass
class _Claims:
    """What an attempt knows of the pod's claims."""

    allocated: list[Object] = field(default_factory=list)
    needs: list[ClaimNeeds] = field(default_factory=list)
    unavailable: list[Object] = field(default_factory=list)
    """Allocated ones that cannot be used on some node."""
    allocations: list[Object] = field(default_factory=list)
    """As reserved, one for each of `needs`."""
    reserved: list[Object] = field(default_factory=list)
    """Claims that the API server has been told to be the pod's."""


class DynamicResources:
    name = "DynamicResources"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._cluster = handle.cluster
        self._devices = handle.devices

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
        if not pod.pod["spec"].get("resourceClaims"):
            return None
        if not self._devices.ready:
            return unresolvable(CACHES)
        found = self._claims_of(pod)
        return unresolvable(found) if isinstance(found, str) else None

    def _claims_of(self, pod: PodInfo) -> list[Object] | str:
        """The pod's claims, or what stands against them (foreachPodResourceClaim)."""
        claims: list[Object] = []
        generated = {s["name"]: s.get("resourceClaimName") for s in (pod.pod.get("status") or {}).get("resourceClaimStatuses") or ()}
        for wanted in pod.pod["spec"].get("resourceClaims") or ():
            name, is_ours = wanted.get("resourceClaimName"), False
            if not name:
                if wanted["name"] not in generated:
                    return f'pod "{pod.key}": ResourceClaim not created yet'
                name, is_ours = generated[wanted["name"]], True
                if not name:
                    continue  # the controller saw that none is needed
            claim = self._devices.claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return f'resourceclaim "{name}" not found'
            if claim["metadata"].get("deletionTimestamp"):
                return f'resourceclaim "{name}" is being deleted'
            if is_ours and not is_controlled_by(claim, pod.pod):
                return f"ResourceClaim {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
            claims.append(claim)
        return claims

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        if not pod.pod["spec"].get("resourceClaims"):
            return SKIP_STATUS
        found = self._claims_of(pod)
        if isinstance(found, str):
            return unresolvable(found)
        claims = _Claims()
        for claim in found:
            why = self._sort_in(claims, claim, pod)
            if why is not None:
                return why
        if not found:
            return SKIP_STATUS
        state.data[self.name] = claims
        return None

    def _sort_in(self, claims: _Claims, claim: Object, pod: PodInfo) -> Status | None:
        if allocation_in(claim) is not None:
            reserved = reservations_of(claim)
            if len(reserved) >= CONSUMERS_MAX and all(user.get("uid") != pod.uid for user in reserved):
                return unschedulable(IN_USE)
            claims.allocated.append(claim)
        elif self._devices.is_assumed(claim):
            return unresolvable(IN_PROCESS)
        else:
            try:
                claims.needs.append(needs_of(claim, self._devices.classes))
            except KeyError as missing:
                return unresolvable(f"device class {missing.args[0]} does not exist")
        return None

    # ---- filter

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        claims: _Claims = state.data[self.name]
        asked = np.arange(self._cluster.nodes.size)[rows]
        usable = self._usable(claims)[rows]
        statuses = [unresolvable(NOT_AVAILABLE), unresolvable(CANNOT_ALLOCATE)]
        codes = np.where(usable, -1, 0)
        if claims.needs:
            worth_a_search = self._has_devices()[rows]
            for index in np.flatnonzero(usable & worth_a_search).tolist():
                try:
                    if self._search(claims, int(asked[index])) is None:
                        codes[index] = 1
                except AllocationError as failed:
                    codes[index] = _code_of(statuses, unresolvable(str(failed)))
            codes[usable & ~worth_a_search] = 1
        ok = codes < 0
        return None if ok.all() else Verdict(ok, statuses, np.maximum(codes, 0))

    def _usable(self, claims: _Claims) -> BoolArray:
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

    def _search(self, claims: _Claims, row: int) -> list[Chosen] | None:
        """The devices that the claims would get on a node."""
        devices = [device for device in self._devices.pools.devices if self._reaches(device, row)]
        matcher = self._devices.matcher.at(self._devices.pools.version)
        return Search(devices, self._devices.in_use, matcher).allocate(claims.needs)

    def _reaches(self, device: Device, row: int) -> bool:
        if device.node:
            return device.node == self._cluster.nodes.names[row]
        return device.terms is None or bool(self._cluster.matcher.mask(device.terms)[row])

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        """Take the devices of a claim that keeps the pod off nodes and that nobody uses: it may get others elsewhere."""
        claims: _Claims | None = state.data.get(self.name)
        for claim in claims.unavailable if claims is not None else ():
            if all(user.get("uid") == pod.uid for user in reservations_of(claim)):
                assert self._handle.runner is not None, "plugins run inside a scheduler"
                patch = {"metadata": _version(claim), "status": {"allocation": None, "reservedFor": None}}
                self._handle.runner.spawn("deallocate", self._patch(claim, patch, "status"))
                return PostFilterResult(status=unschedulable(DEALLOCATED))
        return PostFilterResult(status=unschedulable(NOTHING_TO_DEALLOCATE))

    async def _patch(self, claim: Object, patch: Object, subresource: str) -> None:
        meta = claim["metadata"]
        await self._handle.effects.patch_resource_claim(meta["namespace"], meta["name"], patch, subresource)

    # ---- reserve, bind

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Set the devices of the chosen node aside."""
        claims: _Claims | None = state.data.get(self.name)
        if claims is None or not claims.needs:
            return None
        try:
            chosen = self._search(claims, self._cluster.nodes.row_of[node_name])
        except AllocationError as failed:
            return unresolvable(str(failed))
        if chosen is None:
            return unresolvable(CANNOT_ALLOCATE)
        now = format_time(self._handle.clock.now())
        for needs, devices in zip(claims.needs, chosen, strict=True):
            allocation = allocation_of(needs, devices, self._devices.classes, now)
            claims.allocations.append(allocation)
            self._devices.assume(needs.claim, allocation)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        claims: _Claims | None = state.data.get(self.name)
        if claims is None:
            return
        for needs in claims.needs:
            self._devices.forget(needs.claim)
        claims.allocations = []
        for claim in claims.reserved:
            assert self._handle.runner is not None, "plugins run inside a scheduler"
            others = [user for user in reservations_of(claim) if user.get("uid") != pod.uid]
            patch = {"metadata": _version(claim), "status": {"reservedFor": others or None}}
            self._handle.runner.spawn("unreserve-claim", self._patch(claim, patch, "status"))

    def pre_bind_pre_flight(self, state: CycleState, pod: PodInfo) -> bool:
        return self.name in state.data

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Tell the API server whose the claims and which their devices are (bindClaim)."""
        claims: _Claims = state.data[self.name]
        for needs, allocation in zip(claims.needs, claims.allocations, strict=True):
            claims.reserved.append(await self._bind_claim(needs.claim, pod, allocation))
        for claim in claims.allocated:
            if all(user.get("uid") != pod.uid for user in reservations_of(claim)):
                claims.reserved.append(await self._bind_claim(claim, pod, None))
        return None

    async def _bind_claim(self, claim: Object, pod: PodInfo, allocation: Object | None) -> Object:
        """The claim afterwards. A version that is not the newest is refused, and the pod is tried again."""
        effects, meta = self._handle.effects, claim["metadata"]
        if allocation is not None and names.FINALIZER_RESOURCE_CLAIM not in (meta.get("finalizers") or ()):
            finalizers = [*(meta.get("finalizers") or ()), names.FINALIZER_RESOURCE_CLAIM]
            patch: Any = {"metadata": {**_version(claim), "finalizers": finalizers}}
            claim = await effects.patch_resource_claim(meta["namespace"], meta["name"], patch, "")
        user = {"resource": "pods", "name": pod.name, "uid": pod.uid}
        status: Object = {"reservedFor": [*reservations_of(claim), user]}
        if allocation is not None:
            status["allocation"] = allocation
        patch = {"metadata": _version(claim), "status": status}
        return await effects.patch_resource_claim(meta["namespace"], meta["name"], patch, "status")


def _code_of(statuses: list[Status], status: Status) -> int:
    """The index of a status, which is added if it is new."""
    if status not in statuses:
        statuses.append(status)
    return statuses.index(status)


def _version(claim: Object) -> Object:
    meta = claim["metadata"]
    return {"resourceVersion": meta.get("resourceVersion", ""), "uid": meta.get("uid", "")}

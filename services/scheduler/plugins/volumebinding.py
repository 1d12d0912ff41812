"""VolumeBinding: keeps pods on nodes that reach their volumes, and has volumes bound or made for the node that is chosen.

A claim of a WaitForFirstConsumer class gets a matching volume that exists, or the annotation that tells a provisioner the node; PreBind
waits until all claims are bound. Where a CSI driver publishes its capacity, nodes without room for a new volume are refused. Left out: the
alpha scoring by free capacity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kubecosm.api import names
from kubecosm.api.meta import is_controlled_by
from kubecosm.api.resources import Object

from ..deadline import within
from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, error, unresolvable
from ..state.columns import BoolArray, Rows
from ..state.csi import key_of
from ..state.nodeselector import compile_selector
from ..state.podinfo import PodInfo
from ..state.volumes import PodClaims, class_of, node_affinity_of, request_of, selected_node_of
from .volumehints import capacity_grew, class_changed, csi_node_migrated, driver_tells_no_capacity, own_claim
from .volumewaiting import BoundVolumes

REASON_BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
REASON_NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
REASON_VOLUME_MISSING = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
REASON_UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
REASON_NO_ROOM = "node(s) did not have enough free storage"
REASONS = (REASON_BIND_CONFLICT, REASON_NODE_CONFLICT, REASON_NO_ROOM, REASON_VOLUME_MISSING)
STATUSES = tuple(
    unresolvable(*(reason for bit, reason in enumerate(REASONS) if combination >> bit & 1)) for combination in range(1 << len(REASONS))
)
"""By combination of reasons: bit i stands for REASONS[i]."""

BIND_TIMEOUT_SECONDS = 600
"""How long PreBind waits for volumes (bindTimeoutSeconds)."""


class VolumeBinding:
    name = "VolumeBinding"
    looks_at_pods = False

    def __init__(self, handle: Handle, bind_timeout_seconds: float = BIND_TIMEOUT_SECONDS) -> None:
        self._cluster = handle.cluster
        self._volumes = handle.volumes
        self._effects = handle.effects
        self._clock = handle.clock
        self._timeout = bind_timeout_seconds

    def events_to_register(self) -> list[HintedEvent]:
        changed = Action.ADD | Action.UPDATE
        return [
            HintedEvent(ClusterEvent(EventResource.STORAGE_CLASS, changed), class_changed),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME_CLAIM, changed), own_claim),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME, changed)),
            HintedEvent(ClusterEvent(EventResource.CSI_NODE, changed), csi_node_migrated),
            HintedEvent(ClusterEvent(EventResource.CSI_DRIVER, Action.UPDATE), driver_tells_no_capacity),
            HintedEvent(ClusterEvent(EventResource.CSI_STORAGE_CAPACITY, changed), capacity_grew),
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_LABEL)),
        ]

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        if not pod.claims:
            return SKIP_STATUS
        found = []
        for name in pod.claims:
            claim = self._volumes.claims.get(f"{pod.namespace}/{name}")
            why = _refusal(pod, name, claim)
            if why is not None:
                return unresolvable(why)
            found.append(claim)
        claims = self._volumes.sort_claims([claim for claim in found if claim is not None])
        if claims.immediate:
            return unresolvable(REASON_UNBOUND)
        state.data[self.name] = claims
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        claims: PodClaims = state.data[self.name]
        size = self._cluster.nodes.size
        reachable = np.ones(size, np.bool_)
        missing = False
        for claim in claims.bound:
            volume = self._volumes.volumes.get(claim["spec"]["volumeName"])
            missing = missing or volume is None
            affinity = node_affinity_of(volume) if volume is not None else None
            if affinity is not None:
                reachable &= self._cluster.matcher.mask(affinity)
        bindable, has_room = self._can_bind_all(claims.waiting)
        codes = ~bindable * 1 + ~reachable * 2 + ~has_room * 4 + missing * 8
        chosen = codes[rows]
        return Verdict(chosen == 0, STATUSES, chosen) if chosen.any() else None

    def _can_bind_all(self, waiting: Sequence[Object]) -> tuple[BoolArray, BoolArray]:
        """Nodes where each claim has a volume of its own or can get one, and nodes where there is room for the new ones."""
        size = self._cluster.nodes.size
        bindable, has_room = np.ones(size, np.bool_), np.ones(size, np.bool_)
        taken: dict[str, BoolArray] = {}
        for claim in sorted(waiting, key=request_of):
            selected = selected_node_of(claim)
            if selected:
                bindable &= self._only(selected)
                continue
            left = ~self._take_volumes(claim, taken)
            if not left.any():
                continue
            if not self._volumes.can_provision(claim):
                bindable &= ~left
                continue
            bindable &= ~left | self._allowed_topologies(claim)
            has_room &= ~left | self._has_room(claim)
        return bindable, has_room

    def _only(self, node: str) -> BoolArray:
        mask = np.zeros(self._cluster.nodes.size, np.bool_)
        row = self._cluster.nodes.row_of.get(node)
        if row is not None:
            mask[row] = True
        return mask

    def _take_volumes(self, claim: Object, taken: dict[str, BoolArray]) -> BoolArray:
        """Nodes where an existing volume serves the claim, the best one of each node being taken for it."""
        served = np.zeros(self._cluster.nodes.size, np.bool_)
        for volume, affinity in self._volumes.candidates(claim):
            usable = ~served if affinity is None else ~served & self._cluster.matcher.mask(affinity)
            name = volume["metadata"]["name"]
            before = taken.get(name)
            if before is not None:
                usable = usable & ~before
            taken[name] = usable if before is None else before | usable
            served = served | usable
        return served

    def _has_room(self, claim: Object) -> BoolArray:
        """Nodes that reach a part of the storage system with room for the claim; all if the driver does not tell."""
        rooms = self._volumes.room(claim)
        if rooms is None:
            return np.ones(self._cluster.nodes.size, np.bool_)
        mask = np.zeros(self._cluster.nodes.size, np.bool_)
        for terms in rooms:
            mask |= self._cluster.matcher.mask(terms)
        return mask

    def _allowed_topologies(self, claim: Object) -> BoolArray:
        """Nodes in the allowedTopologies of the claim's class."""
        topologies = self._volumes.classes[class_of(claim)].get("allowedTopologies")
        if not topologies:
            return self._cluster.nodes.exists
        terms = [
            {"matchExpressions": [{**e, "operator": "In"} for e in t.get("matchLabelExpressions") or ()]} for t in topologies
        ]
        selector = compile_selector({"nodeSelectorTerms": terms})
        return self._cluster.nodes.exists if selector is None else self._cluster.matcher.mask(selector)

    # ---- reserve, bind

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Set aside an existing volume for each waiting claim where there is one; the rest is to be provisioned."""
        claims: PodClaims | None = state.data.get(self.name)
        if claims is None or not claims.waiting:
            return None
        row = self._cluster.nodes.row_of[node_name]
        static: dict[str, str] = {}
        state.data[self.name + "/static"] = static
        for claim in sorted(claims.waiting, key=request_of):
            volume = None if selected_node_of(claim) else self._static_volume(claim, row)
            if volume is not None:
                static[key_of(claim)] = volume
                self._volumes.assume(volume, key_of(claim))
            elif not self._volumes.can_provision(claim):
                return unresolvable(REASON_BIND_CONFLICT)
        return None

    def _static_volume(self, claim: Object, row: int) -> str | None:
        for volume, affinity in self._volumes.candidates(claim):
            if affinity is None or self._cluster.matcher.mask(affinity)[row]:
                name: str = volume["metadata"]["name"]
                return name
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        for volume in state.data.get(self.name + "/static", {}).values():
            self._volumes.forget(volume)

    def pre_bind_pre_flight(self, state: CycleState, pod: PodInfo) -> bool:
        claims: PodClaims | None = state.data.get(self.name)
        return claims is not None and bool(claims.waiting)

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        claims: PodClaims = state.data[self.name]
        static: dict[str, str] = state.data.get(self.name + "/static", {})
        for claim in claims.waiting:
            key = key_of(claim)
            if key in static:
                await self._effects.patch_volume(static[key], _binding(self._volumes.volumes.get(static[key]), claim))
            elif selected_node_of(claim) != node_name:
                chosen = {names.ANNOTATION_SELECTED_NODE: node_name}
                await self._effects.patch_claim(pod.namespace, claim["metadata"]["name"], {"metadata": {"annotations": chosen}})
        bound, failures = BoundVolumes(self._volumes, self._cluster, node_name), list[str]()

        async def wait_bound() -> None:
            for key in map(key_of, claims.waiting):
                failures.append(await (bound.static(key, static[key]) if key in static else bound.provisioned(key)))

        if not await within(self._clock, self._timeout, wait_bound()):
            return error("binding volumes: context deadline exceeded")
        why = next(filter(None, failures), "")
        return error(f"binding volumes: {why}") if why else None


def _refusal(pod: PodInfo, name: str, claim: Object | None) -> str | None:
    """Why a pod with this claim cannot be scheduled anywhere; None if it can."""
    owner = pod.pod if any(v.get("ephemeral") is not None and name == f"{pod.name}-{v['name']}" for v in _volumes(pod)) else None
    if claim is None:
        if owner is not None:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if (claim.get("status") or {}).get("phase") == "Lost":
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim["spec"].get("volumeName", "")}"'
    if claim["metadata"].get("deletionTimestamp") is not None:
        return f'persistentvolumeclaim "{name}" is being deleted'
    if owner is not None and not is_controlled_by(claim, owner):
        return f"PVC {pod.namespace}/{name} was not created for pod {pod.namespace}/{pod.name} (pod is not owner)"
    return None


def _volumes(pod: PodInfo) -> list[Object]:
    volumes: list[Object] = pod.pod["spec"].get("volumes") or []
    return volumes


def _binding(volume: Object | None, claim: Object) -> Object:
    """The patch that reserves a volume for a claim, if it is still as it was seen (GetBindVolumeToClaim)."""
    meta: Object = {}
    if volume is not None:
        if version := volume["metadata"].get("resourceVersion"):
            meta["resourceVersion"] = version
        if not volume["spec"].get("claimRef"):
            meta["annotations"] = {names.ANNOTATION_BOUND_BY_CONTROLLER: "yes"}
    return {"metadata": meta, "spec": {"claimRef": _claim_ref(claim)}}


def _claim_ref(claim: Object) -> Object:
    meta = claim["metadata"]
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.get("namespace", ""), "name": meta["name"],
        "uid": meta.get("uid", ""), "resourceVersion": meta.get("resourceVersion", ""),
    }  # fmt: skip

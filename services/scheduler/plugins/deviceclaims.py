"""What an attempt knows of a pod's ResourceClaims, and whether they can be scheduled with at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.meta import is_controlled_by
from kubecosm.api.resources import Object

from ..dra.allocator import Chosen, ClaimNeeds, needs_of
from ..dra.binding import failure_of, is_overdue, is_prepared, needs_preparing
from ..dra.extended import ExtendedClaim, claim_object, extended_claim, is_extended_claim_of, may_be_extended
from ..dra.state import DeviceState, allocation_in, reservations_of
from ..framework.status import Status, unresolvable
from ..state.podinfo import PodInfo

CONSUMERS_MAX = 256
ALTERNATIVES_MAX = 8
"""FirstAvailableDeviceRequestMaxSize"""
IN_USE = "resourceclaim in use"
IN_PROCESS = "resource claim is in the process of being allocated"


@dataclass
class PodClaims:
    """The claims of one pod in one attempt."""

    allocated: list[Object] = field(default_factory=list)
    needs: list[ClaimNeeds] = field(default_factory=list)
    unavailable: list[Object] = field(default_factory=list)
    """Allocated ones that cannot be used on some node."""
    useless: bool = False
    """One of `unavailable` cannot be used anywhere: its devices could not be prepared."""
    extended: tuple[str, ...] = ()
    """Extended resources of the pod that device classes stand for."""
    stale: Object | None = None
    """A claim that an earlier attempt made for them."""
    variants: dict[tuple[str, ...], tuple[ClaimNeeds, ExtendedClaim]] = field(default_factory=dict)
    """By which of `extended` a node does not have itself: what the pod's claim would be there."""
    found: dict[int, list[Chosen] | None] = field(default_factory=dict)
    """By row, the devices that each of `needs` (and a variant) would get."""
    reserved_needs: list[ClaimNeeds] = field(default_factory=list)
    """What has been reserved: `needs`, and perhaps the claim for extended resources as the last."""
    allocations: list[Object] = field(default_factory=list)
    """One for each of `reserved_needs`."""
    mapped: ExtendedClaim | None = None
    """Of the reserved claim for extended resources."""
    created: Object | None = None
    """That claim as the API server has it."""
    reserved: list[Object] = field(default_factory=list)
    """Claims that the API server has been told to be the pod's."""


def named_claims(pod: PodInfo, devices: DeviceState) -> list[Object] | str:
    """The claims that the pod names, or what stands against them (foreachPodResourceClaim)."""
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
        claim = devices.claims.get(f"{pod.namespace}/{name}")
        if claim is None:
            return f'resourceclaim "{name}" not found'
        if claim["metadata"].get("deletionTimestamp"):
            return f'resourceclaim "{name}" is being deleted'
        if is_ours and not is_controlled_by(claim, pod.pod):
            return f"ResourceClaim {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
        claims.append(claim)
    return claims


def sorted_claims(pod: PodInfo, devices: DeviceState, now: datetime, preparing_seconds_max: float) -> PodClaims | Status | None:
    """The claims by what is to be done about them; a Status if they keep the pod off every node, None if there are none."""
    found = named_claims(pod, devices)
    if isinstance(found, str):
        return unresolvable(found)
    claims = PodClaims(extended=extended_resources(pod, devices))
    for claim in found:
        why = _sort_in(claims, claim, pod, devices)
        if why is not None:
            return why
        allocation = allocation_in(claim)
        if needs_preparing(allocation) and not is_prepared(claim) and (failure_of(claim) or is_overdue(claim, now, preparing_seconds_max)):
            claims.unavailable.append(claim)
            claims.useless = True
    if claims.extended:
        claims.stale = next((one for one in devices.claims.values() if is_extended_claim_of(one, pod)), None)
    return claims if found or claims.extended else None


def _sort_in(claims: PodClaims, claim: Object, pod: PodInfo, devices: DeviceState) -> Status | None:
    if allocation_in(claim) is not None:
        reserved = reservations_of(claim)
        if len(reserved) >= CONSUMERS_MAX and all(user.get("uid") != pod.uid for user in reserved):
            return unresolvable(IN_USE)
        claims.allocated.append(claim)
    elif devices.is_assumed(claim):
        return unresolvable(IN_PROCESS)
    else:
        try:
            claims.needs.append(needs_of(claim, devices.classes))
        except KeyError as missing:
            return unresolvable(f"device class {missing.args[0]} does not exist")
    return None


def extended_resources(pod: PodInfo, devices: DeviceState) -> tuple[str, ...]:
    """The extended resources that the pod asks for and a device class stands for."""
    return tuple(name for name, value in pod.requests.items() if value and may_be_extended(name) and name in devices.class_of)


def preference(needs: Sequence[ClaimNeeds], chosen: Sequence[Chosen] | None) -> int:
    """How early in their lists the alternatives stand that were chosen (computeScore)."""
    score = 0
    for need, devices in zip(needs, chosen or (), strict=False):
        served = {request.name for request, _ in devices}
        for alternatives in need.requests:
            if len(alternatives) > 1 or "/" in alternatives[0].name:
                score += sum(ALTERNATIVES_MAX - index for index, one in enumerate(alternatives) if one.name in served)
    return score


def variant_for(claims: PodClaims, pod: PodInfo, lacking: tuple[str, ...], devices: DeviceState) -> ClaimNeeds:
    """What the pod's claim for extended resources would ask for on nodes that lack these."""
    if lacking not in claims.variants:
        mapped = extended_claim(pod.pod, lacking, devices.class_of)
        claims.variants[lacking] = needs_of(claim_object(pod, mapped.requests), devices.classes), mapped
    return claims.variants[lacking][0]

"""Which zone each endpoint of a Service is meant for, in proportion to the CPUs of the zones (topology-mode: Auto). Pure functions.

Imitates k8s.io/endpointslice/topologycache: every zone shall have as large a share of the endpoints as it has of the CPUs, and no endpoint
more than a fifth above its fair load; where that cannot be had, no endpoint gets a hint. Slices that need no change keep the hints they
have as long as those leave the others enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_TOPOLOGY_HINTS, ANNOTATION_TOPOLOGY_MODE
from kubecosm.api.resources import Object

OVERLOAD_THRESHOLD = 0.2
"""How much above its fair share of the load an endpoint may be."""
LEAST_SHARE = 1 / (1 + OVERLOAD_THRESHOLD)
"""What a zone needs of the endpoints it should have."""
REASON_ENABLED, REASON_DISABLED = "TopologyAwareHintsEnabled", "TopologyAwareHintsDisabled"
NO_ZONE_SPECIFIED = "One or more endpoints do not have a zone specified"
NO_ALLOCATED_HINTS = "No hints allocated for zones"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"
INSUFFICIENT_NODE_INFO = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
INSUFFICIENT_ENDPOINTS = "Insufficient number of endpoints"
OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"

Ratios = Mapping[str, float]
"""Zone → its share of the CPUs of all ready nodes."""


class Notice(NamedTuple):
    """An event about the Service."""

    type: str
    reason: str
    message: str


class Share(NamedTuple):
    """How many endpoints a zone needs, may have, and should have."""

    minimum: int
    maximum: int
    desired: float


@dataclass
class Draft:
    """The slices of one address family: to be created, to be written over, and to be left alone."""

    create: list[Object]
    update: list[Object]
    unchanged: list[Object]

    @property
    def written(self) -> list[Object]:
        return [*self.create, *self.update]


def wants_hints(service: Object) -> bool:
    """Whether an annotation asks for hints in proportion; the older of the two counts if there is one."""
    annotations = annotations_of(service)
    mode = annotations.get(ANNOTATION_TOPOLOGY_HINTS, annotations.get(ANNOTATION_TOPOLOGY_MODE))
    return mode in ("Auto", "auto")


def disabled(message: str, family: str) -> Notice:
    return Notice("Warning", REASON_DISABLED, f"{message}, addressType: {family}")


def enabled(family: str) -> Notice:
    return Notice("Normal", REASON_ENABLED, f"{ENABLED}, addressType: {family}")


def is_ready(endpoint: Object) -> bool:
    return bool(endpoint["conditions"].get("ready"))


def plan_shares(ratios: Ratios | None, endpoints: int) -> dict[str, Share] | str:
    """What each zone gets of so many ready endpoints, or why that cannot be told."""
    if not ratios:
        return INSUFFICIENT_NODE_INFO
    sizes = f"({endpoints} endpoints, {len(ratios)} zones)"
    if len(ratios) > endpoints:
        return f"{INSUFFICIENT_ENDPOINTS} {sizes}"
    desired = {zone: ratio * endpoints for zone, ratio in ratios.items()}
    minimum = {zone: math.ceil(wish * LEAST_SHARE) for zone, wish in desired.items()}
    spare = endpoints - sum(minimum.values())
    if spare < 0:
        return f"{OVERLOADED} {sizes}"
    return {zone: Share(least, least + spare, max(desired[zone], least)) for zone, least in minimum.items()}


def plan_hints(ratios: Ratios | None, draft: Draft) -> tuple[Draft, dict[str, int] | str]:
    """The slices with hints, and how many endpoints each zone has now; or without any hints, and why."""
    shares = plan_shares(ratios, sum(is_ready(e) for s in (*draft.written, *draft.unchanged) for e in s["endpoints"]))
    if isinstance(shares, str):
        return plan_no_hints(draft), shares
    draft, counts = _keep_fitting(draft, shares)
    ready = [endpoint for one in draft.written for endpoint in one["endpoints"] if is_ready(endpoint)]
    if not all(endpoint.get("zone") for endpoint in ready):
        return plan_no_hints(draft), NO_ZONE_SPECIFIED
    for endpoint in ready:
        _give(endpoint, endpoint["zone"])
        counts[endpoint["zone"]] = counts.get(endpoint["zone"], 0) + 1
    givers, takers = plan_moves(shares, counts)
    for endpoint in ready:
        if not takers:
            break
        zone = endpoint["zone"]
        if givers.get(zone, 0) > 0:
            taker = next(iter(takers))
            _give(endpoint, taker)
            _count_down(givers, zone)
            _count_down(takers, taker)
            counts[taker] = counts.get(taker, 0) + 1
            counts[zone] -= 1
    return (draft, counts) if counts else (plan_no_hints(draft), NO_ALLOCATED_HINTS)


def plan_no_hints(draft: Draft) -> Draft:
    """The slices without hints; those that had some are to be written over."""
    hinted = [one for one in draft.unchanged if any("hints" in endpoint for endpoint in one["endpoints"] or ())]
    bare = Draft(list(map(_own, draft.create)), list(map(_own, [*draft.update, *hinted])), [s for s in draft.unchanged if s not in hinted])
    for one in bare.written:
        for endpoint in one["endpoints"]:
            endpoint.pop("hints", None)
    return bare


def plan_moves(shares: Mapping[str, Share], counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone gives to others, and how many each takes (getGivingAndReceivingZones)."""
    surplus = {zone: counts.get(zone, 0) - share.desired for zone, share in sorted(shares.items())}
    to_give = {zone: more for zone, more in surplus.items() if more > 0}
    to_take = {zone: -less for zone, less in surplus.items() if less < 0}
    givers: dict[str, int] = {}
    takers: dict[str, int] = {}
    while to_give and to_take:
        giver, taker = max(to_give, key=to_give.__getitem__), max(to_take, key=to_take.__getitem__)
        most, least = max(to_give[giver], to_take[taker]), min(to_give[giver], to_take[taker])
        if most < 1.0 or least < 0.5:
            break
        givers[giver] = givers.get(giver, 0) + 1
        takers[taker] = takers.get(taker, 0) + 1
        to_give[giver] -= 1
        to_take[taker] -= 1
    return givers, takers


def is_overloaded(counts: Mapping[str, int], ratios: Ratios | None) -> bool:
    """Whether some zone has fewer endpoints than it needs by now, as nodes came or went."""
    if not counts:
        return False
    if not ratios:
        return True
    total = sum(counts.values())
    return any(counts.get(zone, -1) < math.ceil(total * ratio * LEAST_SHARE) for zone, ratio in ratios.items())


def carried_hints(slices: Iterable[Object]) -> dict[str, Object]:
    """Address → the hints that its endpoint has, so that hints alone are no difference while slices are packed."""
    return {e["addresses"][0]: e["hints"] for one in slices for e in one.get("endpoints") or () if e.get("hints") and e.get("addresses")}


def _keep_fitting(draft: Draft, shares: Mapping[str, Share]) -> tuple[Draft, dict[str, int]]:
    """Slices whose hints still fit stay unchanged, and their hints are counted; the others are to be written over."""
    counts: dict[str, int] = {}
    unchanged, misfits = [], []
    for one in draft.unchanged:
        found = _hints_in(one["endpoints"] or (), counts, shares)
        if found is None:
            misfits.append(one)
            continue
        unchanged.append(one)
        for zone, count in found.items():
            counts[zone] = counts.get(zone, 0) + count
    return Draft(list(map(_own, draft.create)), list(map(_own, [*draft.update, *misfits])), unchanged), counts


def _hints_in(endpoints: Sequence[Object], counts: Mapping[str, int], shares: Mapping[str, Share]) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for endpoint in endpoints:
        if not is_ready(endpoint):
            continue
        zones = [zone["name"] for zone in (endpoint.get("hints") or {}).get("forZones") or ()]
        if not zones or any(zone not in shares for zone in zones):
            return None
        for zone in zones:
            found[zone] = found.get(zone, 0) + 1
    return found if all(count + counts.get(zone, 0) <= shares[zone].maximum for zone, count in found.items()) else None


def _own(one: Object) -> Object:
    """A slice whose endpoints may be changed."""
    return {**one, "endpoints": [dict(endpoint) for endpoint in one["endpoints"] or ()]}


def _give(endpoint: Object, zone: str) -> None:
    endpoint["hints"] = {"forZones": [{"name": zone}]}


def _count_down(counts: dict[str, int], zone: str) -> None:
    counts[zone] -= 1
    if not counts[zone]:
        del counts[zone]

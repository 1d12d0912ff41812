"""Packing endpoints into EndpointSlices with few writes. Pure functions, shared by the EndpointSlice and the mirroring controllers.

Imitates k8s.io/endpointslice/reconciler.go: a slice holds at most so many endpoints, all of one address family with the same ports; what
can stay stays, changed endpoints are replaced in their slice, new ones fill changed slices first, and an emptied slice becomes the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.meta import annotations_of, labels_of
from kubecosm.api.names import ANNOTATION_LAST_CHANGE_TRIGGER_TIME
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from .templates import generate_name


@dataclass(frozen=True)
class Wanted:
    """Endpoints of one address family that share their ports."""

    address_type: str
    ports: list[Object]
    endpoints: list[Object]

    @property
    def identity(self) -> str:
        return slice_identity(self.address_type, self.ports)


@dataclass(frozen=True)
class SliceFrame:
    """What all slices of one owner have in common."""

    owner_name: str
    namespace: str
    owner_reference: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    endpoints_max: int


@dataclass
class SlicePlan:
    """Bodies to create and to write over, slices to delete."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.create or self.update or self.delete)


def slice_identity(address_type: str, ports: Sequence[Object] | None) -> str:
    """Equal for slices that may hold the same endpoints."""
    return f"{address_type} {json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports or ()))}"


def _endpoint_identity(endpoint: Object) -> tuple[str, str]:
    """The same backend, whatever its conditions."""
    return (endpoint.get("targetRef") or {}).get("uid", ""), (endpoint.get("addresses") or [""])[0]


@dataclass
class _Draft:
    """A slice that exists (or is new), and the endpoints it shall have."""

    current: Object | None
    endpoints: list[Object]
    is_changed: bool
    is_placeholder: bool = False
    """It stays though it is empty: somebody shall see that there are no endpoints."""


def plan_slices(frame: SliceFrame, wanted: Sequence[Wanted], existing: Sequence[Object], trigger: datetime | None) -> SlicePlan:
    """How the existing slices become the wanted ones. `trigger`: when the newest change happened, for the trigger-time annotation."""
    plan = SlicePlan()
    by_identity: dict[str, list[Object]] = {}
    for current in existing:
        by_identity.setdefault(slice_identity(current["addressType"], current.get("ports")), []).append(current)
    spare: list[Object] = []
    for group in wanted:
        drafts = _pack(group.endpoints, by_identity.pop(group.identity, []), frame.endpoints_max)
        for draft in drafts:
            _settle(plan, spare, frame, group, draft, trigger)
    for leftovers in by_identity.values():
        spare += leftovers
    _reuse(plan, spare)
    return plan


def _pack(endpoints: Sequence[Object], existing: Sequence[Object], endpoints_max: int) -> list[_Draft]:
    missing = {_endpoint_identity(endpoint): endpoint for endpoint in endpoints}
    drafts = []
    for current in sorted(existing, key=lambda s: s["metadata"].get("name", "")):
        kept, is_changed = [], False
        for endpoint in current.get("endpoints") or ():
            wanted = missing.pop(_endpoint_identity(endpoint), None)
            is_changed |= wanted != endpoint
            if wanted is not None:
                kept.append(wanted)
        drafts.append(_Draft(current, kept, is_changed))
    if not endpoints:
        placeholder = drafts[0] if drafts else _Draft(None, [], True)
        placeholder.is_placeholder = True
        return drafts or [placeholder]
    return _place(drafts, list(missing.values()), endpoints_max)


def _place(drafts: list[_Draft], new: list[Object], endpoints_max: int) -> list[_Draft]:
    """New endpoints go to slices that are written anyway, the fullest first; the rest to one that holds them all, or to new slices."""
    for draft in sorted((draft for draft in drafts if draft.is_changed), key=lambda draft: -len(draft.endpoints)):
        room = max(endpoints_max - len(draft.endpoints), 0)
        draft.endpoints += new[:room]
        new = new[room:]
    while new:
        fitting = [draft for draft in drafts if not draft.is_changed and len(draft.endpoints) + len(new) <= endpoints_max]
        draft = max(fitting, key=lambda draft: len(draft.endpoints), default=None) or _Draft(None, [], True)
        if draft.current is None:
            drafts.append(draft)
        room = endpoints_max - len(draft.endpoints)
        draft.endpoints += new[:room]
        draft.is_changed = True
        new = new[room:]
    return drafts


def _settle(plan: SlicePlan, spare: list[Object], frame: SliceFrame, group: Wanted, draft: _Draft, trigger: datetime | None) -> None:
    """Put one draft where it belongs: a creation, an update, nothing, or among the slices no longer needed."""
    current = draft.current
    if current is None:
        plan.create.append(_body(frame, group, draft.endpoints, trigger))
    elif not draft.endpoints and not draft.is_placeholder:
        spare.append(current)
    elif draft.is_changed or _frame_differs(frame, current):
        annotations = _annotations(frame, trigger)
        meta = {**current["metadata"], "labels": dict(frame.labels), "annotations": annotations}
        plan.update.append({**current, "metadata": meta, "endpoints": draft.endpoints})


def _reuse(plan: SlicePlan, spare: list[Object]) -> None:
    """A slice no longer needed becomes one to be created where the address family allows it."""
    for body in list(plan.create):
        current = next((s for s in spare if s["addressType"] == body["addressType"]), None)
        if current is None:
            continue
        spare.remove(current)
        plan.create.remove(body)
        meta = {**current["metadata"], "labels": body["metadata"]["labels"], "annotations": body["metadata"].get("annotations", {})}
        plan.update.append({**current, "metadata": meta, "endpoints": body["endpoints"], "ports": body["ports"]})
    plan.delete += spare


def _annotations(frame: SliceFrame, trigger: datetime | None) -> dict[str, str]:
    """With the time of the change that is written; without it if that is not known."""
    annotations = dict(frame.annotations)
    if trigger is not None:
        annotations[ANNOTATION_LAST_CHANGE_TRIGGER_TIME] = format_time(trigger)
    return annotations


def _frame_differs(frame: SliceFrame, current: Object) -> bool:
    annotations = {k: v for k, v in annotations_of(current).items() if k != ANNOTATION_LAST_CHANGE_TRIGGER_TIME}
    return dict(frame.labels) != labels_of(current) or dict(frame.annotations) != annotations


def _body(frame: SliceFrame, group: Wanted, endpoints: list[Object], trigger: datetime | None) -> Object:
    meta: Object = {
        "generateName": generate_name(frame.owner_name),
        "namespace": frame.namespace,
        "labels": dict(frame.labels),
        "ownerReferences": [frame.owner_reference],
    }
    if annotations := _annotations(frame, trigger):
        meta["annotations"] = annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": group.address_type,
        "endpoints": endpoints,
        "ports": group.ports,
    }

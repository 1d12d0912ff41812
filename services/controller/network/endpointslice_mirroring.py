"""EndpointSlice mirroring controller: gives Endpoints that users write for Services without a selector their EndpointSlices.

Owns EndpointSlices (through the Endpoints they mirror). Watches Endpoints, Services and EndpointSlices. Writes EndpointSlices. Imitates
pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import Key, annotations_of, controller_ref, is_deleting, key_of, labels_of
from kubecosm.api.names import (
    ANNOTATION_LAST_APPLIED,
    ANNOTATION_LAST_CHANGE_TRIGGER_TIME,
    ANNOTATION_LEADER_ELECTION,
    LABEL_ENDPOINTSLICE_MANAGED_BY,
    LABEL_ENDPOINTSLICE_SKIP_MIRROR,
    LABEL_SERVICE_NAME,
    MANAGED_BY_MIRRORING_CONTROLLER,
)
from kubecosm.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.services import INDEX_LABEL, label_pairs
from ..common.slice_writes import write_slices
from ..common.slices import SliceFrame, SlicePlan, Wanted, plan_slices
from ..common.templates import is_namespace_terminating

ENDPOINTS_PER_SLICE_MAX = 1000
"""--mirroring-max-endpoints-per-subset."""
TOO_MANY = "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped"
ANNOTATIONS_NOT_COPIED = frozenset({ANNOTATION_LAST_APPLIED, ANNOTATION_LAST_CHANGE_TRIGGER_TIME})


def should_mirror(endpoints: Object | None, service: Object | None) -> bool:
    """Endpoints with a Service that selects nothing, unless they say no or belong to an old leader election."""
    if endpoints is None or service is None or is_deleting(endpoints) or service["spec"].get("selector"):
        return False
    skipped = labels_of(endpoints).get(LABEL_ENDPOINTSLICE_SKIP_MIRROR) == "true"
    return not skipped and ANNOTATION_LEADER_ELECTION not in annotations_of(endpoints)


def _endpoint(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "targetRef", "nodeName"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


def _repacked(subsets: Iterable[Object]) -> list[tuple[list[Object], list[Object]]]:
    """Ports and endpoints, as RepackSubsets makes them: addresses with the same ports together, and not ready wins."""
    by_port: dict[str, dict[tuple[str, str], Object]] = {}
    for subset in subsets:
        ports: list[Object | None] = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                identity = (address["ip"], (address.get("targetRef") or {}).get("uid", ""))
                for port in ports or [None]:
                    members = by_port.setdefault(json.dumps(port, sort_keys=True), {})
                    if identity not in members or not ready:
                        members[identity] = _endpoint(address, ready=ready)
    together: dict[str, tuple[list[Object], list[Object]]] = {}
    for written, members in by_port.items():
        endpoints = sorted((members[identity] for identity in sorted(members)), key=lambda endpoint: not endpoint["conditions"]["ready"])
        states = sorted((*identity, members[identity]["conditions"]["ready"]) for identity in members)
        shared, _ = together.setdefault(json.dumps(states), ([], endpoints))
        if (port := json.loads(written)) is not None:
            shared.append(port)
    return list(together.values())


def plan_groups(endpoints: Object) -> tuple[list[Wanted], int]:
    """One group per set of ports and address family; and how many addresses are too many."""
    groups: list[Wanted] = []
    skipped = 0
    for ports, found in _repacked(endpoints.get("subsets") or ()):
        kept = found[:ENDPOINTS_PER_SLICE_MAX]
        skipped += len(found) - len(kept)
        for family, is_six in (("IPv4", False), ("IPv6", True)):
            members = [endpoint for endpoint in kept if (":" in endpoint["addresses"][0]) is is_six]
            if members:
                groups.append(Wanted(family, ports, members))
    return groups, skipped


def plan_mirror(endpoints: Object, groups: list[Wanted], existing: list[Object]) -> SlicePlan:
    """What makes the slices equal to the Endpoints."""
    meta = endpoints["metadata"]
    labels = {**labels_of(endpoints), LABEL_SERVICE_NAME: meta["name"], LABEL_ENDPOINTSLICE_MANAGED_BY: MANAGED_BY_MIRRORING_CONTROLLER}
    annotations = {name: value for name, value in annotations_of(endpoints).items() if name not in ANNOTATIONS_NOT_COPIED}
    owner = controller_ref(endpoints, ENDPOINTS)
    frame = SliceFrame(meta["name"], meta["namespace"], owner, labels, annotations, ENDPOINTS_PER_SLICE_MAX)
    return plan_slices(frame, groups, existing, None)


def _mirrored_slices(reader: Reader, key: Key) -> list[Object]:
    found = reader.cache(ENDPOINTSLICES).by_index(INDEX_LABEL, f"{key.namespace}/{LABEL_SERVICE_NAME}={key.name}")
    return [s for s in found if labels_of(s).get(LABEL_ENDPOINTSLICE_MANAGED_BY) == MANAGED_BY_MIRRORING_CONTROLLER and not is_deleting(s)]


async def reconcile(ctx: Context, key: Key) -> Result:
    endpoints = ctx.cache(ENDPOINTS).get(key)
    existing = _mirrored_slices(ctx, key)
    if endpoints is None or not should_mirror(endpoints, ctx.cache(SERVICES).get(key)):
        await write_slices(ctx, [], [], existing)
        return done()
    groups, skipped = plan_groups(endpoints)
    if skipped:
        ctx.recorder.event(endpoints, ENDPOINTS, "Warning", "TooManyAddressesToMirror", TOO_MANY.format(ENDPOINTS_PER_SLICE_MAX, skipped))
    steps = plan_mirror(endpoints, groups, existing)
    try:
        await write_slices(ctx, steps.create, steps.update, steps.delete)
    except ApiError as error:
        if not is_namespace_terminating(error):
            raise
    return done()


def map_service(reader: Reader, service: Object) -> Iterable[Key]:
    return (key_of(service),)


def map_slice(reader: Reader, endpoint_slice: Object) -> Iterable[Key]:
    labels = labels_of(endpoint_slice)
    if labels.get(LABEL_ENDPOINTSLICE_MANAGED_BY) != MANAGED_BY_MIRRORING_CONTROLLER or LABEL_SERVICE_NAME not in labels:
        return ()
    return (Key(endpoint_slice["metadata"]["namespace"], labels[LABEL_SERVICE_NAME]),)


SPEC = ControllerSpec(
    name="endpoint_slice_mirroring",
    component="endpoint-slice-mirroring-controller",
    primary=ENDPOINTS,
    watches={SERVICES: map_service, ENDPOINTSLICES: map_slice},
    indexers={ENDPOINTSLICES: {INDEX_LABEL: label_pairs}},
    workers=5,
)

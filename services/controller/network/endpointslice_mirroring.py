"""EndpointSlice mirroring controller: gives Endpoints that users write for Services without a selector their EndpointSlices.

Owns EndpointSlices (through the Endpoints they mirror). Watches Endpoints, Services and EndpointSlices. Writes EndpointSlices. Imitates
pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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

from ..common.portorder import sorted_for_slice
from ..common.services import INDEX_LABEL, family_of, label_pairs
from ..common.slice_writes import write_slices
from ..common.slices import SliceFrame, SlicePlan, Wanted, plan_slices
from ..common.subsets import repacked
from ..common.templates import is_namespace_terminating
from ..config import Config
from .slice_metrics import MIRROR_CHANGES, MIRROR_FAMILIES, MIRROR_SECONDS, MIRROR_SKIPPED, MirrorTotals

ADDRESSES_PER_SUBSET_MAX = 1000
TOO_MANY = "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped"
ANNOTATIONS_NOT_COPIED = frozenset({ANNOTATION_LAST_APPLIED, ANNOTATION_LAST_CHANGE_TRIGGER_TIME})


def should_mirror(endpoints: Object | None, service: Object | None) -> bool:
    """Endpoints with a Service that selects nothing, unless they say no or belong to an old leader election."""
    if endpoints is None or service is None or service["spec"].get("selector"):
        return False
    skipped = labels_of(endpoints).get(LABEL_ENDPOINTSLICE_SKIP_MIRROR) == "true"
    return not skipped and ANNOTATION_LEADER_ELECTION not in annotations_of(endpoints)


def _endpoint(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "targetRef", "nodeName"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


def plan_groups(endpoints: Object, addresses_max: int = ADDRESSES_PER_SUBSET_MAX) -> tuple[list[Wanted], int]:
    """One group per set of ports and address family; and how many addresses are too many."""
    groups: list[Wanted] = []
    skipped = 0
    for subset in repacked(endpoints.get("subsets") or ()):
        ports = sorted_for_slice({"name": "", **port} for port in subset.get("ports") or ())
        found = [_endpoint(address, ready=True) for address in subset.get("addresses") or ()]
        found += [_endpoint(address, ready=False) for address in subset.get("notReadyAddresses") or ()]
        kept = found[:addresses_max]
        skipped += len(found) - len(kept)
        for family in ("IPv4", "IPv6"):
            members = [endpoint for endpoint in kept if family_of(endpoint["addresses"][0]) == family]
            if members:
                groups.append(Wanted(family, ports, members))
    return groups, skipped


def plan_mirror(endpoints: Object, groups: list[Wanted], existing: list[Object], addresses_max: int) -> SlicePlan:
    """What makes the slices equal to the Endpoints."""
    meta = endpoints["metadata"]
    labels = {**labels_of(endpoints), LABEL_SERVICE_NAME: meta["name"], LABEL_ENDPOINTSLICE_MANAGED_BY: MANAGED_BY_MIRRORING_CONTROLLER}
    annotations = {name: value for name, value in annotations_of(endpoints).items() if name not in ANNOTATIONS_NOT_COPIED}
    owner = controller_ref(endpoints, ENDPOINTS)
    frame = SliceFrame(meta["name"], meta["namespace"], owner, labels, annotations, addresses_max)
    return plan_slices(frame, groups, existing, None)


def _mirrored_slices(reader: Reader, key: Key) -> list[Object]:
    found = reader.cache(ENDPOINTSLICES).by_index(INDEX_LABEL, f"{key.namespace}/{LABEL_SERVICE_NAME}={key.name}")
    return [s for s in found if labels_of(s).get(LABEL_ENDPOINTSLICE_MANAGED_BY) == MANAGED_BY_MIRRORING_CONTROLLER and not is_deleting(s)]


class Mirroring:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, addresses_max: int, workers: int, batch_seconds: float) -> None:
        """`batch_seconds`: how long Endpoints wait for more changes of themselves, their Service and their slices."""
        self.SPEC = replace(SPEC, workers=workers, wait_seconds=dict.fromkeys(SPEC.resources(), batch_seconds))
        self._addresses_max = addresses_max
        self._totals = MirrorTotals(addresses_max)

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        began = ctx.clock.monotonic()
        try:
            return await self._sync(ctx, key)
        finally:
            ctx.meter.observe(MIRROR_SECONDS, ctx.clock.monotonic() - began)

    async def _sync(self, ctx: Context, key: Key) -> Result:
        endpoints = ctx.cache(ENDPOINTS).get(key)
        existing = _mirrored_slices(ctx, key)
        if endpoints is None or not should_mirror(endpoints, ctx.cache(SERVICES).get(key)):
            self._totals.forget(ctx.meter, key)
            await write_slices(ctx, [], [], existing, MIRROR_CHANGES)
            return done()
        groups, skipped = plan_groups(endpoints, self._addresses_max)
        ctx.meter.observe(MIRROR_SKIPPED, skipped)
        if skipped:
            message = TOO_MANY.format(self._addresses_max, skipped)
            ctx.recorder.event(endpoints, ENDPOINTS, "Warning", "TooManyAddressesToMirror", message)
        steps = plan_mirror(endpoints, groups, existing, self._addresses_max)
        if is_deleting(endpoints):
            steps = replace(steps, create=[])
        self._totals.count(ctx.meter, key, existing, steps)
        try:
            await write_slices(ctx, steps.create, steps.update, steps.delete, MIRROR_CHANGES)
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
    metrics=MIRROR_FAMILIES,
)


def build(config: Config) -> Mirroring:
    batch_seconds = config.mirroring_endpointslice_updates_batch_period
    return Mirroring(config.mirroring_max_endpoints_per_subset, config.mirroring_concurrent_service_endpoint_syncs, batch_seconds)

"""EndpointSlice controller: writes down which pods stand behind each Service, and whether they are ready, serving or terminating.

Owns EndpointSlices. Watches Services, Pods, and Nodes for their zones. Writes EndpointSlices. Packing is in slices.py, hints in proportion
to the CPUs of zones are in zone_hints.py and topology.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import Key, controller_ref, is_deleting, labels_of
from kubecosm.api.names import (
    LABEL_ENDPOINTSLICE_MANAGED_BY,
    LABEL_HEADLESS_SERVICE,
    LABEL_SERVICE_NAME,
    LABEL_ZONE,
    MANAGED_BY_ENDPOINTSLICE_CONTROLLER,
)
from kubecosm.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, ReconcileError, Result, done

from ..common.pods import is_ready, node_of
from ..common.portorder import sorted_for_slice
from ..common.services import (
    INDEX_LABEL,
    INDEXERS,
    belongs_in_endpoints,
    endpoint_ports,
    endpoints_changed,
    family_of,
    has_cluster_ip,
    has_selected_endpoints,
    hostname_in,
    ip_of_family,
    label_pairs,
    selected_pods,
    services_of,
    target_ref,
)
from ..common.slice_writes import failure_of, write_slices
from ..common.slices import SliceFrame, SlicePlan, Wanted, plan_slices, slice_identity
from ..common.templates import is_namespace_terminating
from ..common.triggers import TriggerTimes
from ..config import Config
from .slice_metrics import CHANGED_PER_SYNC, CHANGES, FAMILIES, SYNCS, Totals
from .topology import Topology, place_changed
from .zone_hints import Draft, carried_hints, wants_hints

ENDPOINTS_PER_SLICE_MAX = 100
REST_SECONDS_PER_POD = 40e-6
"""A Service of a thousand pods takes their changes in batches of 40 ms; one of ten at once."""

RESERVED_LABELS = frozenset({LABEL_SERVICE_NAME, LABEL_ENDPOINTSLICE_MANAGED_BY, LABEL_HEADLESS_SERVICE})
ZoneOf = Callable[[str], str | None]
"""From a node's name to its zone, empty if it has none; None if there is no such node."""
TRAFFIC_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


def _endpoint(service: Object, pod: Object, addresses: list[str], zone_of: ZoneOf) -> Object:
    """One endpoint; a terminating pod may still serve but is never ready, unless the Service publishes what is not ready."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    endpoint: Object = {"addresses": addresses, "conditions": {"ready": ready, "serving": serving, "terminating": terminating}}
    if hostname := hostname_in(service, pod):
        endpoint["hostname"] = hostname
    endpoint["targetRef"] = target_ref(pod)
    if node := node_of(pod):
        endpoint["nodeName"] = node
        if zone := zone_of(node):
            endpoint["zone"] = zone
    return endpoint


def distribution_of(service: Object) -> str:
    """The traffic distribution that hints are given for; empty if there is none, or the older annotation decides."""
    distribution = service["spec"].get("trafficDistribution")
    return distribution if distribution in TRAFFIC_DISTRIBUTIONS and not wants_hints(service) else ""


def _hinted(service: Object, endpoint: Object) -> Object:
    """With a traffic distribution, tell the proxies of a zone or node that this endpoint is theirs."""
    distribution = distribution_of(service)
    if not distribution or not endpoint["conditions"]["ready"]:
        return endpoint
    hints: Object = {}
    if "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if distribution == "PreferSameNode" and "nodeName" in endpoint:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return {**endpoint, "hints": hints} if hints else endpoint


def address_types(service: Object) -> list[str]:
    """The families of its slices. Without any (written before Services had families) those of its address, or both if it has none."""
    if families := service["spec"].get("ipFamilies"):
        return list(families)
    return [family_of(service["spec"]["clusterIP"])] if has_cluster_ip(service) else ["IPv4", "IPv6"]


def strays(service: Object, pods: Sequence[Object], zone_of: ZoneOf) -> list[Object]:
    """Pods whose node is gone, so that nobody knows whether they live; a Service that publishes what is not ready keeps them."""
    if service["spec"].get("publishNotReadyAddresses"):
        return []
    gone = {node for node in {node_of(pod) for pod in pods} if zone_of(node) is None}
    return [pod for pod in pods if node_of(pod) in gone and belongs_in_endpoints(pod, include_terminating=True)] if gone else []


def plan_endpoints(service: Object, pods: Iterable[Object], zone_of: ZoneOf) -> list[Wanted]:
    """The endpoints of each address family, grouped by their ports; at least one group per family, be it empty."""
    groups: dict[str, Wanted] = {}
    in_proportion = wants_hints(service)
    members = [pod for pod in pods if belongs_in_endpoints(pod, include_terminating=True)]
    families = address_types(service)
    for family in families:
        found = False
        for pod in members:
            address = ip_of_family(pod, family)
            if address is None:
                continue
            ports = endpoint_ports(service, pod)
            identity = slice_identity(family, ports)
            group = groups.get(identity)
            if group is None:
                group = groups[identity] = Wanted(family, sorted_for_slice(ports), [])
            endpoint = _endpoint(service, pod, [address], zone_of)
            group.endpoints.append(endpoint if in_proportion else _hinted(service, endpoint))
            found = True
        if not found:
            groups.setdefault(slice_identity(family, []), Wanted(family, [], []))
    return list(groups.values())


def plan_frame(service: Object, endpoints_max: int) -> SliceFrame:
    """Name, labels and owner of the Service's slices; the Service's own labels are passed on."""
    meta = service["metadata"]
    labels = {name: value for name, value in labels_of(service).items() if name not in RESERVED_LABELS}
    labels |= {LABEL_SERVICE_NAME: meta["name"], LABEL_ENDPOINTSLICE_MANAGED_BY: MANAGED_BY_ENDPOINTSLICE_CONTROLLER}
    if not has_cluster_ip(service):
        labels[LABEL_HEADLESS_SERVICE] = ""
    return SliceFrame(meta["name"], meta["namespace"], controller_ref(service, SERVICES), labels, {}, endpoints_max)


def plan(
    service: Object, pods: Sequence[Object], existing: Sequence[Object], zone_of: ZoneOf, endpoints_max: int = ENDPOINTS_PER_SLICE_MAX,
    trigger: datetime | None = None,
) -> SlicePlan:  # fmt: skip
    """All that is to be written for one Service, but for hints in proportion. With no endpoint at all an empty slice stays.

    Slices of a Service that had the same name are deleted and never written over: the garbage collector is about to take them too.
    """
    owned = [one for one in existing if _is_owned(one, service)]
    wanted = plan_endpoints(service, pods, zone_of)
    if wants_hints(service):
        carried = carried_hints(owned)
        for endpoint in (endpoint for group in wanted for endpoint in group.endpoints):
            if endpoint["conditions"]["ready"] and endpoint["addresses"][0] in carried:
                endpoint["hints"] = carried[endpoint["addresses"][0]]
    steps = plan_slices(plan_frame(service, endpoints_max), wanted, owned, trigger)
    steps.delete += [one for one in existing if one not in owned]
    return steps


def draft_of(family: str, steps: SlicePlan, existing: Sequence[Object]) -> Draft:
    """What is planned for the slices of one address family."""
    settled = {one["metadata"]["name"] for one in (*steps.update, *steps.delete)}
    rest = [one for one in existing if one["metadata"]["name"] not in settled]
    create, update, unchanged = ([s for s in slices if s["addressType"] == family] for slices in (steps.create, steps.update, rest))
    return Draft(create, update, unchanged)


def _is_owned(one: Object, service: Object) -> bool:
    return any(ref["uid"] == service["metadata"].get("uid") for ref in one["metadata"].get("ownerReferences") or ())


def _managed_slices(reader: Reader, service: Object) -> list[Object]:
    meta = service["metadata"]
    found = reader.cache(ENDPOINTSLICES).by_index(INDEX_LABEL, f"{meta['namespace']}/{LABEL_SERVICE_NAME}={meta['name']}")
    ours = MANAGED_BY_ENDPOINTSLICE_CONTROLLER
    return [s for s in found if labels_of(s).get(LABEL_ENDPOINTSLICE_MANAGED_BY) == ours and not is_deleting(s)]


class EndpointSlices:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, endpoints_max: int, batch_seconds: float) -> None:
        """`batch_seconds`: how long a Service waits for more changes of its pods and slices."""
        self._topology = Topology()
        waits = {PODS: batch_seconds, ENDPOINTSLICES: batch_seconds}
        self.SPEC = replace(SPEC, watches={**SPEC.watches, NODES: self._map_node}, wait_seconds=waits)
        self._endpoints_max = endpoints_max
        self._totals = Totals(endpoints_max)
        self._triggers = TriggerTimes()

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        try:
            result = await self._sync(ctx, key)
        except (ApiError, ReconcileError):
            ctx.meter.add(SYNCS, "error")
            raise
        ctx.meter.add(SYNCS, "success")
        return result

    async def _sync(self, ctx: Context, key: Key) -> Result:
        service = ctx.cache(SERVICES).get(key)
        if service is None or not has_selected_endpoints(service):
            self._totals.forget(ctx.meter, key)
            self._topology.forget(key)
            self._triggers.forget(key)
            return done()  # gone: the garbage collector removes the slices; without selector they are the user's business
        pods = selected_pods(ctx, service)

        def zone_of(node: str) -> str | None:
            found = ctx.cache(NODES).get(Key("", node))
            return labels_of(found).get(LABEL_ZONE, "") if found is not None else None

        lost = strays(service, pods, zone_of)
        members = [pod for pod in pods if pod not in lost] if lost else pods
        existing = _managed_slices(ctx, service)
        steps = plan(service, members, existing, zone_of, self._endpoints_max, self._triggers.changed(key, service, pods))
        steps = self._with_zone_hints(ctx, key, service, steps, existing)
        if is_deleting(service):
            steps = replace(steps, create=[])  # the garbage collector takes slices away meanwhile
        await self._write(ctx, key, service, steps)
        self._totals.count(ctx.meter, key, existing, steps, distribution_of(service))
        if lost:
            name, node = lost[0]["metadata"]["name"], node_of(lost[0])
            failure = f"skipping Pod {name} for Service {key}: Node {node} Not Found"
            _tell_failure(ctx, service, failure)
            raise ReconcileError(failure)
        return done(rest_seconds=REST_SECONDS_PER_POD * len(pods))

    async def _write(self, ctx: Context, key: Key, service: Object, steps: SlicePlan) -> None:
        try:
            await write_slices(ctx, steps.create, steps.update, steps.delete, CHANGES)
        except ApiError as error:
            if not is_namespace_terminating(error):
                _tell_failure(ctx, service, failure_of(error, f"Service {key}"))
                raise
        written = len(steps.create) + len(steps.update) + len(steps.delete)
        topology = "Auto" if wants_hints(service) else "Disabled"
        ctx.meter.observe(CHANGED_PER_SYNC, written, topology, distribution_of(service))

    def _with_zone_hints(self, ctx: Context, key: Key, service: Object, steps: SlicePlan, existing: Sequence[Object]) -> SlicePlan:
        """The plan with hints in proportion, if the Service asks for them; tells when that begins, ends or fails."""
        families = dict.fromkeys([*address_types(service), *(one["addressType"] for one in existing)])
        if not wants_hints(service):
            notices = [self._topology.drop_hints(key, family) for family in families] if self._topology.has_hints(key) else []
        else:
            self._topology.learn(ctx.cache(NODES).list())
            steps, old = SlicePlan(delete=steps.delete), steps
            notices = []
            for family in families:
                draft, notice = self._topology.add_hints(key, family, draft_of(family, old, existing))
                steps.create += draft.create
                steps.update += draft.update
                notices += [notice] if notice is not None else []
        for notice in notices:
            ctx.recorder.event(service, SERVICES, notice.type, notice.reason, notice.message)
        return steps

    def _map_node(self, reader: Reader, node: Object) -> Iterable[Key]:
        name = node["metadata"]["name"]
        return self._topology.node_changed(name, reader.cache(NODES).get(Key("", name)))


def _tell_failure(ctx: Context, service: Object, what: str) -> None:
    meta = service["metadata"]
    message = f"Error updating Endpoint Slices for Service {meta['namespace']}/{meta['name']}: {what}"
    ctx.recorder.event(service, SERVICES, "Warning", "FailedToUpdateEndpointSlices", message)


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    return services_of(reader, pod)


def map_slice(reader: Reader, endpoint_slice: Object) -> Iterable[Key]:
    """A slice of ours that somebody changed or deleted is put right."""
    labels = labels_of(endpoint_slice)
    if labels.get(LABEL_ENDPOINTSLICE_MANAGED_BY) != MANAGED_BY_ENDPOINTSLICE_CONTROLLER or LABEL_SERVICE_NAME not in labels:
        return ()
    return (Key(endpoint_slice["metadata"]["namespace"], labels[LABEL_SERVICE_NAME]),)


SPEC = ControllerSpec(
    name="endpoint_slice",
    component="endpoint-slice-controller",
    primary=SERVICES,
    watches={PODS: map_pod, ENDPOINTSLICES: map_slice},
    reads=(NODES,),
    cares={PODS: endpoints_changed, NODES: place_changed},
    indexers={**INDEXERS, ENDPOINTSLICES: {INDEX_LABEL: label_pairs}},
    metrics=FAMILIES,
    workers=16,
)


def build(config: Config) -> EndpointSlices:
    return EndpointSlices(config.max_endpoints_per_slice, config.endpointslice_updates_batch_period)

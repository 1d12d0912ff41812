"""EndpointSlice controller: writes down which pods stand behind each Service, and whether they are ready, serving or terminating.

Owns EndpointSlices. Watches Services, Pods, and Nodes for their zones. Writes EndpointSlices. Packing is in slices.py. Leaves out the
proportional zone hints of the topology-mode annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.pods import is_ready, node_of, ready_since
from ..common.services import (
    INDEX_LABEL,
    INDEXERS,
    belongs_in_endpoints,
    endpoint_ports,
    endpoints_changed,
    has_selected_endpoints,
    hostname_in,
    is_headless,
    label_pairs,
    pod_ips,
    selected_pods,
    services_of,
    target_ref,
)
from ..common.slice_writes import write_slices
from ..common.slices import SliceFrame, SlicePlan, Wanted, plan_slices, slice_identity
from ..common.templates import is_namespace_terminating
from ..config import Config
from .slice_metrics import FAMILIES, Totals

ENDPOINTS_PER_SLICE_MAX = 100
REST_SECONDS_PER_POD = 40e-6
"""A Service of a thousand pods takes their changes in batches of 40 ms; one of ten at once."""

RESERVED_LABELS = frozenset({LABEL_SERVICE_NAME, LABEL_ENDPOINTSLICE_MANAGED_BY, LABEL_HEADLESS_SERVICE})
ZoneOf = Callable[[str], str]
"""From a node's name to its zone, empty if it has none."""


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


def _hinted(service: Object, endpoint: Object) -> Object:
    """With a traffic distribution, tell the proxies of a zone or node that this endpoint is theirs."""
    distribution = service["spec"].get("trafficDistribution")
    if not distribution or not endpoint["conditions"]["ready"]:
        return endpoint
    hints: Object = {}
    if "zone" in endpoint:
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if distribution == "PreferSameNode" and "nodeName" in endpoint:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return {**endpoint, "hints": hints} if hints else endpoint


def address_types(service: Object) -> list[str]:
    families: list[str] = service["spec"].get("ipFamilies") or ["IPv4"]
    return families


def plan_endpoints(service: Object, pods: Iterable[Object], zone_of: ZoneOf) -> list[Wanted]:
    """The endpoints of each address family, grouped by their ports; at least one group per family, be it empty."""
    groups: dict[str, Wanted] = {}
    members = [pod for pod in pods if belongs_in_endpoints(pod, include_terminating=True)]
    families = address_types(service)
    for family in families:
        found = False
        for pod in members:
            addresses = [ip for ip in pod_ips(pod) if (":" in ip) == (family == "IPv6")][:1]
            if not addresses:
                continue
            ports = endpoint_ports(service, pod, with_app_protocol=True)
            identity = slice_identity(family, ports)
            group = groups.setdefault(identity, Wanted(family, ports, []))
            group.endpoints.append(_hinted(service, _endpoint(service, pod, addresses, zone_of)))
            found = True
        if not found:
            groups.setdefault(slice_identity(family, []), Wanted(family, [], []))
    return list(groups.values())


def plan_frame(service: Object, endpoints_max: int) -> SliceFrame:
    """Name, labels and owner of the Service's slices; the Service's own labels are passed on."""
    meta = service["metadata"]
    labels = {name: value for name, value in labels_of(service).items() if name not in RESERVED_LABELS}
    labels |= {LABEL_SERVICE_NAME: meta["name"], LABEL_ENDPOINTSLICE_MANAGED_BY: MANAGED_BY_ENDPOINTSLICE_CONTROLLER}
    if is_headless(service):
        labels[LABEL_HEADLESS_SERVICE] = ""
    return SliceFrame(meta["name"], meta["namespace"], controller_ref(service, SERVICES), labels, {}, endpoints_max)


def plan(
    service: Object, pods: Sequence[Object], existing: Sequence[Object], zone_of: ZoneOf, endpoints_max: int = ENDPOINTS_PER_SLICE_MAX
) -> SlicePlan:
    """All that is to be written for one Service. With no endpoint at all an empty slice stays in place of them."""
    return plan_slices(plan_frame(service, endpoints_max), plan_endpoints(service, pods, zone_of), existing, _trigger(pods))


def _trigger(pods: Iterable[Object]) -> datetime | None:
    """When the newest change of readiness happened."""
    return max((since for since in map(ready_since, pods) if since is not None), default=None)


def _managed_slices(reader: Reader, service: Object) -> list[Object]:
    meta = service["metadata"]
    found = reader.cache(ENDPOINTSLICES).by_index(INDEX_LABEL, f"{meta['namespace']}/{LABEL_SERVICE_NAME}={meta['name']}")
    ours = MANAGED_BY_ENDPOINTSLICE_CONTROLLER
    return [s for s in found if labels_of(s).get(LABEL_ENDPOINTSLICE_MANAGED_BY) == ours and not is_deleting(s)]


class EndpointSlices:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, endpoints_max: int) -> None:
        self.SPEC = SPEC
        self._endpoints_max = endpoints_max
        self._totals = Totals(endpoints_max)

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        service = ctx.cache(SERVICES).get(key)
        if service is None or is_deleting(service) or not has_selected_endpoints(service):
            self._totals.forget(ctx.meter, key)
            return done()  # gone: the garbage collector removes the slices; without selector they are the user's business
        pods = selected_pods(ctx, service)

        def zone_of(node: str) -> str:
            found = ctx.cache(NODES).get(Key("", node))
            return labels_of(found).get(LABEL_ZONE, "") if found is not None else ""

        existing = _managed_slices(ctx, service)
        steps = plan(service, pods, existing, zone_of, self._endpoints_max)
        try:
            await write_slices(ctx, steps.create, steps.update, steps.delete)
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        self._totals.count(ctx.meter, key, existing, steps)
        return done(rest_seconds=REST_SECONDS_PER_POD * len(pods))


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
    cares={PODS: endpoints_changed},
    indexers={**INDEXERS, ENDPOINTSLICES: {INDEX_LABEL: label_pairs}},
    metrics=FAMILIES,
    workers=16,
)


def build(config: Config) -> EndpointSlices:
    return EndpointSlices(config.max_endpoints_per_slice)

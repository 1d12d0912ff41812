"""Endpoints controller: the older, single-object form of EndpointSlices that some clients still read.

Watches Services and Pods. Writes Endpoints, named as their Service. Imitates pkg/controller/endpoint and RepackSubsets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from kubecosm.api.errors import ApiError, NotFound
from kubecosm.api.meta import Key, annotations_of, key_of, labels_of
from kubecosm.api.names import (
    ANNOTATION_ENDPOINTS_OVER_CAPACITY,
    ANNOTATION_LAST_CHANGE_TRIGGER_TIME,
    LABEL_ENDPOINTS_MANAGED_BY,
    LABEL_HEADLESS_SERVICE,
    MANAGED_BY_ENDPOINT_CONTROLLER,
)
from kubecosm.api.resources import ENDPOINTS, PODS, SERVICES, Object
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.pods import is_ready, node_of
from ..common.portorder import Port
from ..common.services import (
    INDEXERS,
    address_family,
    belongs_in_endpoints,
    endpoint_ports,
    endpoints_changed,
    has_cluster_ip,
    has_selected_endpoints,
    hostname_in,
    ip_of_family,
    is_headless,
    selected_pods,
    services_of,
    target_ref,
)
from ..common.subsets import Subsets
from ..common.templates import is_namespace_terminating
from ..common.triggers import TriggerTimes
from ..config import Config

ADDRESSES_MAX = 1000
"""An Endpoints object holds no more; EndpointSlices have no such limit."""
REST_SECONDS_PER_POD = 200e-6
"""The whole object is written for every change: one of a thousand pods is written at most five times a second."""


def _address(service: Object, pod: Object) -> Object | None:
    """Of the pod, in the first address family of the Service; None if it has none of that family."""
    ip = ip_of_family(pod, address_family(service, pod))
    if ip is None:
        return None
    address: Object = {"ip": ip}
    if hostname := hostname_in(service, pod):
        address["hostname"] = hostname
    if node := node_of(pod):
        address["nodeName"] = node
    return {**address, "targetRef": target_ref(pod)}


def plan_subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """Addresses grouped by the ports they serve; ready and not ready apart, in order of address."""
    publish_all = bool(service["spec"].get("publishNotReadyAddresses"))
    portless = is_headless(service) and not service["spec"].get("ports")
    collected = Subsets()
    for pod in pods:
        if not belongs_in_endpoints(pod, include_terminating=publish_all):
            continue
        address = _address(service, pod)
        if address is None:
            continue
        ports: list[Port | None] = [None] if portless else [Port.of(port) for port in endpoint_ports(service, pod)]
        for port in ports:
            collected.add(address, port, ready=publish_all or is_ready(pod))
    return collected.packed()


def plan_truncation(subsets: Sequence[Object]) -> tuple[list[Object], bool]:
    """At most ADDRESSES_MAX addresses, of every subset in proportion, ready ones first; and whether any were left out."""
    ready, unready = (sum(len(subset.get(field, ())) for subset in subsets) for field in ("addresses", "notReadyAddresses"))
    if ready + unready <= ADDRESSES_MAX:
        return list(subsets), False
    field, share, total = "addresses", ADDRESSES_MAX, ready
    if ready <= ADDRESSES_MAX:
        field, share, total = "notReadyAddresses", ADDRESSES_MAX - ready, unready
    room = share
    kept: list[Object] = []
    for subset in subsets:
        found = subset.get(field, [])
        part = found[: min(math.ceil(len(found) / total * share), room)]
        room -= len(part)
        others = {name: value for name, value in subset.items() if name == "ports" or (name == "addresses" and field != "addresses")}
        if part or "addresses" in others:
            kept.append({**others, **({field: part} if part else {})})
    return kept, True


def plan_endpoints(service: Object, pods: Sequence[Object], current: Object | None, trigger: datetime | None) -> Object | None:
    """The Endpoints object to create or to write over; None if all is well. `trigger`: when the change happened that it is for."""
    subsets, truncated = plan_truncation(plan_subsets(service, pods))
    labels = {**labels_of(service), LABEL_ENDPOINTS_MANAGED_BY: MANAGED_BY_ENDPOINT_CONTROLLER}
    labels.pop(LABEL_HEADLESS_SERVICE, None)
    if not has_cluster_ip(service):
        labels[LABEL_HEADLESS_SERVICE] = ""
    annotations = {} if current is None else dict(annotations_of(current))
    was_truncated = annotations.pop(ANNOTATION_ENDPOINTS_OVER_CAPACITY, None) is not None
    if current is not None and (current.get("subsets") or []) == subsets and labels_of(current) == labels and truncated == was_truncated:
        return None
    if truncated:
        annotations[ANNOTATION_ENDPOINTS_OVER_CAPACITY] = "truncated"
    annotations.pop(ANNOTATION_LAST_CHANGE_TRIGGER_TIME, None)
    if trigger is not None:
        annotations[ANNOTATION_LAST_CHANGE_TRIGGER_TIME] = format_time(trigger)
    meta = {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]} if current is None else current["metadata"]
    meta = {**meta, "labels": labels, **({"annotations": annotations} if annotations or current is not None else {})}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}


async def _remove(ctx: Context, key: Key) -> None:
    """The Service is gone: its Endpoints go too, whoever wrote them. Those that never had a Service are not looked at."""
    current = ctx.cache(ENDPOINTS).get(key)
    if current is None:
        return
    try:
        await ctx.client.delete(ENDPOINTS, key.name, key.namespace)
    except NotFound:
        return
    ctx.expect_deleted(current)


class EndpointsController:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, batch_seconds: float) -> None:
        """`batch_seconds`: how long a Service waits for more changes of its pods."""
        self.SPEC = replace(SPEC, wait_seconds={PODS: batch_seconds})
        self._triggers = TriggerTimes()

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        service = ctx.cache(SERVICES).get(key)
        if service is None:
            self._triggers.forget(key)
            await _remove(ctx, key)
            return done()
        if not has_selected_endpoints(service):
            return done()
        pods = selected_pods(ctx, service)
        current = ctx.cache(ENDPOINTS).get(key)
        wanted = plan_endpoints(service, pods, current, self._triggers.changed(key, service, pods))
        if wanted is None:
            return done()
        written = await _write(ctx, key, wanted, is_new=current is None)
        return done(rest_seconds=REST_SECONDS_PER_POD * len(pods)) if written else done()


async def _write(ctx: Context, key: Key, wanted: Object, *, is_new: bool) -> bool:
    """False: the namespace is going away. What else goes wrong is told in an event, and raised."""
    write = ctx.client.create(ENDPOINTS, wanted, key.namespace) if is_new else ctx.client.update(ENDPOINTS, wanted)
    try:
        ctx.expect_written(await write)
    except ApiError as error:
        if is_new and is_namespace_terminating(error):
            return False
        if is_new:
            message = f"Failed to create endpoint for service {key.namespace}/{key.name}: {error}"
            ctx.recorder.event(wanted, ENDPOINTS, "Warning", "FailedToCreateEndpoint", message)
        else:
            message = f"Failed to update endpoint {key.namespace}/{key.name}: {error}"
            ctx.recorder.event(wanted, ENDPOINTS, "Warning", "FailedToUpdateEndpoint", message)
        raise
    return True


def map_pod(reader: Reader, pod: Object) -> Iterable[Key]:
    return services_of(reader, pod)


def map_endpoints(reader: Reader, endpoints: Object) -> Iterable[Key]:
    """Endpoints that somebody deleted or changed are put right; those without a Service go."""
    return (key_of(endpoints),) if labels_of(endpoints).get(LABEL_ENDPOINTS_MANAGED_BY) == MANAGED_BY_ENDPOINT_CONTROLLER else ()


SPEC = ControllerSpec(
    name="endpoint",
    primary=SERVICES,
    watches={PODS: map_pod, ENDPOINTS: map_endpoints},
    cares={PODS: endpoints_changed},
    indexers=INDEXERS,
    workers=16,
)


def build(config: Config) -> EndpointsController:
    return EndpointsController(config.endpoint_updates_batch_period)

"""Service CIDR controller: says that a range may be used, and keeps one that is being deleted while addresses of it have no other cover.

Watches ServiceCIDRs and IPAddresses. Writes the finalizer service-cidr-finalizer and the condition Ready. Imitates
pkg/controller/servicecidrs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, is_deleting, key_of
from kubecosm.api.names import FINALIZER_SERVICE_CIDR
from kubecosm.api.resources import IPADDRESSES, SERVICECIDRS, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue

from ..common import conditions

DELETION_GRACE_SECONDS = 10.0
"""So long a deletion waits at least, for API servers to stop giving out addresses of the range."""
READY = "Ready"
READY_MESSAGE = "Kubernetes Service CIDR is ready"
BLOCKED_MESSAGE = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
Network = IPv4Network | IPv6Network


def networks_of(cidr: Object) -> list[Network]:
    return [ip_network(text) for text in cidr["spec"].get("cidrs") or ()]


def is_inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and int(outer[0]) <= int(inner[0]) and int(inner[-1]) <= int(outer[-1])


def is_blocked(cidr: Object, others: Iterable[Object], addresses: Iterable[str]) -> bool:
    """Whether an address of the range would be left without any ServiceCIDR. `others` are those that stay."""
    staying = [network for other in others for network in networks_of(other)]
    uncovered = [network for network in networks_of(cidr) if not any(is_inside(network, other) for other in staying)]
    if not uncovered:
        return False
    for text in addresses:
        address = ip_address(text)
        if any(address in network for network in uncovered) and not any(address in network for network in staying):
            return True
    return False


def ready_condition(cidr: Object, *, blocked: bool, now: datetime) -> list[Object] | None:
    """The conditions the range shall have; None if it has them."""
    status = cidr.get("status") or {}
    present = conditions.find(status.get("conditions"), READY)
    if blocked:
        wanted = conditions.make(READY, "False", "Terminating", BLOCKED_MESSAGE, now)
    elif is_deleting(cidr) or (present is not None and present["status"] == "True"):
        return None
    else:
        wanted = {**conditions.make(READY, "True", "", READY_MESSAGE, now), "reason": ""}
    found = conditions.replaced(status.get("conditions"), wanted)
    return None if found == status.get("conditions") else found


async def reconcile(ctx: Context, key: Key) -> Result:
    cidr = ctx.cache(SERVICECIDRS).get(key)
    if cidr is None:
        return done()
    if not is_deleting(cidr):
        if FINALIZER_SERVICE_CIDR not in (cidr["metadata"].get("finalizers") or ()):
            cidr = await _write_finalizers(ctx, cidr, [*(cidr["metadata"].get("finalizers") or ()), FINALIZER_SERVICE_CIDR])
        if cidr is not None:
            await _write_conditions(ctx, cidr, ready_condition(cidr, blocked=False, now=ctx.clock.now()))
        return done()
    others = [other for other in ctx.cache(SERVICECIDRS).list() if key_of(other) != key and not is_deleting(other)]
    if is_blocked(cidr, others, (found["metadata"]["name"] for found in ctx.cache(IPADDRESSES).list())):
        await _write_conditions(ctx, cidr, ready_condition(cidr, blocked=True, now=ctx.clock.now()))
        return done()
    waited = (ctx.clock.now() - parse_time(cidr["metadata"]["deletionTimestamp"])).total_seconds()
    if waited < DELETION_GRACE_SECONDS:
        return requeue(after_seconds=DELETION_GRACE_SECONDS - waited)
    finalizers = cidr["metadata"].get("finalizers") or []
    if FINALIZER_SERVICE_CIDR in finalizers:
        await _write_finalizers(ctx, cidr, [name for name in finalizers if name != FINALIZER_SERVICE_CIDR])
    return done()


async def _write_finalizers(ctx: Context, cidr: Object, finalizers: list[str]) -> Object | None:
    """The written object; None if it is gone."""
    try:
        written: Object = await ctx.client.update(SERVICECIDRS, {**cidr, "metadata": {**cidr["metadata"], "finalizers": finalizers}})
    except NotFound:
        return None
    if is_deleting(cidr) and not finalizers:
        ctx.expect_deleted(cidr)
    else:
        ctx.expect_written(written)
    return written


async def _write_conditions(ctx: Context, cidr: Object, wanted: list[Object] | None) -> None:
    if wanted is None:
        return
    try:
        changed = {**cidr, "status": {**(cidr.get("status") or {}), "conditions": wanted}}
        ctx.expect_written(await ctx.client.update(SERVICECIDRS, changed, subresource="status"))
    except NotFound:
        return


def map_address(reader: Reader, address: Object) -> Iterable[Key]:
    """The ranges that are waiting for their addresses to go, when one has gone."""
    return [key_of(cidr) for cidr in reader.cache(SERVICECIDRS).list() if is_deleting(cidr)]


def map_range(reader: Reader, cidr: Object) -> Iterable[Key]:
    """A range may cover others, so those that wait are looked at too."""
    return {key_of(cidr), *map_address(reader, cidr)}


SPEC = ControllerSpec(
    name="servicecidr",
    component="service-cidrs-controller",
    watches={SERVICECIDRS: map_range, IPADDRESSES: map_address},
)

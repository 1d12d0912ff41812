"""Device taint eviction controller: deletes pods whose devices have NoExecute taints, at once or when their toleration runs out.

Watches Pods that use ResourceClaims, ResourceClaims and ResourceSlices. Writes pods' DisruptionTarget condition and deletes pods. Imitates
pkg/controller/devicetainteviction. Leaves out DeviceTaintRules, which Kubernetes does not serve by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import Key, is_deleting, key_of, uid_of
from kubecosm.api.resources import PODS, RESOURCECLAIMS, RESOURCESLICES, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done, requeue
from kubecosm.client.http import PatchType

from ..common.conditions import make
from ..common.deviceclaims import INDEX_CLAIM_USER, claim_keys, claim_names
from ..common.nodes import NO_EXECUTE
from ..common.pods import is_terminal, node_of

INDEX_POOL = "pool"
"""ResourceSlices by driver/pool; ResourceClaims by the pools their devices are of."""
REASON, MESSAGE = "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint"
EVENT = "DeviceTaintManagerEviction"


def pools_of_slice(resource_slice: Object) -> list[str]:
    spec = resource_slice["spec"]
    return [f"{spec['driver']}/{spec['pool']['name']}"]


def results_of(claim: Object) -> list[Object]:
    """The devices that a claim has."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def pools_of_claim(claim: Object) -> list[str]:
    return sorted({f"{result['driver']}/{result['pool']}" for result in results_of(claim)})


def taints_of_pool(slices: Iterable[Object]) -> dict[str, list[Object]]:
    """NoExecute taints by device, of the newest generation of a pool."""
    pool = list(slices)
    newest = max((one["spec"]["pool"].get("generation") or 0 for one in pool), default=0)
    found: dict[str, list[Object]] = {}
    for one in pool:
        if (one["spec"]["pool"].get("generation") or 0) == newest:
            for device in one["spec"].get("devices") or ():
                taints = [taint for taint in device.get("taints") or () if taint.get("effect") == NO_EXECUTE]
                if taints:
                    found[device["name"]] = taints
    return found


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a toleration of a device request is for this NoExecute taint (resourceclaim.ToleratesTaint)."""
    if toleration.get("effect") != NO_EXECUTE or toleration.get("key") not in (None, "", taint["key"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def plan_end(result: Object, taint: Object, now: datetime) -> datetime | None:
    """When a device with this taint must be given back; None if never."""
    added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
    matching = [toleration for toleration in result.get("tolerations") or () if tolerates(toleration, taint)]
    seconds = [toleration.get("tolerationSeconds") for toleration in matching]
    if None in seconds:
        return None
    return added + timedelta(seconds=max(min((one for one in seconds if one is not None), default=0), 0))


def plan_eviction(claim: Object, taints: Mapping[str, Mapping[str, list[Object]]], now: datetime) -> datetime | None:
    """When the users of a claim must go, by the NoExecute taints of its devices (pool → device → taints); None: not at all."""
    ends = [
        plan_end(result, taint, now)
        for result in results_of(claim)
        for taint in taints.get(f"{result['driver']}/{result['pool']}", {}).get(result["device"], ())
    ]
    return min((end for end in ends if end is not None), default=None)


class DeviceTaintEviction:
    """The controller; remembers which pods it is about to evict, to tell them when they may stay after all."""

    def __init__(self) -> None:
        self.SPEC = SPEC
        self._marked: set[str] = set()

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        pod = ctx.cache(PODS).get(key)
        if pod is None or is_deleting(pod) or is_terminal(pod) or not node_of(pod):
            if pod is not None:
                self._marked.discard(uid_of(pod))
            return done()
        now = ctx.clock.now()
        end = _earliest(ctx, pod, now)
        if end is None:
            if uid_of(pod) in self._marked:
                self._marked.discard(uid_of(pod))
                ctx.recorder.event(pod, PODS, "Normal", EVENT, "Cancelling deletion")
            return done()
        if end > now:
            self._marked.add(uid_of(pod))
            return requeue(after_seconds=(end - now).total_seconds())
        self._marked.discard(uid_of(pod))
        await _evict(ctx, pod)
        return done()


def _earliest(ctx: Context, pod: Object, now: datetime) -> datetime | None:
    """When the pod must go because of any of its claims."""
    ends = []
    for name in claim_names(pod):
        claim = ctx.cache(RESOURCECLAIMS).get(Key(pod["metadata"]["namespace"], name))
        if claim is None or not _is_reserved_for(claim, pod):
            continue
        pools = pools_of_claim(claim)
        taints = {pool: taints_of_pool(ctx.cache(RESOURCESLICES).by_index(INDEX_POOL, pool)) for pool in pools}
        ends.append(plan_eviction(claim, taints, now))
    return min((end for end in ends if end is not None), default=None)


def _is_reserved_for(claim: Object, pod: Object) -> bool:
    return any(user.get("uid") == uid_of(pod) for user in (claim.get("status") or {}).get("reservedFor") or ())


async def _evict(ctx: Context, pod: Object) -> None:
    """Say why, then delete gracefully."""
    meta = pod["metadata"]
    ctx.recorder.event(pod, PODS, "Normal", EVENT, "Marking for deletion")
    condition = make("DisruptionTarget", "True", REASON, MESSAGE, ctx.clock.now())
    patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
    try:
        await ctx.client.patch(PODS, meta["name"], patch, meta["namespace"], patch_type=PatchType.STRATEGIC, subresource="status")
        await ctx.client.delete(PODS, meta["name"], meta["namespace"], options={"preconditions": {"uid": uid_of(pod)}})
    except NotFound:
        return
    ctx.expect_deleted(pod)


def map_pod(_reader: Reader, pod: Object) -> Iterable[Key]:
    return (key_of(pod),) if pod["spec"].get("resourceClaims") and node_of(pod) else ()


def map_claim(reader: Reader, claim: Object) -> Iterable[Key]:
    """The pods that use it."""
    return [key_of(pod) for pod in reader.cache(PODS).by_index(INDEX_CLAIM_USER, str(key_of(claim)))]


def map_slice(reader: Reader, resource_slice: Object) -> Iterable[Key]:
    """The pods that have devices of its pool."""
    [pool] = pools_of_slice(resource_slice)
    return [key for claim in reader.cache(RESOURCECLAIMS).by_index(INDEX_POOL, pool) for key in map_claim(reader, claim)]


SPEC = ControllerSpec(
    name="device_taint_eviction",
    component="device-taint-eviction",
    watches={PODS: map_pod, RESOURCECLAIMS: map_claim, RESOURCESLICES: map_slice},
    cares={PODS: lambda old, new: node_of(old) != node_of(new) or is_deleting(old) != is_deleting(new)},
    indexers={
        PODS: {INDEX_CLAIM_USER: claim_keys}, RESOURCECLAIMS: {INDEX_POOL: pools_of_claim}, RESOURCESLICES: {INDEX_POOL: pools_of_slice},
    },
    workers=2,
)  # fmt: skip


def build(_config: object) -> DeviceTaintEviction:
    return DeviceTaintEviction()

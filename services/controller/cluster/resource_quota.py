"""ResourceQuota controller: counts what a namespace uses of its quotas.

Follows ResourceQuotas and every kind that one of them counts, custom ones included. Writes status.hard and status.used. Admission charges
what is created; this controller counts what quotas find there, what goes away, and what anybody missed. Imitates
pkg/controller/resourcequota.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubecosm.api.meta import Key, key_of, uid_of
from kubecosm.api.podresources import Amounts, add, amounts
from kubecosm.api.quantity import Quantity
from kubecosm.api.quota import evaluator_for
from kubecosm.api.resources import (
    BUILTIN,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SERVICES,
    Object,
    Resource,
)
from kubecosm.client.controller import Context, ControllerSpec, Result, requeue
from kubecosm.client.informer import InformerFactory

from ..common.discovery import discover
from ..common.status import update_status
from ..config import Config

ALWAYS_FOLLOWED = (PODS, SERVICES, PERSISTENTVOLUMECLAIMS)
MEASURED = (*ALWAYS_FOLLOWED, RESOURCECLAIMS)
"""Kinds whose objects use more or less of a quota as they change; of others only the number matters. ResourceClaims are followed once a
quota asks for them, as a server may not serve them."""
REST_SECONDS = 0.25
"""Counting follows a burst of changes a few times a second."""
AT_REST_SECONDS = 0.25
"""How long a quota must not have been charged before less is counted than was charged: an object is written right after its charge,
and seen here a moment later. Counting in between would let too many in. (Admission refuses such counts while objects are under way.)
Every charge wakes this controller, so what was charged for an object that never came is found out too."""
REMEMBERED_MAX = 10_000
REDISCOVER_SECONDS = 5.0
"""How often the server is asked at most what a quota's unknown resources could be."""
INCOMPLETE_SECONDS = 0.5
"""When to look again whether a kind that is followed since now has been listed."""
ZERO = Quantity.from_value(0)

Objects = Mapping[Resource, Iterable[Object]]
"""What a namespace holds of each counted resource."""


def plan_used(quota: Object, objects: Objects, now: datetime) -> dict[str, str]:
    """status.used for every resource of spec.hard that is about one of these kinds (quota.CalculateUsage)."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    used: Amounts = {}
    for resource, found in objects.items():
        evaluator = evaluator_for(resource)
        names = evaluator.resources(hard) if evaluator is not None else []
        if evaluator is None or not names:
            continue
        used |= dict.fromkeys(names, ZERO)
        for obj in found:
            if evaluator.in_scope(quota, obj):
                usage = evaluator.usage(obj, now)
                add(used, {name: usage[name] for name in names if name in usage})
    return {name: str(used[name]) for name in hard if name in used}


def counted_kinds(hard: Iterable[str], known: Iterable[Resource]) -> list[Resource]:
    """The kinds that these quota resources are about, each in one version."""
    found: dict[str, Resource] = {}
    for resource in known:
        evaluator = evaluator_for(resource)
        if evaluator is not None and evaluator.resources(hard):
            found.setdefault(resource.group_resource, resource)
    return list(found.values())


def counts_less(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether less of something is used than was."""
    old = amounts(before)
    return any(name in old and value < old[name] for name, value in amounts(now).items())


class ResourceQuotas:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, workers: int, sync_seconds: float) -> None:
        self.SPEC = ControllerSpec(
            name="resource_quota_controller_resource_changes",
            component="resourcequota-controller",
            primary=RESOURCEQUOTAS,
            reads=ALWAYS_FOLLOWED,
            workers=workers,
            connect=self.connect,
        )
        self._sync_seconds = sync_seconds
        self._factory: InformerFactory | None = None
        self._wake: Callable[[Key], None] = lambda key: None
        self._followed: dict[str, Resource] = {}
        self._discovered: list[Resource] = []
        self._discover_again = 0.0
        self._seen: dict[str, tuple[str, float]] = {}
        """uid → the version of a quota last met, and since when."""

    def connect(self, factory: InformerFactory, wake: Callable[[Key], None]) -> None:
        """The runner's hook: where informers come from and how a work item is woken."""
        self._factory, self._wake = factory, wake
        for resource in ALWAYS_FOLLOWED:
            self._follow(resource)

    def _follow(self, resource: Resource) -> None:
        """Let the quotas of a namespace be counted anew when such an object comes, goes or (if it is measured) changes."""
        assert self._factory is not None, "connect is called before anything runs"
        self._followed[resource.group_resource] = resource
        quotas = self._factory.informer(RESOURCEQUOTAS).store
        measured, evaluator = resource in MEASURED, evaluator_for(resource)
        assert evaluator is not None, "only kinds that quotas count are followed"

        def concerned(obj: Object) -> list[Object]:
            found = quotas.list(obj["metadata"].get("namespace", ""))
            return [quota for quota in found if evaluator.resources((quota.get("spec") or {}).get("hard") or ())]

        def wake(obj: Object) -> None:
            for quota in concerned(obj):
                self._wake(key_of(quota))

        def update(old: Object, new: Object) -> None:
            if measured and concerned(new) and amount_matters(old, new):
                wake(new)

        self._factory.informer(resource).add_handler(wake, update, wake)

    # One work item

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        quota = ctx.cache(RESOURCEQUOTAS).get(key)
        if quota is None:
            return Result()
        hard, before = ((quota.get(part) or {}).get(field) or {} for part, field in (("spec", "hard"), ("status", "used")))
        objects, complete = await self._objects(ctx, key.namespace, hard)
        used = plan_used(quota, objects, ctx.clock.now())
        if not complete:
            used = {name: value for name, value in before.items() if name in hard} | used
        wait = self._seconds_to_rest(quota, ctx.clock.monotonic())
        if wait and counts_less(before, used):
            return requeue(after_seconds=wait, rest_seconds=wait)
        await update_status(ctx, RESOURCEQUOTAS, quota, {**(quota.get("status") or {}), "hard": hard, "used": used})
        return requeue(after_seconds=self._sync_seconds if complete else INCOMPLETE_SECONDS, rest_seconds=REST_SECONDS)

    def _seconds_to_rest(self, quota: Object, now: float) -> float:
        """What is missing until the quota has been the same for long enough; counted from when this version was first met."""
        version = quota["metadata"].get("resourceVersion", "")
        seen = self._seen.get(uid_of(quota))
        if seen is None or seen[0] != version:
            if len(self._seen) >= REMEMBERED_MAX:  # quotas that were deleted meanwhile
                self._seen.clear()
            seen = self._seen[uid_of(quota)] = version, now
        return max(seen[1] + AT_REST_SECONDS - now, 0.0)

    async def _objects(self, ctx: Context, namespace: str, hard: Mapping[str, str]) -> tuple[Objects, bool]:
        """What the namespace holds of the kinds that the quota is about, and whether that is all of them."""
        assert self._factory is not None, "connect is called before anything runs"
        resources = counted_kinds(hard, self._known())
        if any(not counted_kinds((name,), resources) for name in hard) and ctx.clock.monotonic() >= self._discover_again:
            self._discover_again = ctx.clock.monotonic() + REDISCOVER_SECONDS
            self._discovered = [found for found in (await discover(ctx.client)).resources if {"list", "watch"} <= set(found.verbs)]
            resources = counted_kinds(hard, self._known())
        held: dict[Resource, Iterable[Object]] = {}
        for resource in resources:
            if resource.group_resource not in self._followed:
                self._follow(resource)
            informer = self._factory.informer(resource)
            if informer.has_synced:
                held[resource] = informer.store.list(namespace)
        return held, len(held) == len(resources)

    def _known(self) -> Iterable[Resource]:
        return (*self._followed.values(), *BUILTIN_KINDS, *self._discovered)


def amount_matters(old: Object, new: Object) -> bool:
    """Whether an object may use more or less than it did: its spec or the parts of its status that are counted have changed."""
    if old.get("spec") != new.get("spec"):
        return True
    before, after = old.get("status") or {}, new.get("status") or {}
    return any(before.get(field) != after.get(field) for field in ("phase", "allocatedResources", "currentVolumeAttributesClassName"))


def _is_countable(row: Resource) -> bool:
    return row.namespaced and {"list", "watch"} <= set(row.verbs) and not row.version.strip("v0123456789")


BUILTIN_KINDS = tuple(row for row in BUILTIN if _is_countable(row))


def build(config: Config) -> ResourceQuotas:
    return ResourceQuotas(config.concurrent_resource_quota_syncs, config.resource_quota_sync_period)

"""Adoption and release: which objects a controller owner may call its own.

Imitates pkg/controller/controller_ref_manager.go: a match without a controller is adopted, an owned object that no longer matches is
released. The decision (`plan_claim`) is pure; `claim` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubecosm.api.errors import Invalid, NotFound
from kubecosm.api.meta import controller_of, controller_ref, is_deleting, uid_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Context, ReconcileError
from kubecosm.client.http import PatchType

from .batches import all_settled, raise_first


class CannotAdopt(ReconcileError):
    """The owner is gone, replaced or being deleted; the next event of the owner decides."""


@dataclass
class ClaimPlan:
    """What belongs to the owner as it is, what to adopt and what to release."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def plan_claim(
    owner: Object, candidates: Iterable[Object], matches: Callable[[Object], bool], adoptable: Callable[[Object], bool] = lambda _: True
) -> ClaimPlan:
    """Sort the candidates; `adoptable` narrows what may be adopted further than the selector does (only active pods, say)."""
    plan = ClaimPlan()
    owner_uid, owner_deleting = uid_of(owner), is_deleting(owner)
    for obj in candidates:
        ref = controller_of(obj)
        if ref is not None:
            if ref["uid"] != owner_uid:
                continue
            if matches(obj):
                plan.owned.append(obj)
            elif not owner_deleting:
                plan.release.append(obj)
        elif not owner_deleting and not is_deleting(obj) and adoptable(obj) and matches(obj):
            plan.adopt.append(obj)
    return plan


async def _check_owner(ctx: Context, resource: Resource, owner: Object) -> None:
    """A fresh read: a stale cache must not adopt for an owner that is already gone (RecheckDeletionTimestamp)."""
    meta = owner["metadata"]
    fresh = await ctx.client.get(resource, meta["name"], meta.get("namespace"))
    if uid_of(fresh) != uid_of(owner):
        where = f"{meta.get('namespace')}/{meta['name']}"
        raise CannotAdopt(f"original {resource.kind} {where} is gone: got uid {uid_of(fresh)}, wanted {uid_of(owner)}")
    if is_deleting(fresh):
        raise CannotAdopt(f"{meta.get('namespace')}/{meta['name']} has just been deleted at {fresh['metadata']['deletionTimestamp']}")


async def _adopt(
    ctx: Context, resource: Resource, obj: Object, owner_resource: Resource, owner: Object, finalizers: list[str]
) -> Object | None:
    patch: Object = {"metadata": {"ownerReferences": [controller_ref(owner, owner_resource)], "uid": uid_of(obj)}}
    if finalizers:
        patch["metadata"]["finalizers"] = finalizers
    return await _patch(ctx, resource, obj, patch)


async def _release(ctx: Context, resource: Resource, obj: Object, owner: Object, finalizers: list[str]) -> Object | None:
    patch: Object = {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": uid_of(owner)}], "uid": uid_of(obj)}}
    if finalizers:
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = finalizers
    try:
        return await _patch(ctx, resource, obj, patch)
    except Invalid:
        return None  # another actor has already taken the reference away, or the object was replaced


async def _patch(ctx: Context, resource: Resource, obj: Object, patch: Object) -> Object | None:
    meta = obj["metadata"]
    try:
        return await ctx.client.patch(resource, meta["name"], patch, meta.get("namespace"), patch_type=PatchType.STRATEGIC)
    except NotFound:
        return None


async def claim(
    ctx: Context, owner_resource: Resource, owner: Object, resource: Resource, plan: ClaimPlan, finalizers: list[str] | None = None
) -> list[Object]:
    """Adopt and release as planned; returns what the owner has now. `finalizers` are added on adoption and taken away on release."""
    if not plan.adopt and not plan.release:
        return plan.owned
    if plan.adopt:
        await _check_owner(ctx, owner_resource, owner)
    marks = finalizers or []
    results = await all_settled(
        [_adopt(ctx, resource, obj, owner_resource, owner, marks) for obj in plan.adopt]
        + [_release(ctx, resource, obj, owner, marks) for obj in plan.release]
    )
    raise_first(results)
    changed = [obj for obj in results if isinstance(obj, dict)]
    for obj in changed:
        ctx.expect_written(obj)
    adopted = [obj for obj in results[: len(plan.adopt)] if isinstance(obj, dict)]
    return [*plan.owned, *adopted]

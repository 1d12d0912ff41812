"""Finalizers that protect what is in use: they come while an object lives, and go when it is deleted and nothing uses it."""

from __future__ import annotations

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Context


def plan_finalizers(obj: Object, finalizer: str, *, in_use: bool) -> list[str] | None:
    """The finalizers the object shall have; None if it has them. Added while it lives, taken away when it goes unused."""
    finalizers = obj["metadata"].get("finalizers") or []
    if is_deleting(obj):
        return [name for name in finalizers if name != finalizer] if finalizer in finalizers and not in_use else None
    return None if finalizer in finalizers else [*finalizers, finalizer]


async def write_finalizers(ctx: Context, resource: Resource, obj: Object, finalizers: list[str] | None) -> None:
    """Give an object these finalizers; None leaves it alone."""
    if finalizers is None:
        return
    try:
        written = await ctx.client.update(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}})
    except NotFound:
        return
    if is_deleting(obj) and not finalizers:
        ctx.expect_deleted(obj)
    else:
        ctx.expect_written(written)

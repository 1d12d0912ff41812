"""Writing the status subresource: not at all when nothing changed, and never over a newer object."""

from __future__ import annotations

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import key_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Context


async def update_status(ctx: Context, resource: Resource, obj: Object, status: Object) -> Object:
    """Write `status` if it differs from what the cache has (or from the object's own, when that is newer); returns the newest object.

    A Conflict means a stale cache: the runner tries again with a newer one.
    """
    cached = ctx.cache(resource).get(key_of(obj))
    is_current = cached is not None and cached["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    before = cached if is_current and cached is not None else obj
    if status == (before.get("status") or {}):
        return before
    try:
        updated = await ctx.client.update(resource, {**obj, "status": status}, subresource="status")
    except NotFound:
        return obj  # gone meanwhile: there is nobody left to tell
    ctx.expect_written(updated)
    return updated

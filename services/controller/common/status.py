"""Writing the status subresource: not at all when nothing changed, and never over a newer object."""

from __future__ import annotations

from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Context


async def update_status(ctx: Context, resource: Resource, obj: Object, status: Object) -> Object:
    """Write `status` if it differs; returns the newest object. A Conflict means a stale cache: the runner tries again with a newer one."""
    if status == (obj.get("status") or {}):
        return obj
    updated = await ctx.client.update(resource, {**obj, "status": status}, subresource="status")
    ctx.expect_written(updated)
    return updated

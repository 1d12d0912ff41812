"""Carrying out a plan for EndpointSlices."""

from __future__ import annotations

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import uid_of
from kubecosm.api.resources import ENDPOINTSLICES, Object
from kubecosm.client.controller import Context

from .batches import all_settled, raise_first


async def write_slices(ctx: Context, create: list[Object], update: list[Object], delete: list[Object]) -> None:
    """Create, then write over, then delete, so that no endpoint is missing from all slices in between. Raises the first error."""
    for calls in (
        [ctx.client.create(ENDPOINTSLICES, body, body["metadata"]["namespace"]) for body in create],
        [ctx.client.update(ENDPOINTSLICES, body) for body in update],
    ):
        results = await all_settled(calls)
        for result in results:
            if not isinstance(result, Exception):
                ctx.expect_written(result)
        raise_first(results)
    raise_first(await all_settled([_delete(ctx, endpoint_slice) for endpoint_slice in delete]))


async def _delete(ctx: Context, endpoint_slice: Object) -> None:
    meta = endpoint_slice["metadata"]
    try:
        options = {"preconditions": {"uid": uid_of(endpoint_slice)}}
        await ctx.client.delete(ENDPOINTSLICES, meta["name"], meta["namespace"], options=options)
    except NotFound:
        return
    ctx.expect_deleted(endpoint_slice)

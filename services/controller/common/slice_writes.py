"""Carrying out a plan for EndpointSlices."""

from __future__ import annotations

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import uid_of
from kubecosm.api.resources import ENDPOINTSLICES, Object
from kubecosm.client.controller import Context
from kubecosm.client.metrics import Family

from .batches import all_settled, raise_first


async def write_slices(ctx: Context, create: list[Object], update: list[Object], delete: list[Object], changes: Family) -> None:
    """Create, then write over, then delete, so that no endpoint is missing from all slices in between. Raises the first error.

    `changes` counts what was done, by operation.
    """
    for verb, bodies, call in (("create", create, _create), ("update", update, _update), ("delete", delete, _delete)):
        results = await all_settled([call(ctx, body) for body in bodies])
        for body, result in zip(bodies, results, strict=True):
            if isinstance(result, Exception):
                name = "" if verb == "create" else f"{body['metadata']['name']} "
                result.add_note(f"failed to {verb} {name}EndpointSlice")
            else:
                ctx.meter.add(changes, verb)
        raise_first(results)


def failure_of(error: Exception, owner: str) -> str:
    """What went wrong with the slices of an owner, such as "Service default/web"."""
    return ": ".join([*(f"{note} for {owner}" for note in getattr(error, "__notes__", ())), str(error)])


async def _create(ctx: Context, body: Object) -> None:
    ctx.expect_written(await ctx.client.create(ENDPOINTSLICES, body, body["metadata"]["namespace"]))


async def _update(ctx: Context, body: Object) -> None:
    ctx.expect_written(await ctx.client.update(ENDPOINTSLICES, body))


async def _delete(ctx: Context, endpoint_slice: Object) -> None:
    meta = endpoint_slice["metadata"]
    try:
        options = {"preconditions": {"uid": uid_of(endpoint_slice)}}
        await ctx.client.delete(ENDPOINTSLICES, meta["name"], meta["namespace"], options=options)
    except NotFound:
        return
    ctx.expect_deleted(endpoint_slice)

"""PATCH: the four kinds of patches on objects, their subresources and their Scale. Imitates apiserver's handlers/patch.go.

A patch that names no resourceVersion is made again on the newest state when somebody else was faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecosm.api import errors, managedfields
from kubecosm.api.errors import BadRequest
from kubecosm.api.patch import APPLY_PATCH, apply_patch
from kubecosm.api.resources import Object, Subresource
from kubecosm.api.schema import STRICT
from kubecosm.api.schema.yaml import YamlError, load

from ..http.request import Request
from ..http.response import Answer
from .body import media_type_of
from .options import WriteOptions, check_apply_options, write_options
from .represent import answer_entry
from .scale import set_scale, tracked
from .store import ResourceStore
from .writes import caller_of

Patched = Callable[[Object | None], Object]
"""From the live object in the served version (None: there is none, apply only) to the patched one, defaulted, with managedFields."""


async def patch(store: ResourceStore, request: Request) -> Answer:
    """PATCH of an object or of a subresource of the same kind."""
    options, media_type = write_options(request, "PatchOptions"), media_type_of(request)
    check_apply_options(options, apply=media_type == APPLY_PATCH)
    body, info = await request.read(), request.info
    if request.audit is not None:
        request.audit.take_patch(body)
    caller, subresource = caller_of(request, options), info.subresource
    strategy, conversion = store.strategy_of(subresource), store.conversion
    manager, now = caller.field_manager, store.state.clock.now()

    if media_type == APPLY_PATCH:
        applied = parse_applied(body, request, options)

        def patched(live: Object | None) -> Object:
            obj = managedfields.apply(store.row, live, applied, manager, bool(options.force), now, subresource)
            store.served_strategy.default(obj)
            return obj
    else:

        def patched(live: Object | None) -> Object:
            assert live is not None
            obj, warnings = apply_patch(store.row, live, body, media_type, options.field_validation)
            request.warn(*warnings)
            store.served_strategy.default(obj)
            managedfields.on_update(store.row, obj, live, manager, now, subresource)
            return obj

    def change(old: Object) -> Object:
        obj = store.to_stored(patched(conversion.from_stored(old)))
        request.warn(*strategy.warnings(obj, old))
        return obj

    def create() -> Object:
        obj = patched(None)
        if uid := obj["metadata"].get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(store.row, info.name, why)
        return store.to_stored(obj)

    may_create = media_type == APPLY_PATCH and not subresource
    entry, created = await store.update(
        info.namespace, info.name, change, caller, subresource=subresource, strategy=strategy, create=create if may_create else None,
        leaves_old=subresource == "status" and media_type != APPLY_PATCH and store.row == store.stored,
    )
    if store.converts:
        await store.prepare([entry.decode()])
    return answer_entry(request, store, entry, 201 if created else 200)


def parse_applied(body: bytes, request: Request, options: WriteOptions) -> Object:
    """The applied configuration as written. Raises BadRequest."""
    try:
        applied, repeats = load(body)
    except YamlError as error:
        raise BadRequest(f"error decoding YAML: {error}") from None
    if repeats and options.field_validation == STRICT:
        raise BadRequest(f"error decoding YAML: {'; '.join(repeats)}")
    if not isinstance(applied, dict):
        raise BadRequest("error decoding YAML: the applied configuration must be an object")
    request.warn(*repeats)
    return check_applied(applied, request)


def check_applied(applied: dict[str, Any], request: Request) -> Object:
    """Raises BadRequest where the URL says something else."""
    meta = applied.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    if name and name != request.info.name:
        raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({request.info.name})")
    return applied


async def patch_scale(store: ResourceStore, request: Request) -> Answer:
    """PATCH of a Scale, whose owners are those of the workload's replicas."""
    options, media_type = write_options(request, "PatchOptions"), media_type_of(request)
    check_apply_options(options, apply=media_type == APPLY_PATCH)
    body = await request.read()
    if request.audit is not None:
        request.audit.take_patch(body)
    subresource: Subresource | None = store.row.subresource("scale")
    caller, now = caller_of(request, options), store.state.clock.now()

    def patched(scale: Object) -> Object:
        changed, warnings = apply_patch(store.row, scale, body, media_type, options.field_validation, subresource=subresource)
        request.warn(*warnings)
        return changed

    if media_type != APPLY_PATCH:
        return await set_scale(store, request, tracked(store, patched, caller), caller)
    applied = parse_applied(body, request, options)

    def merged(scale: Object) -> Object:
        return managedfields.apply(managedfields.SCALES, scale, applied, caller.field_manager, bool(options.force), now, "scale")

    return await set_scale(store, request, merged, caller)

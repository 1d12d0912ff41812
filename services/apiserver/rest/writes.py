"""POST, PUT, DELETE and DELETE of collections: from the request to the store's operations and back to an answer."""

from __future__ import annotations

import asyncio

from kubecosm.api import managedfields
from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..cache.entry import Entry
from ..http.request import Request
from ..http.response import Answer
from .body import decode_body, decode_options
from .options import DeleteOptions, WriteOptions, check_acceptable, delete_options, list_options, write_options
from .reads import selection_of
from .represent import answer_entry, answer_list, answer_object
from .selected import select
from .store import Caller, Deleted, ResourceStore

COLLECTION_WORKERS = 16
"""Deletes under way at once for one DELETE of a collection."""


async def create(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "CreateOptions")
    obj = decode_body(store.row, request, await request.read(), options.field_validation)
    store.served_strategy.default(obj)
    if request.audit is not None:
        request.audit.take_defaulted(obj)
    caller = caller_of(request, options)
    managedfields.on_create(store.row, obj, caller.field_manager, store.state.clock.now())
    obj = store.to_stored(obj)
    warnings = store.strategy.warnings(obj)
    if warnings:
        request.warn(*warnings)
    entry = await store.create(obj, request.info.namespace, caller)
    if store.converts:
        await store.prepare([entry.decode()])
    return answer_entry(request, store, entry, 201)


async def update(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "UpdateOptions")
    info, body, caller = request.info, await request.read(), caller_of(request, options)
    subresource = info.subresource
    strategy = store.strategy_of(subresource)

    def wanted() -> Object:
        obj = decode_body(store.row, request, body, options.field_validation)
        store.served_strategy.default(obj)
        if request.audit is not None:
            request.audit.take_defaulted(obj)
        return obj

    first = [wanted()]  # a body that cannot be decoded is refused before anything is looked up

    def change(old: Object) -> Object:
        obj = first.pop() if first else wanted()
        live = store.conversion.from_stored(old)
        managedfields.on_update(store.row, obj, live, caller.field_manager, store.state.clock.now(), subresource)
        obj = store.to_stored(obj)
        request.warn(*strategy.warnings(obj, old))
        return obj

    def new() -> Object:
        obj = first.pop() if first else wanted()
        managedfields.on_create(store.row, obj, caller.field_manager, store.state.clock.now())
        return store.to_stored(obj)

    may_create = strategy.allow_create_on_update and not subresource
    entry, created = await store.update(
        info.namespace, info.name, change, caller, subresource=subresource, strategy=strategy, create=new if may_create else None
    )
    if store.converts:
        await store.prepare([entry.decode()])
    return answer_entry(request, store, entry, 201 if created else 200)


def caller_of(request: Request, options: WriteOptions) -> Caller:
    manager = managedfields.manager_name(options.field_manager, request.headers.get("User-Agent", ""))
    return Caller(request.user, options.dry_run, manager, options, request)


async def delete(store: ResourceStore, request: Request) -> Answer:
    options = await _delete_options(store, request)
    info = request.info
    deleted = await store.delete(info.namespace, info.name, options, Caller(request.user, options.dry_run, options=options, notes=request))
    if store.converts:
        await store.prepare([deleted.entry.decode()])
    return answer_deleted(request, store, deleted, options)


def answer_deleted(request: Request, store: ResourceStore, deleted: Deleted, options: DeleteOptions) -> Answer:
    """The object while it lingers (or where the kind always answers it), else a Status."""
    if not deleted.gone or store.strategy.returns_deleted_object:
        status = 202 if not deleted.gone and options.orphan_dependents is False else 200
        return answer_entry(request, store, deleted.entry, status)
    meta = deleted.entry.decode()["metadata"]
    details: Object = {"name": meta["name"], "kind": store.row.plural, "uid": meta["uid"]}
    if store.row.group:
        details["group"] = store.row.group
    return answer_object(request, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


async def _delete_options(store: ResourceStore, request: Request) -> DeleteOptions:
    """From the body or, without one, the query."""
    check_acceptable(request)
    body = await request.read()
    return delete_options(request, decode_options(store.row, request, body, "DeleteOptions") if body else None)


async def delete_collection(store: ResourceStore, request: Request) -> Answer:
    """Deletes what a list with the same selectors answers; the answer is that list."""
    options = await _delete_options(store, request)
    listing = list_options(request, watch=False)
    selection = selection_of(store, request.info.namespace, listing)
    if store.converts:
        chosen, _ = await select(store, selection, limit=listing.limit)
    else:
        chosen = list(store.cache.page(selection, limit=listing.limit).entries)
    caller = Caller(request.user, options.dry_run, options=options, notes=request, is_collection=True)
    deleted: list[Entry] = []
    remaining = iter(chosen)

    async def work() -> None:
        for entry in remaining:
            try:
                deleted.append((await store.delete(entry.namespace, entry.name, options, caller)).entry)
            except ApiError as error:
                if error.code != 404:
                    raise

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(COLLECTION_WORKERS, len(chosen))):
                workers.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    if store.converts:
        await store.prepare([entry.decode() for entry in deleted])
    deleted.sort(key=lambda entry: entry.key)
    return answer_list(request, store, deleted, store.state.caches.revision, "", None)

"""POST, PUT, DELETE and DELETE of collections: from the request to the store's operations and back to an answer."""

from __future__ import annotations

import asyncio

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object

from ..cache.entry import Entry
from ..http.request import Request
from ..http.response import Answer
from .body import decode_body, decode_options
from .options import DeleteOptions, delete_options, list_options, write_options
from .reads import selection_of
from .represent import answer_entry, answer_list, answer_object
from .store import Caller, Deleted, ResourceStore

COLLECTION_WORKERS = 16
"""Deletes under way at once for one DELETE of a collection."""


async def create(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "CreateOptions")
    obj = decode_body(store.row, request, await request.read(), options.field_validation)
    store.served_strategy.default(obj)
    obj = store.conversion.to_stored(obj)
    warnings = store.strategy.warnings(obj)
    caller = Caller(request.user, options.dry_run, field_manager_of(request, options.field_manager))
    entry = await store.create(obj, request.info.namespace, caller)
    if warnings:
        request.warn(*warnings)
    return answer_entry(request, store, entry, 201)


async def update(store: ResourceStore, request: Request) -> Answer:
    options = write_options(request, "UpdateOptions")
    info = request.info
    body = await request.read()

    def wanted() -> Object:
        obj = decode_body(store.row, request, body, options.field_validation)
        store.served_strategy.default(obj)
        return store.conversion.to_stored(obj)

    first: list[Object] = [wanted()]
    subresource = info.subresource
    strategy = store.strategy_of(subresource)
    caller = Caller(request.user, options.dry_run, field_manager_of(request, options.field_manager))
    entry, created = await store.update(
        info.namespace, info.name, lambda old: first.pop() if first else wanted(), caller, subresource=subresource, strategy=strategy,
        create=(lambda: first.pop() if first else wanted()) if strategy.allow_create_on_update and not subresource else None,
    )  # fmt: skip
    return answer_entry(request, store, entry, 201 if created else 200)


def field_manager_of(request: Request, given: str) -> str:
    """The manager to whom changes are credited: as given, else the first word of the client's name."""
    if given:
        return given
    return request.headers.get("User-Agent", "").partition("/")[0][:128] or "unknown"


async def delete(store: ResourceStore, request: Request) -> Answer:
    options = await _delete_options(store, request)
    info = request.info
    deleted = await store.delete(info.namespace, info.name, options, Caller(request.user, options.dry_run))
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
    body = await request.read()
    return delete_options(request, decode_options(store.row, request, body, "DeleteOptions") if body else None)


async def delete_collection(store: ResourceStore, request: Request) -> Answer:
    """Deletes what a list with the same selectors answers; the answer is that list."""
    options = await _delete_options(store, request)
    listing = list_options(request, watch=False)
    selection = selection_of(store, request.info.namespace, listing)
    page = store.cache.page(selection, limit=listing.limit)
    caller = Caller(request.user, options.dry_run)
    deleted: list[Entry] = []
    remaining = iter(page.entries)

    async def work() -> None:
        for entry in remaining:
            try:
                deleted.append((await store.delete(entry.namespace, entry.name, options, caller)).entry)
            except ApiError as error:
                if error.code != 404:
                    raise

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(COLLECTION_WORKERS, len(page.entries))):
                workers.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    deleted.sort(key=lambda entry: entry.key)
    return answer_list(request, store, deleted, store.state.caches.revision, "", None)

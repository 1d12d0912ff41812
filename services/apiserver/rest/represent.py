"""Turns entries into answers in the form the client accepts: bytes as they lie, YAML, Table, PartialObjectMetadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from kubecosm.api.errors import BadRequest, NotAcceptable
from kubecosm.api.field import invalid_value
from kubecosm.api.resources import CustomResource, Object, Resource

from ..cache.entry import Entry, without_managed_fields
from ..cache.view import View
from ..http.request import Request
from ..http.response import JSON, Response
from ..printers import printer_for, scale_printer
from .accept import MSGPACK_TYPE, Accepted, accepted
from .store import ResourceStore
from .tables import partial_metadata, table, table_event

_TABLE, _PARTIAL, _PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_LEAN = ("", "lean", "")
"""Where a store keeps its view without managedFields."""
_INCLUDED = ("Metadata", "None", "Object")


def accepted_by(request: Request, *, tabular: bool = True) -> Accepted:
    """Raises NotAcceptable. People get indented JSON."""
    found = accepted(request.headers.get("Accept", ""), tabular)
    return replace(found, pretty=True) if request.for_people and not found.pretty else found


def encode_as(accept: Accepted, obj: Any) -> tuple[bytes, str]:
    """(body, Content-Type) of an object in the accepted media type."""
    if accept.media_type == JSON:
        return orjson.dumps(obj, option=orjson.OPT_INDENT_2 if accept.pretty else 0), JSON
    if accept.media_type == MSGPACK_TYPE:
        from ..packed import pack

        return pack(obj), MSGPACK_TYPE
    import yaml

    return yaml.safe_dump(obj, sort_keys=True, default_flow_style=False, allow_unicode=True).encode(), accept.media_type


def answer_object(request: Request, obj: Object, status: int = 200) -> Response:
    """An object that is not kept in a cache (Status, Scale, reviews)."""
    body, content_type = encode_as(accepted_by(request), obj)
    return Response(status, body, content_type)


def answer_unstored(request: Request, row: Resource, obj: Object, items: Sequence[Object], now: datetime) -> Response:
    """`obj`, or the table of its `items` for who asks for one."""
    accept = accepted_by(request)
    if accept.transform == _TABLE:
        meta = obj["metadata"]
        obj = table(printer_for(row), items, accept.version, now, included(request), meta=meta, stored=lambda item: item)
    body, content_type = encode_as(accept, obj)
    return Response(200, body, content_type)


def answer_scale(request: Request, store: ResourceStore, scale: Object) -> Response:
    """A Scale; a custom resource's has no columns of its own."""
    accept = accepted_by(request)
    if accept.transform == _TABLE and not isinstance(store.row, CustomResource):
        now = store.state.clock.now()
        scale = table(scale_printer(), [scale], accept.version, now, included(request), meta=scale["metadata"], stored=lambda obj: obj)
    body, content_type = encode_as(accept, scale)
    return Response(200, body, content_type)


def answer_review(request: Request, review: Object) -> Response:
    """A review or token, which has no name to stand in a Table: NotAcceptable (406) for who accepts nothing else."""
    body, content_type = encode_as(accepted_by(request, tabular=False), review)
    return Response(201, body, content_type)


def answer_entry(request: Request, store: ResourceStore, entry: Entry, status: int = 200) -> Response:
    """One object."""
    accept = accepted_by(request)
    if store.converts:
        store.require((entry,))
    data = _view_of(store, accept).render(entry.data)
    if accept.is_plain:
        return Response(status, data)
    obj = orjson.loads(data)
    if accept.transform == _TABLE:
        obj = _table(store, [obj], accept, request, obj["metadata"])
    elif accept.transform == _PARTIAL_LIST:
        held = _go_type(store.row, store.row.kind)
        raise NotAcceptable(f"you requested {_PARTIAL_LIST}, but the requested object is not a list ({held})")
    elif accept.transform:
        obj = partial_metadata(obj, accept.version)
    body, content_type = encode_as(accept, obj)
    return Response(status, body, content_type)


def _table(store: ResourceStore, objects: Sequence[Object], accept: Accepted, request: Request, meta: Object) -> Object:
    now, stored = store.state.clock.now(), store.conversion.to_stored
    return table(printer_for(store.row), objects, accept.version, now, included(request), meta=meta, stored=stored)


def included(request: Request) -> str:
    """What the rows of a Table bring of their objects. Raises BadRequest."""
    wanted = request.param("includeObject") or "Metadata"
    if wanted not in _INCLUDED:
        why = invalid_value("includeObject", wanted, "must be 'Metadata', 'Object', 'None', or empty")
        raise BadRequest(f"Unable to convert to Table as requested: {why}")
    return wanted


def _go_type(row: Resource, kind: str) -> str:
    """How Go prints the type that holds such an object."""
    if isinstance(row, CustomResource):
        return "*unstructured.UnstructuredList" if kind == row.list_kind else "*unstructured.Unstructured"
    return f"*{row.group.partition('.')[0] or 'core'}.{kind}"


def answer_list(
    request: Request, store: ResourceStore, entries: Sequence[Entry], revision: int, continue_token: str, remaining: int | None
) -> Response:
    """A page of a list; a plain one is a join of the entries' bytes."""
    accept = accepted_by(request)
    if store.converts:
        store.require(entries)
    meta: Object = {"resourceVersion": str(revision)}
    if continue_token:
        meta["continue"] = continue_token
        if remaining is not None:
            meta["remainingItemCount"] = remaining
    if accept.is_plain:
        return Response(200, _join(store, _view_of(store, accept), entries, meta))
    render = _view_of(store, accept).render
    objects = [orjson.loads(render(entry.data)) for entry in entries]
    listed: Object
    if accept.transform == _TABLE:
        listed = _table(store, objects, accept, request, meta)
    elif accept.transform == _PARTIAL:
        raise NotAcceptable(f"you requested {_PARTIAL}, but the requested object is a list ({_go_type(store.row, store.row.list_kind)})")
    elif accept.transform:
        items = [partial_metadata(obj, accept.version) for obj in objects]
        listed = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{accept.version}", "metadata": meta, "items": items}
    else:
        for obj in objects:
            obj.pop("kind"), obj.pop("apiVersion")
        listed = {"kind": store.row.list_kind, "apiVersion": store.row.api_version, "metadata": meta, "items": objects}
    body, content_type = encode_as(accept, listed)
    return Response(200, body, content_type)


def _join(store: ResourceStore, view: View, entries: Sequence[Entry], meta: Object) -> bytes:
    """Items lie without kind and apiVersion in a list, so each entry loses its first bytes."""
    prefix = store.type_prefix
    if view.is_identity:
        cut = len(prefix)
        items = b",{".join([entry.data[cut:] for entry in entries])
    else:
        items = b",{".join([_without_type(view.render(entry.data), prefix) for entry in entries])
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        store.row.list_kind.encode(), store.row.api_version.encode(), orjson.dumps(meta),
    )  # fmt: skip
    return b"".join((head, b"{" if entries else b"", items, b"]}"))


def _without_type(data: bytes, prefix: bytes) -> bytes:
    if data.startswith(prefix):
        return data[len(prefix) :]
    obj = orjson.loads(data)
    del obj["kind"], obj["apiVersion"]
    return orjson.dumps(obj)[1:]


def _view_of(store: ResourceStore, accept: Accepted) -> View:
    """How objects are rendered before any transformation."""
    base = store.conversion.view
    if not accept.lean:
        return base
    view = store.watch_views.get(_LEAN)
    if view is None:
        name = f"{store.row.api_version}/{store.row.plural} without managedFields"
        view = View(name, lambda data: without_managed_fields(base.render(data)))
        store.watch_views[_LEAN] = view
    return view


def watch_view(store: ResourceStore, accept: Accepted, include: str) -> View:
    """The view of a watch stream, shared by all watches of the same kind so that each event is encoded once."""
    base = _view_of(store, accept)
    packs = accept.media_type == MSGPACK_TYPE
    if not accept.transform and not packs:
        return base
    key = (accept.transform, f"{accept.version}{' packed' * packs}{' lean' * accept.lean}", include)
    view = store.watch_views.get(key)
    if view is None:

        def render(data: bytes) -> bytes:
            if not accept.transform:
                return base.render(data)
            obj = orjson.loads(base.render(data))
            if accept.transform == _TABLE:
                now, stored = store.state.clock.now(), store.conversion.to_stored
                obj = table_event(store.row, obj, accept.version, now, include, stored=stored)
            else:
                obj = partial_metadata(obj, accept.version)
            return orjson.dumps(obj)

        view = store.watch_views[key] = View(f"{store.row.api_version}/{store.row.plural} as {key}", render, packs=packs)
    return view

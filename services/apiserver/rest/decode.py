"""Typed bodies: from bytes to an object of the served row, with the messages of Go's decoder."""

from __future__ import annotations

from typing import cast

import orjson

from kubecosm.api.errors import BadRequest
from kubecosm.api.resources import Object

from ..http.request import Request
from .body import JSON_TYPE, YAML_TYPE, load_untyped, media_type_of, unsupported
from .store import ResourceStore


def decode_body(store: ResourceStore, request: Request, body: bytes, field_validation: str) -> Object:
    """An object of the store's served row. Warnings go to the request. Raises BadRequest, UnsupportedMediaType."""
    media_type = media_type_of(request)
    row = store.row
    if media_type not in (JSON_TYPE, YAML_TYPE):
        raise unsupported()
    obj = load_untyped(body, media_type, row.kind)
    check_type(obj, row.api_version, row.kind)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    return cast(Object, orjson.loads(orjson.dumps(obj)))


def check_type(obj: Object, api_version: str, kind: str) -> None:
    """Raises BadRequest if the body says that it is something else."""
    given_version, given_kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if given_version == api_version and given_kind == kind:
        return
    if not given_version and not given_kind:
        obj["apiVersion"], obj["kind"] = api_version, kind
        return
    if given_version and given_version != api_version:
        raise BadRequest(f"the API version in the data ({given_version}) does not match the expected API version ({api_version})")
    raise BadRequest(f'{given_kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}')

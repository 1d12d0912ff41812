"""Request bodies: from bytes to checked objects."""

from __future__ import annotations

from kubecosm.api import schema
from kubecosm.api.resources import Object, Resource, Subresource

from ..http.request import Request
from .accept import JSON_TYPE, MSGPACK_TYPE


def media_type_of(request: Request) -> str:
    """The body's media type without parameters."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower() or JSON_TYPE


def decode_body(
    row: Resource, request: Request, body: bytes, field_validation: str, *, subresource: Subresource | None = None
) -> Object:
    """An object of the row, or of the subresource if that has a kind of its own. Warnings go to the request.

    Raises BadRequest, UnsupportedMediaType.
    """
    obj, warnings = schema.decode(row, *_readable(request, body), field_validation, subresource=subresource)
    if warnings:
        request.warn(*warnings)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    if request.audit is not None:
        request.audit.take(obj)
    return obj


def decode_options(row: Resource, request: Request, body: bytes, kind: str) -> Object:
    """Options of a verb (DeleteOptions): they belong to the row's group and version. Raises BadRequest, UnsupportedMediaType."""
    target = Subresource("", kind, row.group, row.version, ())
    options = schema.decode(row, *_readable(request, body), schema.IGNORE, subresource=target)[0]
    if request.audit is not None:
        request.audit.take(options)
    return options


def _readable(request: Request, body: bytes) -> tuple[bytes, str]:
    """(body, media type) in a form that schemas decode. Raises BadRequest."""
    media_type = media_type_of(request)
    if media_type != MSGPACK_TYPE:
        return body, media_type
    from ..packed import to_json

    return to_json(body), JSON_TYPE

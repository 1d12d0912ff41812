"""Request bodies: from bytes to checked objects."""

from __future__ import annotations

from kubecosm.api import schema
from kubecosm.api.resources import Object, Resource, Subresource

from ..http.request import Request

JSON_TYPE = "application/json"


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
    obj, warnings = schema.decode(row, body, media_type_of(request), field_validation, subresource=subresource)
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
    options = schema.decode(row, body, media_type_of(request), schema.IGNORE, subresource=target)[0]
    if request.audit is not None:
        request.audit.take(options)
    return options

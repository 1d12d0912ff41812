"""Typed bodies: from bytes to an object of the served row."""

from __future__ import annotations

from kubecosm.api import schema
from kubecosm.api.resources import Object, Resource, Subresource

from ..http.request import Request
from .body import media_type_of


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
    return obj

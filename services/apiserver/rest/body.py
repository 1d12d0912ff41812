"""Request bodies: media types and decoding."""

from __future__ import annotations

from typing import cast

import orjson

from kubecosm.api.errors import BadRequest, UnsupportedMediaType
from kubecosm.api.resources import Object

from ..http.request import Request

JSON_TYPE, YAML_TYPE = "application/json", "application/yaml"
BODY_TYPES = (JSON_TYPE, YAML_TYPE, "application/vnd.kubernetes.protobuf")
"""As listed in the 415; a protobuf body is refused all the same, and clients fall back to JSON."""


def media_type_of(request: Request, default: str = JSON_TYPE) -> str:
    """The body's media type without parameters."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower() or default


def unsupported(accepted: tuple[str, ...] = BODY_TYPES) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}")


def load_untyped(body: bytes, media_type: str, kind: str) -> Object:
    """A body that no schema describes (options, reviews). Raises BadRequest, UnsupportedMediaType."""
    if media_type == YAML_TYPE:
        import yaml

        try:
            obj = yaml.safe_load(body)
        except yaml.YAMLError as error:
            raise BadRequest(f"error parsing YAML: {error}") from error
    elif media_type == JSON_TYPE:
        try:
            obj = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"couldn't get version/kind; json parse error: {error}") from error
    else:
        raise unsupported()
    if not isinstance(obj, dict):
        raise BadRequest(f"the object provided is unrecognized (must be of type {kind})")
    return cast(Object, obj)

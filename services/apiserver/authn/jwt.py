"""JSON web tokens taken apart; whether to believe them is their reader's business."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from kubecosm.api.resources import Object

from .keys import decode64

TOKEN_BYTES_MAX = 256 * 1024


class Jwt(NamedTuple):
    """`signed` is what the signature is of."""

    header: Object
    claims: Object
    signed: bytes
    signature: bytes


def parse_jwt(token: str) -> Jwt | None:
    """None for what is no JSON web token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
        return None
    try:
        header, claims, signature = orjson.loads(decode64(parts[0])), orjson.loads(decode64(parts[1])), decode64(parts[2])
    except ValueError:
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    return Jwt(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)

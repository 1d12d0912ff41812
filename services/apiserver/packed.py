"""Objects as msgpack (`application/msgpack`): bodies, answers and the events of watches, each a map that ends itself. Errors stay JSON.

Packed events are not framed by lines: a reader feeds what comes to an unpacker. Imported only when a client asks for it.
"""

from __future__ import annotations

from typing import Any

import msgpack
import orjson

from kubecosm.api.errors import BadRequest


def pack(obj: Any) -> bytes:
    packed: bytes = msgpack.packb(obj)
    return packed


def to_json(body: bytes) -> bytes:
    """The same body as JSON. Raises BadRequest for what is not one msgpack value of maps, lists, text, numbers, booleans and nil."""
    try:
        return orjson.dumps(msgpack.unpackb(body))
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise BadRequest(f"the object provided is unrecognized: not msgpack: {error}") from error


def pack_event(kind: bytes, data: bytes) -> bytes:
    """A watch event of an object's JSON."""
    return pack({"type": kind.decode(), "object": orjson.loads(data)})

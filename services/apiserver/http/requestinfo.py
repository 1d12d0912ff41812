"""The request_info filter: parses the path once, finds the verb, gives the request its id."""

from __future__ import annotations

import random
from collections.abc import Awaitable

from .handler import Filter, Handler
from .info import PathCache, verb_of
from .request import Request
from .response import Answer


def with_request_info(rng: random.Random) -> Filter:
    """`rng` makes the ids."""
    paths = PathCache()
    getrandbits = rng.getrandbits

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            info = request.info = paths.get(request.path)
            watch = "watch=" in request.raw_query and request.method == "GET" and request.flag("watch")
            request.verb = verb_of(request.method, info, watch)
            request.audit_id = request.headers.get("Audit-ID") or new_uid(getrandbits(128))
            return inner(request)

        return handle

    return wrap


def new_uid(bits: int) -> str:
    """A random (version 4) UUID out of 128 random bits."""
    text = f"{bits & 0xFFFFFFFFFFFF0FFF3FFFFFFFFFFFFFFF | 0x40008000000000000000:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

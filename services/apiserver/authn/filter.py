"""The authentication filter: bearer token, else client certificate, else anonymous."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubecosm.api.errors import Unauthorized

from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from .certificates import user_of_certificate
from .user import ANONYMOUS, User

VerifyToken = Callable[[str], User | None]
"""Answers who a bearer token stands for; None if it does not know it."""


def with_authentication(tokens: Mapping[str, User], verifiers: tuple[VerifyToken, ...], *, anonymous: bool) -> Filter:
    """Sets request.user. 401 for a token nobody knows, and for no credentials at all unless `anonymous`."""
    by_header = {f"Bearer {token}": user for token, user in tokens.items()}

    def authenticate(request: Request) -> User | None:
        header = request.headers.get("Authorization")
        if header is not None:
            user = by_header.get(header)
            if user is not None:
                return user
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return _verify(token.strip())
        return user_of_certificate(request) or (ANONYMOUS if anonymous else None)

    def _verify(token: str) -> User | None:
        found = tokens.get(token)
        if found is not None:
            return found
        return next((user for verify in verifiers if (user := verify(token)) is not None), None)

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            user = authenticate(request)
            if user is None:
                raise Unauthorized("Unauthorized")
            request.user = user
            return await inner(request)

        return handle

    return wrap

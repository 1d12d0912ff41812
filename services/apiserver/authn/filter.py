"""The authentication filter: a front proxy's word, else a client certificate, else a bearer token, else anonymous, as in Kubernetes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from multidict import CIMultiDict

from kubecosm.api.errors import Unauthorized
from kubecosm.runtime.clock import Clock

from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from ..tallies import SAMPLED
from .certificates import certificate_of
from .contract import TokenError, TokenUnion, Verified
from .frontproxy import FrontProxy
from .metrics import ERROR, FAILURE, KNOWN_NAMES, SUCCESS, AuthenticationMetrics
from .user import ANONYMOUS, User

WEBSOCKET_PROTOCOLS = "Sec-WebSocket-Protocol"
WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."
"""Browsers cannot set headers on WebSockets: the token comes as a protocol."""


@dataclass(frozen=True)
class AnonymousAccess:
    """Whether requests without credentials are let in: everywhere, or at some paths only."""

    enabled: bool = True
    paths: frozenset[str] = frozenset()

    def allows(self, path: str) -> bool:
        return self.enabled and (not self.paths or path in self.paths)


@dataclass
class Authenticators:
    """All ways to prove who one is; `anonymous` may change while the server runs."""

    tokens: TokenUnion
    static: Mapping[str, User]
    anonymous: AnonymousAccess = AnonymousAccess()
    front_proxy: FrontProxy | None = None
    accepts_certificates: bool = True
    """Whether there is an authority of client certificates beside that of front proxies."""


def with_authentication(ways: Authenticators, clock: Clock, metrics: AuthenticationMetrics) -> Filter:
    """Sets request.user. 401 for a token nobody knows, and for no credentials at all where the anonymous are not let in."""
    now = clock.monotonic
    by_header = {f"Bearer {token}": user for token, user in ways.static.items()}
    tokens, proxy = ways.tokens, ways.front_proxy

    def by_certificate(request: Request) -> User | None:
        found = certificate_of(request, clock)
        if found is None:
            return None
        if proxy is None:
            return found.user
        if found.issuer in proxy.authorities:
            return proxy.user_of(request.headers) if proxy.is_proxy(found.issuer, found.common_name) else None
        return found.user if ways.accepts_certificates else None

    def authenticate(request: Request) -> User | Awaitable[Verified]:
        """Raises Unauthorized, TokenError."""
        user = by_certificate(request)
        if user is not None:
            return user
        header = request.headers.get("Authorization")
        token = ""
        if header is not None:
            user = by_header.get(header)
            if user is not None:
                return user
            scheme, _, rest = header.partition(" ")
            token = rest.strip() if scheme.lower() == "bearer" else ""
        elif WEBSOCKET_PROTOCOLS in request.headers:
            token = websocket_token(request.headers[WEBSOCKET_PROTOCOLS])
            if token:
                request.headers = without_bearer(request.headers)
        if token:
            found = tokens.verify(token)
            return found.user if isinstance(found, Verified) else found
        if not ways.anonymous.allows(request.info.path):
            raise Unauthorized("Unauthorized")
        return ANONYMOUS

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            try:
                found = authenticate(request)
                if isinstance(found, User):
                    user = request.user = found
                    metrics.at_once += 1
                    if not metrics.at_once % SAMPLED:
                        metrics.sample(now() - request.started)
                else:
                    user = request.user = (await found).user
                    metrics.measured(SUCCESS, now() - request.started)
            except TokenError as error:
                metrics.measured(ERROR, now() - request.started)
                raise Unauthorized("Unauthorized") from error
            except Unauthorized:
                metrics.measured(FAILURE, now() - request.started)
                raise
            if user.name in KNOWN_NAMES or "@" in user.name:
                metrics.count_name(user.name)
            return await inner(request)

        return handle

    return wrap


def without_bearer(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers without the token, which is nobody's business behind this filter."""
    kept = CIMultiDict(headers)
    protocols = [name.strip() for name in headers[WEBSOCKET_PROTOCOLS].split(",")]
    kept[WEBSOCKET_PROTOCOLS] = ", ".join(name for name in protocols if not name.startswith(WEBSOCKET_BEARER))
    return kept


def websocket_token(protocols: str) -> str:
    """The token among the protocols that a WebSocket client offers; empty if there is none."""
    for protocol in protocols.split(","):
        name = protocol.strip()
        if name.startswith(WEBSOCKET_BEARER):
            encoded = name[len(WEBSOCKET_BEARER) :]
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
    return ""

"""The authentication filter: a front proxy's word, else a client certificate, else a bearer token, else anonymous, as in Kubernetes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from multidict import CIMultiDict

from kubecosm.api.errors import Unauthorized
from kubecosm.runtime.clock import Clock

from ..http.alike import Alikes
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer
from ..tallies import SAMPLED
from .certificates import certificate_of
from .contract import Notes, TokenError, TokenUnion, Verified
from .frontproxy import FrontProxy
from .metrics import ERROR, FAILURE, SUCCESS, AuthenticationMetrics
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


def with_authentication(
    ways: Authenticators, clock: Clock, metrics: AuthenticationMetrics, alikes: Alikes,
    on_refusal: Callable[[Request], Awaitable[None]] | None = None,
) -> Filter:  # fmt: skip
    """Sets request.user. 401 for a token nobody knows, and for no credentials at all where the anonymous are not let in.

    `on_refusal` is told of requests that are refused here.
    """
    now, authenticate = clock.monotonic, authenticator(ways, clock, metrics.certificate_seconds.observe)

    async def refuse(request: Request, error: TokenError | Unauthorized) -> Answer:
        metrics.measured(ERROR if isinstance(error, TokenError) else FAILURE, now() - request.started)
        if isinstance(error, TokenError) and error.audit:
            tell(request, Notes(error.audit))
        if on_refusal is not None:
            await on_refusal(request)
        raise Unauthorized("Unauthorized") from error

    def take(request: Request, user: User) -> None:
        request.user = user
        alike = request.alike = alikes.of(user, request.verb, request.info)
        if alike.has_known_name:
            metrics.count_name(user.name)

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            try:
                found = authenticate(request)
            except (TokenError, Unauthorized) as error:
                return refuse(request, error)
            if not isinstance(found, User):
                return waited(found, request)
            metrics.at_once += 1
            if not metrics.at_once % SAMPLED:
                metrics.sample(now() - request.started)
            take(request, found)
            return inner(request)

        async def waited(pending: Awaitable[Verified], request: Request) -> Answer:
            try:
                user = (await pending).user
            except TokenError as error:
                return await refuse(request, error)
            metrics.measured(SUCCESS, now() - request.started)
            take(request, user)
            return await inner(request)

        return handle

    return wrap


Authenticate = Callable[[Request], User | Awaitable[Verified]]


def authenticator(ways: Authenticators, clock: Clock, told: Callable[[float], None] | None = None) -> Authenticate:
    """Who asks, by the first of the ways that tells. What is returned raises Unauthorized, TokenError."""
    by_header = {f"Bearer {token}": user for token, user in ways.static.items()}
    tokens, proxy = ways.tokens, ways.front_proxy

    def by_certificate(request: Request) -> User | None:
        found = certificate_of(request, clock, told)
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
            if not isinstance(found, Verified):
                return found
            if found.notes is not None:
                tell(request, found.notes)
            return found.user
        if not ways.anonymous.allows(request.info.path):
            raise Unauthorized("Unauthorized")
        return ANONYMOUS

    return authenticate


def tell(request: Request, notes: Notes) -> None:
    """Pass on what is to be known of the token that was used."""
    for key, value in notes.audit.items():
        request.annotate(key, value)
    if notes.warning:
        request.warn(notes.warning)


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

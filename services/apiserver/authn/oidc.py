"""Tokens of OpenID Connect providers: what their claims mean here is configured, by flags or by an AuthenticationConfiguration.

Imitates k8s.io/apiserver/plugin/pkg/authenticator/token/oidc.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubecosm.api.names import USER_EXTRA_CREDENTIAL_ID
from kubecosm.api.resources import Object

from ..authz.rules import quoted_list
from ..outside import Outside, OutsideError
from ..plainexpressions import Expression, ExpressionError
from .contract import TokenError, Verified, meant_for
from .distributed import ClaimResolver
from .jwks import ProviderKeys
from .jwt import Jwt, parse_jwt
from .user import GROUP_AUTHENTICATED, User, user_info

NOT_BEFORE_LEEWAY_SECONDS = 300
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""What a structured configuration accepts; the flags accept what --oidc-signing-algs says."""


@dataclass(frozen=True)
class Claim:
    """A claim and what is put before its value, or an expression over all claims."""

    name: str
    prefix: str = ""
    expression: Expression | None = None

    def value(self, claims: Object, what: str) -> Any:
        """None if there is no such claim. Raises TokenError."""
        if self.expression is None:
            return claims.get(self.name)
        try:
            return self.expression({"claims": claims})
        except ExpressionError as error:
            raise TokenError(f"oidc: error evaluating {what} claim expression: {error}") from error


@dataclass(frozen=True)
class Rule:
    """A condition that a token's claims or user must meet, and what is said if they do not."""

    expression: Expression
    message: str

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises TokenError."""
        try:
            holds = self.expression(values)
        except ExpressionError as error:
            raise TokenError(f"oidc: error evaluating validation expression: {error}") from error
        if holds is not True:
            why = self.message or f"validation expression '{self.expression.source}' failed"
            raise TokenError(f"oidc: {why}")


@dataclass(frozen=True)
class Provider:
    """One issuer and what its claims mean."""

    issuer: str
    audiences: tuple[str, ...]
    username: Claim
    groups: Claim | None = None
    uid: Claim | None = None
    extra: tuple[tuple[str, Claim], ...] = ()
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()
    required: Mapping[str, str] = field(default_factory=dict)
    algorithms: tuple[str, ...] = ALGORITHMS
    discovery_url: str = ""


class OidcTokens:
    """The tokens of one provider."""

    def __init__(
        self, provider: Provider, keys: ProviderKeys, now: Callable[[], datetime], api_audiences: tuple[str, ...],
        claims_client: Outside, keys_of: Callable[[str], ProviderKeys],
    ) -> None:  # fmt: skip
        """`claims_client` asks for distributed claims, `keys_of` finds the keys of those who sign them."""
        groups = provider.groups.name if provider.groups is not None else ""
        self._resolver = ClaimResolver(groups, claims_client, keys_of, self._verify) if groups else None
        self._provider = provider
        self._keys = keys
        self._now = now
        self._api_audiences = api_audiences

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | Awaitable[Verified | None] | None:
        parsed = parse_jwt(token)
        accepted = meant_for(audiences, self._api_audiences)
        if parsed is None or parsed.claims.get("iss") != self._provider.issuer or not accepted:
            return None
        return self._check(parsed, accepted)

    async def _check(self, token: Jwt, accepted: tuple[str, ...]) -> Verified:
        """Raises TokenError."""
        await self._verify(token, self._keys)
        claims = token.claims
        if self._resolver is not None:
            claims = await self._resolver.expand(claims)
        return Verified(user_of(self._provider, claims), accepted)

    async def _verify(self, token: Jwt, keys: ProviderKeys) -> None:
        """Whether a token is signed by one of the keys, meant for us and good at this time. Raises TokenError."""
        check_times(token.claims, self._now().timestamp())
        given = token.claims.get("aud") or ()
        audiences = [given] if isinstance(given, str) else list(given)
        if not meant_for(self._provider.audiences, audiences):
            wanted = quoted_list(self._provider.audiences)
            raise TokenError(f"oidc: verify token: oidc: expected audience in {wanted} got {quoted_list(audiences)}")
        try:
            signed = await keys.signed(token, self._provider.algorithms)
        except OutsideError as error:
            raise TokenError(f"oidc: verify token: fetching keys {error}") from error
        if not signed:
            raise TokenError("oidc: verify token: failed to verify signature: failed to verify id token signature")


def check_times(claims: Object, now: float) -> None:
    """Raises TokenError for a token that is over or has not begun."""
    expires, begins = claims.get("exp"), claims.get("nbf")
    if not isinstance(expires, int | float) or expires < now:
        raise TokenError("oidc: verify token: oidc: token is expired")
    if isinstance(begins, int | float) and begins > now + NOT_BEFORE_LEEWAY_SECONDS:
        raise TokenError("oidc: verify token: oidc: current time is before the nbf (not before) time")


def user_of(provider: Provider, claims: Object) -> User:
    """Who the claims speak of. Pure. Raises TokenError."""
    name = provider.username.value(claims, "username")
    if not isinstance(name, str) or not name:
        raise TokenError(f'oidc: parse username claims "{provider.username.name}": claim not present')
    if provider.username.name == "email" and claims.get("email_verified", True) is not True:
        raise TokenError("oidc: email not verified")
    for claim, wanted in provider.required.items():
        if claim not in claims:
            raise TokenError(f"oidc: required claim {claim} not present in ID token")
        if claims[claim] != wanted:
            raise TokenError(f"oidc: required claim {claim} value does not match. Got = {claims[claim]}, want = {wanted}")
    for rule in provider.claim_rules:
        rule.check({"claims": claims})
    groups = _texts(provider.groups, claims, "groups")
    uid = provider.uid.value(claims, "uid") if provider.uid is not None else ""
    if not isinstance(uid or "", str):
        raise TokenError("oidc: parse uid claim: not a string")
    extra = {key: found for key, claim in provider.extra if (found := _texts(claim, claims, f"extra {key}"))}
    if isinstance(claims.get("jti"), str):
        extra[USER_EXTRA_CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
    user = User(provider.username.prefix + name, (*groups, GROUP_AUTHENTICATED), uid or "", extra)
    shown = user_info(user) | {"uid": user.uid, "groups": list(groups), "extra": {key: list(values) for key, values in extra.items()}}
    for rule in provider.user_rules:
        rule.check({"user": shown})
    return user


def _texts(claim: Claim | None, claims: Object, what: str) -> tuple[str, ...]:
    """A claim that is a text or a list of texts. Raises TokenError."""
    given: Any = claim.value(claims, what) if claim is not None else None
    if claim is None or given is None or given == "":
        return ()
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TokenError(f'oidc: parse {what} claim "{claim.name}": json: cannot unmarshal into a list of strings')
    return tuple(claim.prefix + name for name in names if claim.prefix + name != GROUP_AUTHENTICATED)

"""Distributed claims: a token may say that its groups are told by somebody else, in a token of his own.

Imitates the claim resolver of k8s.io/apiserver/plugin/pkg/authenticator/token/oidc. As there, aggregated claims (a token within the token)
are passed over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from kubecosm.api.resources import Object

from ..outside import Outside, OutsideError
from .contract import TokenError
from .jwks import ProviderKeys
from .jwt import Jwt, parse_jwt

CLAIM_NAMES, CLAIM_SOURCES = "_claim_names", "_claim_sources"
ISSUERS_MAX = 16
"""Issuers of claims whose keys are remembered, per provider."""
Verify = Callable[[Jwt, ProviderKeys], Awaitable[None]]
"""Whether a token of some issuer is in order; raises TokenError."""


class Source(NamedTuple):
    """Where a claim is told."""

    endpoint: str
    access_token: str


def source_of(claim: str, claims: Object) -> Source | None:
    """Who tells a claim; None if nobody else does. Pure. Raises TokenError."""
    names = claims.get(CLAIM_NAMES)
    if names is None:
        return None
    if not _is_texts(names):
        raise TokenError("oidc: error parsing distributed claim names: not an object of strings")
    sources = claims.get(CLAIM_SOURCES)
    if sources is None:
        raise TokenError("oidc: error parsing distributed claims: no claim sources")
    if not isinstance(sources, dict):
        raise TokenError("oidc: error parsing distributed claim sources: not an object")
    named = names.get(claim)
    if named is None:
        return None
    found = sources.get(named)
    if not isinstance(found, dict):
        raise TokenError(
            f"oidc: could not expand distributed claims: id token {CLAIM_NAMES} contained a source {named} missing in {CLAIM_SOURCES}"
        )
    endpoint, token = found.get("endpoint", ""), found.get("access_token", "")
    return Source(str(endpoint), str(token)) if endpoint else None


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


class ClaimResolver:
    """Asks for one claim of the tokens of one provider."""

    def __init__(self, claim: str, client: Outside, keys_of: Callable[[str], ProviderKeys], verify: Verify) -> None:
        """`client` trusts whom the provider's client trusts; `keys_of` finds an issuer's keys."""
        self._claim = claim
        self._client = client
        self._keys_of = keys_of
        self._verify = verify
        self._keys: dict[str, ProviderKeys] = {}

    async def expand(self, claims: Object) -> Object:
        """The claims with the one that somebody else tells, if that is so. Raises TokenError."""
        source = source_of(self._claim, claims)
        if source is None:
            return claims
        try:
            text = await self._client.get_text(source.endpoint, source.access_token)
        except OutsideError as error:
            why = f'while getting distributed claim "{self._claim}": {error}'
            raise TokenError(f"oidc: could not expand distributed claims: {why}") from error
        token = parse_jwt(text.strip())
        if token is None or not isinstance(token.claims.get("iss"), str):
            raise TokenError(
                f"oidc: could not expand distributed claims: getting untrusted issuer from endpoint {source.endpoint} failed for claim "
                f'"{self._claim}": it answered no token'
            )
        await self._verify(token, self._issuer_keys(token.claims["iss"]))
        if self._claim not in token.claims:
            raise TokenError(
                f'oidc: could not expand distributed claims: jwt returned by distributed claim endpoint "{source.endpoint}" '
                f"did not contain claim: {self._claim}"
            )
        return {**claims, self._claim: token.claims[self._claim]}

    def _issuer_keys(self, issuer: str) -> ProviderKeys:
        if issuer not in self._keys:
            if len(self._keys) >= ISSUERS_MAX:
                self._keys.clear()
            self._keys[issuer] = self._keys_of(issuer)
        return self._keys[issuer]

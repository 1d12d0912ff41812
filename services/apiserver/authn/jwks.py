"""The keys of an OpenID Connect provider: found through its discovery document, fetched when first needed and when an unknown key signs.

Imitates github.com/coreos/go-oidc (RemoteKeySet).
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..outside import Outside, OutsideError
from .jwt import Jwt
from .keys import PublicKey, key_of_jwk

REFETCH_SECONDS_MIN = 10.0
"""Keys are not asked for more often than this, whatever tokens claim to be signed by."""


class ProviderKeys:
    """The keys of one issuer."""

    def __init__(self, issuer: str, discovery_url: str, client: Outside, clock: Clock) -> None:
        self._issuer = issuer
        self._discovery_url = discovery_url or issuer.rstrip("/") + "/.well-known/openid-configuration"
        self._client = client
        self._clock = clock
        self._keys: list[PublicKey] = []
        self._fetched_at: float | None = None
        self._fetching = asyncio.Lock()

    async def signed(self, token: Jwt, algorithms: tuple[str, ...]) -> bool:
        """Whether one of the keys signed the token by one of the algorithms. Raises OutsideError if the keys cannot be had."""
        algorithm = token.header.get("alg")
        if algorithm not in algorithms:
            return False
        if self._is_signed_by_known(token, algorithm):
            return True
        return await self._refetch() and self._is_signed_by_known(token, algorithm)

    def _is_signed_by_known(self, token: Jwt, algorithm: str) -> bool:
        wanted = token.header.get("kid")
        return any(
            key.algorithm == algorithm and (not wanted or key.key_id == wanted) and key.verify(token.signed, token.signature)
            for key in self._keys
        )

    async def _refetch(self) -> bool:
        """Whether there are newer keys than before."""
        asked_at = self._clock.monotonic()
        async with self._fetching:
            if self._fetched_at is not None and asked_at - self._fetched_at < REFETCH_SECONDS_MIN:
                return self._fetched_at > asked_at
            document = _object(await self._client.get(self._discovery_url))
            if document.get("issuer") != self._issuer:
                raise OutsideError(f"{self._discovery_url} is the document of issuer {document.get('issuer')!r}, not of {self._issuer!r}")
            keys = _object(await self._client.get(document.get("jwks_uri", "")))
            self._keys = [key for entry in keys.get("keys") or () if (key := key_of_jwk(entry)) is not None]
            self._fetched_at = self._clock.monotonic()
            return True


def _object(answer: Any) -> Object:
    if not isinstance(answer, dict):
        raise OutsideError("the provider answered something that is no object")
    return answer

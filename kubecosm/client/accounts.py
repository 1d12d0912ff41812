"""A client that acts as a ServiceAccount: several of them share connections, and each gets tokens for its account when it needs them.

Imitates staging/src/k8s.io/controller-manager/pkg/clientbuilder (TokenSource): the account is made if it is missing, tokens last an hour
and are renewed when most of that is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

from kubecosm.api.errors import AlreadyExists, NotFound, Unauthorized
from kubecosm.api.names import NAMESPACE_SYSTEM
from kubecosm.api.resources import SERVICEACCOUNTS, Object
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import REQUEST_TIMEOUT_SECONDS, ApiClient

TOKEN_SECONDS = 3600
RENEWED_AFTER = 0.8
"""The part of a token's time after which another is asked for."""


def without_credentials(config: ClientConfig) -> ClientConfig:
    """For the connections that such clients share: a client certificate would count before their tokens."""
    return replace(config, client_certificate_data=b"", client_key_data=b"", token="", token_file=None)


class AccountClient(ApiClient):
    """Requests as kube-system's account `name`, over the connections of `shared`; `owner` may make the account and its tokens.

    Watches go through it too, but only with a token that a request has got before.
    """

    def __init__(self, shared: ApiClient, owner: ApiClient, name: str) -> None:
        """`shared` must be open, and stay so as long as this one is used."""
        super().__init__(shared.config, clock=shared.clock, user_agent=shared.user_agent, accept=shared.accept)
        self._share(shared)
        self._owner = owner
        self._name = name
        self._renew_at = float("-inf")
        self._renewing = asyncio.Lock()

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> bytes:  # fmt: skip
        """As ApiClient's; a token that is refused is replaced once (somebody deleted the account)."""
        await self._ensure_token()
        try:
            return await super().request(method, path, params=params, body=body, headers=headers, timeout_seconds=timeout_seconds)
        except Unauthorized:
            self._renew_at = float("-inf")
            await self._ensure_token()
            return await super().request(method, path, params=params, body=body, headers=headers, timeout_seconds=timeout_seconds)

    async def _ensure_token(self) -> None:
        if self.clock.monotonic() < self._renew_at:
            return
        async with self._renewing:
            if self.clock.monotonic() >= self._renew_at:
                self._token = await self._new_token()
                self._renew_at = self.clock.monotonic() + TOKEN_SECONDS * RENEWED_AFTER

    async def _new_token(self) -> str:
        spec = {"expirationSeconds": TOKEN_SECONDS}
        request: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            answer = await self._owner.create(SERVICEACCOUNTS, request, NAMESPACE_SYSTEM, name=self._name, subresource="token")
        except NotFound:
            meta = {"name": self._name, "namespace": NAMESPACE_SYSTEM}
            with contextlib.suppress(AlreadyExists):  # somebody else was faster
                await self._owner.create(SERVICEACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
            answer = await self._owner.create(SERVICEACCOUNTS, request, NAMESPACE_SYSTEM, name=self._name, subresource="token")
        return str(answer["status"]["token"])

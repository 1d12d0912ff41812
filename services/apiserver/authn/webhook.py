"""Tokens that a service outside knows: it is asked by TokenReviews. Imitates k8s.io/apiserver/plugin/pkg/authenticator/token/webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable

from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.remembered import Remembered

from ..outside import KubeconfigWebhook, OutsideError
from .contract import TokenError, Verified, meant_for
from .metrics import TokenCacheMetrics
from .user import GROUP_AUTHENTICATED, User

REMEMBERED_MAX = 4096
GROUP = "authentication.k8s.io"
VERSIONS = ("v1", "v1beta1")
NOT_KNOWN = "not known"


class WebhookTokens:
    """Remembers answers, good and bad, for a while; by the token's hash."""

    def __init__(
        self, webhook: KubeconfigWebhook, clock: Clock, *, version: str, cache_seconds: float, api_audiences: tuple[str, ...]
    ) -> None:
        self._webhook = webhook
        self._version = version
        self._cache_seconds = cache_seconds
        self._api_audiences = api_audiences
        self._remembered: Remembered[Verified | str] = Remembered(clock.monotonic, REMEMBERED_MAX)
        self._now = clock.monotonic
        self.metrics = TokenCacheMetrics()

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | Awaitable[Verified | None] | None:
        """Raises TokenError."""
        key = (hashlib.sha256(token.encode()).digest(), audiences)
        known = self._remembered.get(key)
        if known is None:
            return self._fetch(token, audiences, key)
        self.metrics.requests["hit"].observe(0.0)
        return _told(known)

    async def _fetch(self, token: str, audiences: tuple[str, ...], key: tuple[bytes, tuple[str, ...]]) -> Verified | None:
        metrics, started, outcome = self.metrics, self._now(), "error"
        metrics.in_flight += 1
        try:
            found = await self._ask(token, audiences, key)
            outcome = "ok"
            return found
        finally:
            metrics.in_flight -= 1
            metrics.fetches[outcome] += 1
            metrics.requests["miss"].observe(self._now() - started)

    async def _ask(self, token: str, audiences: tuple[str, ...], key: tuple[bytes, tuple[str, ...]]) -> Verified | None:
        review: Object = {
            "apiVersion": f"{GROUP}/{self._version}", "kind": "TokenReview", "metadata": {},
            "spec": {"token": token, "audiences": list(audiences)},
        }  # fmt: skip
        try:
            answer = await self._webhook.ask(review)
        except OutsideError as error:
            raise TokenError(f"webhook: {error}") from error
        outcome = self._outcome(answer.get("status") or {}, audiences)
        self._remembered.put(key, outcome, self._cache_seconds)
        return _told(outcome)

    def _outcome(self, status: Object, audiences: tuple[str, ...]) -> Verified | str:
        """Who the token stands for, or why it is not good."""
        if not status.get("authenticated"):
            return status.get("error") or NOT_KNOWN
        accepted = meant_for(audiences, status.get("audiences") or self._api_audiences)
        if audiences and not accepted:
            return NOT_KNOWN
        user = status.get("user") or {}
        groups = tuple(user.get("groups") or ())
        if GROUP_AUTHENTICATED not in groups:
            groups = (*groups, GROUP_AUTHENTICATED)
        extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
        return Verified(User(user.get("username", ""), groups, user.get("uid", ""), extra), accepted)


def _told(outcome: Verified | str) -> Verified | None:
    if isinstance(outcome, Verified):
        return outcome
    if outcome == NOT_KNOWN:
        return None
    raise TokenError(outcome)

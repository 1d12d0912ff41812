"""Bootstrap tokens: `id.secret` pairs kept as Secrets of their own type, with which new nodes introduce themselves.

Imitates plugin/pkg/auth/authenticator/token/bootstrap and cluster-bootstrap/token.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from datetime import datetime

from kubecosm.api.names import NAMESPACE_SYSTEM, SECRET_BOOTSTRAP_TOKEN
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from .contract import Verified, meant_for
from .user import GROUP_AUTHENTICATED, User

TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\Z")
GROUP_SUFFIX = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\Z")
SECRET_PREFIX = "bootstrap-token-"
USER_PREFIX, GROUP = "system:bootstrap:", "system:bootstrappers"


class BootstrapTokens:
    """The tokens that lie in kube-system as Secrets."""

    def __init__(
        self, find_secret: Callable[[str, str], Object | None], now: Callable[[], datetime], api_audiences: tuple[str, ...]
    ) -> None:
        """`find_secret`: (namespace, name) → the Secret."""
        self._find_secret = find_secret
        self._now = now
        self._api_audiences = api_audiences

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | None:
        found = TOKEN.match(token)
        accepted = meant_for(audiences, self._api_audiences)
        if found is None or not accepted:
            return None
        secret = self._find_secret(NAMESPACE_SYSTEM, SECRET_PREFIX + found[1])
        groups = None if secret is None else groups_of(secret, found[1], found[2], self._now())
        return None if groups is None else Verified(User(USER_PREFIX + found[1], groups), accepted)


def groups_of(secret: Object, token_id: str, token_secret: str, now: datetime) -> tuple[str, ...] | None:
    """The groups that a token with this id and secret gives at `now`; None if the Secret does not make it good."""
    if secret.get("type") != SECRET_BOOTSTRAP_TOKEN or secret["metadata"].get("deletionTimestamp"):
        return None
    data = {name: base64.b64decode(value).decode(errors="replace") for name, value in (secret.get("data") or {}).items()}
    if data.get("token-id") != token_id or not hmac.compare_digest(data.get("token-secret", ""), token_secret):
        return None
    if data.get("usage-bootstrap-authentication") != "true" or not _lasts(data.get("expiration", ""), now):
        return None
    extra = [group for group in data.get("auth-extra-groups", "").split(",") if group]
    if any(GROUP_SUFFIX.match(group) is None for group in extra):
        return None
    return (GROUP, *sorted(set(extra)), GROUP_AUTHENTICATED)


def _lasts(expiration: str, now: datetime) -> bool:
    """Whether a token is still good; one whose end cannot be understood is not."""
    if not expiration:
        return True
    try:
        return parse_time(expiration) > now
    except ValueError:
        return False

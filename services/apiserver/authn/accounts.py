"""ServiceAccount tokens: JSON web tokens bound to an account and, if asked, to a pod, Secret or node that must still exist.

Imitates pkg/serviceaccount (claims.go, legacy.go, jwt.go).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from kubecosm.api.names import DOMAIN, USER_EXTRA_PREFIX
from kubecosm.api.resources import Object

from ..authz.rules import quoted_list
from .contract import TokenError, Verified, meant_for
from .jwt import parse_jwt
from .keys import PublicKey, SigningKey, encode64, load_public_keys, load_signing_key, make_signing_key
from .user import GROUP_AUTHENTICATED, User

USER_PREFIX = "system:serviceaccount:"
GROUP_ALL = "system:serviceaccounts"
CLAIM = DOMAIN
LEEWAY_SECONDS = 60
"""How far the clock that made a token may be ahead of ours."""
VERIFIED_MAX = 4096
"""Tokens whose signature has been checked and is remembered; what they are bound to is looked at every time."""

LEGACY_ISSUER, LEGACY_CLAIM = "kubernetes/serviceaccount", f"{DOMAIN}/serviceaccount"
"""Of tokens kept in Secrets, as clusters of old made them."""

HoldsToken = Callable[[str, str, str], bool]
"""(namespace, Secret, token) → whether the Secret exists and holds the token."""
FindUid = Callable[[str, str, str], str | None]
"""(kind, namespace, name) → the uid of the ServiceAccount, Pod, Secret or Node of that name; None if there is none."""


class TokenKeys:
    """The keys of a server, read when they are first needed."""

    def __init__(self, signing_key_file: str, key_files: Sequence[str]) -> None:
        self._signing_key_file = signing_key_file
        self._key_files = tuple(key_files)

    @cached_property
    def signing(self) -> SigningKey:
        """Raises StartupError."""
        return load_signing_key(Path(self._signing_key_file)) if self._signing_key_file else make_signing_key()

    @cached_property
    def public(self) -> dict[str, PublicKey]:
        """By key id. Raises StartupError."""
        keys = [*load_public_keys(Path(path) for path in self._key_files), self.signing.public]
        return {key.key_id: key for key in keys}


class AccountTokens:
    """Makes and checks the tokens of one issuer."""

    def __init__(
        self, issuers: tuple[str, ...], keys: TokenKeys, find_uid: FindUid, now: Callable[[], datetime],
        holds_token: HoldsToken = lambda _namespace, _secret, _token: False, max_seconds: float = 0,
        *, extends: bool = True,
    ) -> None:  # fmt: skip
        """New tokens are of the first issuer, those of the others are good too. `max_seconds` bounds what a token may last (0: no bound);
        `extends` lets those in pods last longer than they say.
        """
        self.extends = extends
        self.issuer = issuers[0]
        self.issuers = issuers
        self.keys = keys
        self.max_seconds = max_seconds
        self._holds_token = holds_token
        self._find_uid = find_uid
        self._now = now
        self._verified: dict[str, Object] = {}

    def sign(self, claims: Object) -> str:
        """A token with these claims."""
        signing = self.keys.signing
        header = {"alg": signing.public.algorithm, "kid": signing.public.key_id}
        message = f"{encode64(orjson.dumps(header))}.{encode64(orjson.dumps(claims))}"
        return f"{message}.{encode64(signing.sign(message.encode()))}"

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | None:
        """Who a token of ours stands for; None if it is not ours. Raises TokenError."""
        claims = self._claims(token)
        if claims is None:
            return None
        if claims["iss"] == LEGACY_ISSUER:
            return Verified(self._legacy_user(token, claims), audiences)
        given = claims.get("aud") or ()
        accepted = meant_for(audiences, (given,) if isinstance(given, str) else given)
        if not accepted:
            raise TokenError(f"token audiences {quoted_list(given)} is invalid for the target audiences {quoted_list(audiences)}")
        now = self._now().timestamp()
        if claims.get("exp", 0) < now:
            raise TokenError("service account token has expired")
        if claims.get("nbf", 0) > now + LEEWAY_SECONDS:
            raise TokenError("service account token is not valid yet")
        return Verified(self._user(claims), accepted)

    def _claims(self, token: str) -> Object | None:
        """The claims of a token that we have signed; None if it does not say it is ours. Raises TokenError."""
        known = self._verified.get(token)
        if known is not None:
            return known
        parsed = parse_jwt(token)
        if parsed is None or parsed.claims.get("iss") not in (*self.issuers, LEGACY_ISSUER):
            return None
        named = parsed.header.get("kid")
        keys = self.keys.public
        candidates = [keys[named]] if named in keys else [] if named else list(keys.values())
        if not any(key.algorithm == parsed.header.get("alg") and key.verify(parsed.signed, parsed.signature) for key in candidates):
            raise TokenError("no key verifies the signature of the service account token")
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        self._verified[token] = parsed.claims
        return parsed.claims

    def _legacy_user(self, token: str, claims: Object) -> User:
        """The account of a token kept in a Secret, without an end; the Secret must still hold it. Raises TokenError."""
        fields = ("namespace", "service-account.name", "secret.name")
        namespace, name, secret = (claims.get(f"{LEGACY_CLAIM}/{field}", "") for field in fields)
        if not isinstance(namespace, str) or not self._holds_token(namespace, secret, token):
            raise TokenError("service account token has been invalidated")
        uid = claims.get(f"{LEGACY_CLAIM}/service-account.uid", "")
        if not name or self._find_uid("ServiceAccount", namespace, name) != uid:
            raise TokenError("service account token has been invalidated")
        return account_user(namespace, name, uid, {})

    def _user(self, claims: Object) -> User:
        """Raises TokenError if the account, or what the token is bound to, is gone."""
        private: dict[str, Any] = claims.get(CLAIM) or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        name, uid = account.get("name", ""), account.get("uid", "")
        if not name or self._find_uid("ServiceAccount", namespace, name) != uid:
            raise TokenError("service account token has been invalidated")
        extra: dict[str, tuple[str, ...]] = {f"{USER_EXTRA_PREFIX}credential-id": (f"JTI={claims['jti']}",)} if claims.get("jti") else {}
        for kind in ("pod", "secret", "node"):
            bound = private.get(kind)
            if not bound:
                continue
            is_checked = kind != "node" or not private.get("pod")  # the node of a pod is told, not checked
            if is_checked and self._find_uid(kind.capitalize(), namespace, bound["name"]) != bound.get("uid"):
                raise TokenError("service account token has been invalidated")
            if kind != "secret":
                extra[f"{USER_EXTRA_PREFIX}{kind}-name"] = (bound["name"],)
                extra[f"{USER_EXTRA_PREFIX}{kind}-uid"] = (bound.get("uid", ""),)
        return account_user(namespace, name, uid, extra)


def account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    return User(f"{USER_PREFIX}{namespace}:{name}", (GROUP_ALL, f"{GROUP_ALL}:{namespace}", GROUP_AUTHENTICATED), uid, extra)

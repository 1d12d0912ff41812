"""ServiceAccount tokens: JSON web tokens bound to an account and, if asked, to a pod, Secret or node that must still exist.

Imitates pkg/serviceaccount (claims.go, jwt.go). Left out: legacy tokens kept in Secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from kubecosm.api.resources import Object

from .keys import PublicKey, SigningKey, decode64, encode64, load_public_keys, load_signing_key, make_signing_key
from .user import GROUP_AUTHENTICATED, User

USER_PREFIX = "system:serviceaccount:"
GROUP_ALL = "system:serviceaccounts"
CLAIM = "kubernetes.io"
_EXTRA = "authentication.kubernetes.io/"
LEEWAY_SECONDS = 60
"""How far the clock that made a token may be ahead of ours."""
VERIFIED_MAX = 4096
"""Tokens whose signature has been checked and is remembered; what they are bound to is looked at every time."""

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

    def __init__(self, issuer: str, keys: TokenKeys, find_uid: FindUid, now: Callable[[], datetime]) -> None:
        self.issuer = issuer
        self.keys = keys
        self._find_uid = find_uid
        self._now = now
        self._verified: dict[str, Object] = {}

    def sign(self, claims: Object) -> str:
        """A token with these claims."""
        signing = self.keys.signing
        header = {"alg": signing.public.algorithm, "kid": signing.public.key_id}
        message = f"{encode64(orjson.dumps(header))}.{encode64(orjson.dumps(claims))}"
        return f"{message}.{encode64(signing.sign(message.encode()))}"

    def verify(self, token: str) -> User | None:
        """Who a bearer token of ours stands for; None if it is not ours, not valid any more, or what it is bound to is gone."""
        return self.verify_for(token, (self.issuer,))

    def verify_for(self, token: str, audiences: Sequence[str]) -> User | None:
        """As `verify`, for a token that must be meant for one of the audiences."""
        claims = self._claims(token)
        if claims is None or not set(audiences) & set(claims.get("aud") or ()):
            return None
        now = self._now().timestamp()
        if claims.get("exp", 0) < now or claims.get("nbf", 0) > now + LEEWAY_SECONDS:
            return None
        return self._user(claims)

    def _claims(self, token: str) -> Object | None:
        """The claims of a token that we have signed."""
        known = self._verified.get(token)
        if known is not None:
            return known
        parts = token.split(".")
        if len(parts) != 3:
            return None
        try:
            header, claims, signature = orjson.loads(decode64(parts[0])), orjson.loads(decode64(parts[1])), decode64(parts[2])
        except ValueError:
            return None
        if not isinstance(header, dict) or not isinstance(claims, dict) or claims.get("iss") != self.issuer:
            return None
        key = self.keys.public.get(header.get("kid", ""))
        if key is None or key.algorithm != header.get("alg") or not key.verify(f"{parts[0]}.{parts[1]}".encode(), signature):
            return None
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def _user(self, claims: Object) -> User | None:
        private: dict[str, Any] = claims.get(CLAIM) or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        name, uid = account.get("name", ""), account.get("uid", "")
        if not name or self._find_uid("ServiceAccount", namespace, name) != uid:
            return None
        extra: dict[str, tuple[str, ...]] = {f"{_EXTRA}credential-id": (f"JTI={claims.get('jti', '')}",)}
        for kind in ("pod", "secret", "node"):
            bound = private.get(kind)
            if not bound:
                continue
            is_checked = kind != "node" or not private.get("pod")  # the node of a pod is told, not checked
            if is_checked and self._find_uid(kind.capitalize(), namespace, bound["name"]) != bound.get("uid"):
                return None
            if kind != "secret":
                extra[f"{_EXTRA}{kind}-name"] = (bound["name"],)
                extra[f"{_EXTRA}{kind}-uid"] = (bound.get("uid", ""),)
        groups = (GROUP_ALL, f"{GROUP_ALL}:{namespace}", GROUP_AUTHENTICATED)
        return User(f"{USER_PREFIX}{namespace}:{name}", groups, uid, extra)

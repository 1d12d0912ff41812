"""Secrets of type service-account-token, and the head that all controllers of them have."""

from __future__ import annotations

from typing import NamedTuple

from kubecosm.api.meta import Key, annotations_of, is_deleting, uid_of
from kubecosm.api.names import ANNOTATION_SERVICE_ACCOUNT_NAME, ANNOTATION_SERVICE_ACCOUNT_UID, SECRET_SERVICE_ACCOUNT_TOKEN
from kubecosm.api.resources import SECRETS, Object
from kubecosm.client.controller import Reader


class TokenSecret(NamedTuple):
    """A token Secret and the account that its annotations name; the uid may be empty."""

    secret: Object
    account: str
    account_uid: str

    def is_of(self, account: Object | None) -> bool:
        """Whether the Secret is for this very account, not for another one of its name."""
        return account is not None and self.account_uid in ("", uid_of(account))


def account_of(secret: Object) -> str:
    """The account that a token Secret names; empty for any other Secret."""
    if secret.get("type") != SECRET_SERVICE_ACCOUNT_TOKEN:
        return ""
    return annotations_of(secret).get(ANNOTATION_SERVICE_ACCOUNT_NAME, "")


def token_secret(reader: Reader, key: Key) -> TokenSecret | None:
    """The token Secret of this key, if there is one that stays."""
    secret = reader.cache(SECRETS).get(key)
    name = account_of(secret) if secret is not None else ""
    if secret is None or not name or is_deleting(secret):
        return None
    return TokenSecret(secret, name, annotations_of(secret).get(ANNOTATION_SERVICE_ACCOUNT_UID, ""))

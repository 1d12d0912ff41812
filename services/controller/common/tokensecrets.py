"""Secrets of type service-account-token."""

from __future__ import annotations

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_SERVICE_ACCOUNT_NAME, SECRET_SERVICE_ACCOUNT_TOKEN
from kubecosm.api.resources import Object


def account_of(secret: Object) -> str:
    """The account that a token Secret names; empty for any other Secret."""
    if secret.get("type") != SECRET_SERVICE_ACCOUNT_TOKEN:
        return ""
    return annotations_of(secret).get(ANNOTATION_SERVICE_ACCOUNT_NAME, "")

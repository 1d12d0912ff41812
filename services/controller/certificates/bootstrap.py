"""What the bootstrap token controllers know of tokens: Secrets of a type of their own in kube-system."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime

from kubecosm.api.names import NAMESPACE_SYSTEM, SECRET_BOOTSTRAP_TOKEN
from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

KEPT_KEYS = ("token-id", "expiration", "usage-bootstrap-signing")
"""What caches keep of a token: all but its secret."""


def is_bootstrap_token(secret: Object) -> bool:
    return secret.get("type") == SECRET_BOOTSTRAP_TOKEN and secret["metadata"].get("namespace") == NAMESPACE_SYSTEM


def text_of(secret: Object, key: str) -> str:
    """A value of a Secret; empty if it has none."""
    data: Mapping[str, str] = secret.get("data") or {}
    try:
        return base64.b64decode(data.get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def expiration_of(secret: Object) -> datetime | None:
    """When a token ends; None if it does not, or says so in words that nobody understands."""
    text = text_of(secret, "expiration")
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None

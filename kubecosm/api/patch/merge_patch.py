"""JSON merge patches (RFC 7396)."""

from __future__ import annotations

from typing import Any


def merge(document: Any, patch: Any) -> Any:
    """The document with the patch merged in: null removes, objects merge, all else replaces. Neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result

"""Predicates on namespaces."""

from __future__ import annotations

from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import Object


def is_active_namespace(namespace: Object) -> bool:
    """Objects may still be created in it."""
    phase = (namespace.get("status") or {}).get("phase", "Active")
    return phase == "Active" and not is_deleting(namespace)

"""Which updates of an object its own controller need not see."""

from __future__ import annotations

from kubecosm.api.resources import Object

_WATCHED = ("generation", "deletionTimestamp", "labels", "annotations", "ownerReferences", "finalizers", "uid")


def beyond_status(old: Object, new: Object) -> bool:
    """More than the status changed: status writes are nearly always the controller's own, and every change of spec counts up generation."""
    before, after = old["metadata"], new["metadata"]
    return any(before.get(field) != after.get(field) for field in _WATCHED)

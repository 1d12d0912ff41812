"""The condition Available in the status of APIServices."""

from __future__ import annotations

from datetime import datetime

from kubecosm.api import managedfields
from kubecosm.api.resources import APISERVICES, Object

from ..bootstrap import APISERVER
from ..customresources.names import with_condition

AVAILABLE = "Available"
Verdict = tuple[str, str, str]
"""(status, reason, message)."""


def verdict_of(obj: Object) -> Verdict | None:
    """What the condition says now."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition["type"] == AVAILABLE:
            return condition["status"], condition.get("reason", ""), condition.get("message", "")
    return None


def is_available(obj: Object) -> bool:
    found = verdict_of(obj)
    return found is not None and found[0] == "True"


def with_verdict(obj: Object, verdict: Verdict, now: datetime) -> Object:
    """The APIService with the condition set, on behalf of this server."""
    before = obj.get("status") or {}
    conditions = with_condition(before.get("conditions") or (), AVAILABLE, *verdict, now)
    changed = {**obj, "metadata": dict(obj["metadata"]), "status": {**before, "conditions": conditions}}
    managedfields.on_update(APISERVICES, changed, obj, APISERVER.field_manager, now, "status")
    return changed

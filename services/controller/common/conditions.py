"""Building and replacing status conditions. Pure functions: a new list is returned, the old one is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time


def find(conditions: Sequence[Object] | None, condition_type: str) -> Object | None:
    return next((c for c in conditions or () if c.get("type") == condition_type), None)


def without(conditions: Sequence[Object] | None, condition_type: str) -> list[Object]:
    return [c for c in conditions or () if c.get("type") != condition_type]


def make(condition_type: str, status: str, reason: str, message: str, now: datetime) -> Object:
    """A condition in the common field order; an empty reason or message is left out."""
    condition: Object = {"type": condition_type, "status": status, "lastTransitionTime": format_time(now)}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def replaced(conditions: Sequence[Object] | None, new: Object) -> list[Object]:
    """`new` in the place of the condition of its type (or at the end).

    With an equal status the old transition time stays; with an equal status, reason and message the list stays as it is.
    """
    old = find(conditions, new["type"])
    if old is None:
        return [*(conditions or ()), new]
    if old.get("status") == new["status"]:
        if old.get("reason") == new.get("reason") and old.get("message") == new.get("message"):
            return list(conditions or ())
        if "lastTransitionTime" in old:
            new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [new if c.get("type") == new["type"] else c for c in conditions or ()]


def moved_to_end(conditions: Sequence[Object] | None, new: Object) -> list[Object]:
    """As the workload controllers do it: an unchanged status and reason keep the old condition; else the new one goes to the end."""
    old = find(conditions, new["type"])
    if old is not None and old.get("status") == new["status"] and old.get("reason") == new.get("reason"):
        return list(conditions or ())
    if old is not None and old.get("status") == new["status"] and "lastTransitionTime" in old:
        new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]

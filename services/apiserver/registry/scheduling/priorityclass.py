"""PriorityClasses. Imitates ValidatePriorityClass(Update)."""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, not_supported, required
from kubecosm.api.resources import Object

from ..core.pod_spec import PREEMPTION_POLICIES
from ..formats import Errors, check_immutable
from ..strategy import Strategy

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2 * HIGHEST_USER_PRIORITY + 1000, "system-cluster-critical": 2 * HIGHEST_USER_PRIORITY}
"""Name → value of the classes that the server itself keeps."""


class PriorityClassStrategy(Strategy):
    """A PriorityClass."""

    def default(self, obj: Object) -> None:
        obj.setdefault("value", 0)
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        name, value = obj["metadata"].get("name", ""), obj["value"]
        if name.startswith(SYSTEM_PREFIX):
            complaint = _system_complaint(obj, name, value)
            if complaint:
                why = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {complaint}"
                errors.append(forbidden_field("metadata.name", why))
        elif value > HIGHEST_USER_PRIORITY:
            why = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            errors.append(forbidden_field("value", why))
        policy = obj.get("preemptionPolicy")
        if policy is not None and policy not in PREEMPTION_POLICIES:
            path = "preemptionPolicy"
            errors.append(not_supported(path, policy, PREEMPTION_POLICIES) if policy else required(path))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        if obj["value"] != old.get("value", 0):
            errors.append(forbidden_field("value", "may not be changed in an update."))
        check_immutable(obj.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy", errors)
        return errors

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 1)


def _system_complaint(obj: Object, name: str, value: int) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if obj.get("globalDefault") else ""

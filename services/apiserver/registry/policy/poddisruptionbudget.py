"""PodDisruptionBudgets. Imitates ValidatePodDisruptionBudgetSpec."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, not_supported
from kubecosm.api.resources import Object

from ..formats import Errors, check_at_most_100_percent, check_int_or_percent, is_path_segment
from ..meta import check_label_selector
from ..strategy import StatusStrategy, Strategy
from ..values import selector_value
from ..workloads import check_counts

EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")
_EMPTY_STATUS = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}


class PodDisruptionBudgetStrategy(Strategy):
    """A PodDisruptionBudget as users create and update it."""

    allow_unconditional_update = False

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_path_segment(name))

    def default(self, obj: Object) -> None:
        obj.setdefault("spec", {})
        obj["status"] = {**_EMPTY_STATUS, **(obj.get("status") or {})}

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = dict(_EMPTY_STATUS)
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        if "minAvailable" in spec and "maxUnavailable" in spec:
            shown = {
                "MinAvailable": spec["minAvailable"], "Selector": selector_value(spec.get("selector")),
                "MaxUnavailable": spec["maxUnavailable"], "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
            }  # fmt: skip
            errors.append(invalid_value("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
        for field in ("minAvailable", "maxUnavailable"):
            if field in spec:
                check_int_or_percent(spec[field], f"spec.{field}", errors)
                check_at_most_100_percent(spec[field], f"spec.{field}", errors)
        check_label_selector(spec.get("selector"), "spec.selector", errors)
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in EVICTION_POLICIES:
            errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, EVICTION_POLICIES))
        return errors


class PodDisruptionBudgetStatusStrategy(StatusStrategy):
    """poddisruptionbudgets/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        check_counts(obj.get("status") or {}, _EMPTY_STATUS, errors)
        return errors

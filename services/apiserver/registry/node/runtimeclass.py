"""RuntimeClasses. Imitates ValidateRuntimeClass(Update)."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value
from kubecosm.api.resources import Object

from ..core.affinity import check_tolerations
from ..core.pod_defaults import round_up_quantity
from ..core.resources import check_requirements
from ..formats import FIELD_IMMUTABLE, Errors, check_dns1123_label
from ..meta import check_labels
from ..strategy import Strategy


class RuntimeClassStrategy(Strategy):
    """A RuntimeClass."""

    allow_unconditional_update = False

    def default(self, obj: Object) -> None:
        overhead = obj.get("overhead")
        if overhead and "podFixed" in overhead:
            overhead["podFixed"] = {name: round_up_quantity(value) for name, value in overhead["podFixed"].items()}

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_dns1123_label(obj.get("handler", ""), "handler", errors)
        fixed = (obj.get("overhead") or {}).get("podFixed")
        if fixed:
            check_requirements({"limits": fixed}, (), "overhead.podFixed", errors)
        scheduling = obj.get("scheduling") or {}
        if "nodeSelector" in scheduling:
            check_labels(scheduling["nodeSelector"], "scheduling.nodeSelector", errors)
        if scheduling.get("tolerations"):
            check_tolerations(scheduling["tolerations"], "scheduling.tolerations", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        if obj.get("handler") != old.get("handler"):
            errors.append(invalid_value("handler", obj.get("handler", ""), FIELD_IMMUTABLE))
        return errors

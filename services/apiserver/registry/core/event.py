"""Events, in both of their groups. Imitates ValidateEventCreate/Update and pkg/registry/core/event."""

from __future__ import annotations

from kubecosm.api.field import FieldError, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_qualified_name, is_path_segment
from ..strategy import Strategy

MISMATCH = "does not match event.namespace"
INSTANCE_MAX, ACTION_MAX, REASON_MAX, MESSAGE_MAX = 128, 128, 128, 1024
_OBJECT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


class EventStrategy(Strategy):
    """An Event of the core group; those of events.k8s.io are stored as such."""

    allow_create_on_update = True

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return list(is_path_segment(name))

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        involved = obj.get("involvedObject") or {}
        own, theirs = obj["metadata"].get("namespace", ""), involved.get("namespace", "")
        if not obj.get("eventTime"):
            fits = own == theirs if theirs else own in ("", "default")
            if not fits:
                errors.append(invalid_value("involvedObject.namespace", theirs, MISMATCH))
            return errors
        if not theirs and own not in ("kube-system", "default"):
            errors.append(invalid_value("involvedObject.namespace", theirs, MISMATCH))
        _check_new_style(obj, errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        involved = obj.get("involvedObject") or obj.get("regarding") or {}
        prefix = "regarding" if self.resource.group else "involvedObject"
        fields = {f"{prefix}.{name}": involved.get(name, "") for name in _OBJECT_FIELDS}
        reporter = obj.get("reportingComponent") or obj.get("reportingController") or ""
        source = (obj.get("source") or obj.get("deprecatedSource") or {}).get("component") or reporter
        fields["reason"], fields["source"], fields["type"] = obj.get("reason", ""), source, obj.get("type", "")
        fields["reportingController" if self.resource.group else "reportingComponent"] = reporter
        return fields

    def selectable_field_names(self) -> tuple[str, ...]:
        return tuple(self.selectable_fields({}))


def _check_new_style(event: Object, errors: Errors) -> None:
    """Events with an eventTime say who reports what about which action."""
    controller = event.get("reportingComponent", "")
    if not controller:
        errors.append(required("reportingComponent"))
    check_qualified_name(controller, "reportingComponent", errors)
    for field, length_max in (("reportingInstance", INSTANCE_MAX), ("action", ACTION_MAX), ("reason", REASON_MAX)):
        value = event.get(field, "")
        if not value:
            errors.append(required(field))
        if len(value) > length_max:
            errors.append(invalid_value(field, "", f"can have at most {length_max} characters"))
    if len(event.get("message", "")) > MESSAGE_MAX:
        errors.append(invalid_value("message", "", f"can have at most {MESSAGE_MAX} characters"))

"""StorageClasses and VolumeAttributesClasses. Imitates ValidateStorageClass and ValidateVolumeAttributesClass."""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from kubecosm.api.resources import Object

from ..core.volume_sources import check_csi_driver_name
from ..formats import Errors, check_immutable, check_qualified_name, is_qualified_name
from ..strategy import Strategy

PARAMETERS_MAX = 512
PARAMETERS_BYTES_MAX = 256 * 1024
RECLAIM_POLICIES = ("Delete", "Retain")
BINDING_MODES = ("Immediate", "WaitForFirstConsumer")


class StorageClassStrategy(Strategy):
    """A StorageClass."""

    def default(self, obj: Object) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        provisioner = obj.get("provisioner", "")
        if not provisioner:
            errors.append(required("provisioner"))
        else:
            for complaint in is_qualified_name(provisioner.lower()):
                errors.append(invalid_value("provisioner", provisioner, complaint))
        check_parameters(obj.get("parameters") or {}, errors, allow_empty=True)
        policy = obj.get("reclaimPolicy")
        if policy and policy not in RECLAIM_POLICIES:
            errors.append(not_supported("reclaimPolicy", policy, RECLAIM_POLICIES))
        mode = obj.get("volumeBindingMode")
        if mode is None:
            errors.append(required("volumeBindingMode"))
        elif mode not in BINDING_MODES:
            errors.append(not_supported("volumeBindingMode", mode, BINDING_MODES))
        for i, term in enumerate(obj.get("allowedTopologies") or ()):
            _check_topology(term, f"allowedTopologies[{i}]", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        for field in ("parameters", "provisioner", "reclaimPolicy"):
            if (obj.get(field) or None) != (old.get(field) or None):
                errors.append(forbidden_field(field, f"updates to {field} are forbidden."))
        check_immutable(obj.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode", errors)
        return errors


def check_parameters(parameters: dict[str, str], errors: Errors, *, allow_empty: bool) -> None:
    """Opaque settings for a driver: few and small."""
    if len(parameters) > PARAMETERS_MAX:
        errors.append(too_long("parameters", PARAMETERS_MAX))
        return
    if not parameters and not allow_empty:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    size = 0
    for key, value in parameters.items():
        if not key:
            errors.append(invalid_value("parameters", key, "field can not be empty."))
        size += len(key) + len(value)
    if size > PARAMETERS_BYTES_MAX:
        errors.append(too_long("parameters", PARAMETERS_BYTES_MAX))


def _check_topology(term: Object, path: str, errors: Errors) -> None:
    keys: set[str] = set()
    for i, requirement in enumerate(term.get("matchLabelExpressions") or ()):
        where, key, values = f"{path}.matchLabelExpressions[{i}]", requirement.get("key", ""), requirement.get("values") or []
        if not values:
            errors.append(required(f"{where}.values"))
        errors.extend(duplicate(f"{where}.values[{j}]", value) for j, value in enumerate(values) if value in values[:j])
        check_qualified_name(key, f"{where}.key", errors)
        if key in keys:
            errors.append(duplicate(f"{where}.key", key))
        keys.add(key)


class VolumeAttributesClassStrategy(Strategy):
    """A VolumeAttributesClass."""

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_csi_driver_name(obj.get("driverName", ""), "driverName", errors)
        check_parameters(obj.get("parameters") or {}, errors, allow_empty=False)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        for field in ("driverName", "parameters"):
            if obj.get(field) != old.get(field):
                errors.append(forbidden_field(field, f"updates to {field} are forbidden."))
        return errors

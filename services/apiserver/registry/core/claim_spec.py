"""Validation of a PersistentVolumeClaimSpec, as claims and ephemeral volumes have it."""

from __future__ import annotations

from collections.abc import Sequence

from kubecosm.api.field import forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import Errors, check, check_dns1123_subdomain, is_dns1123_label, is_dns1123_subdomain
from ..meta import check_label_selector
from .resources import check_positive_quantity, check_quantity

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def check_access_modes(modes: Sequence[str], path: str, errors: Errors) -> None:
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(not_supported(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES and mode != "ReadWriteOncePod" for mode in modes):
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))


def check_claim_spec(
    spec: Object, path: str, errors: Errors, *, allow_invalid_selector: bool = False, allow_invalid_group: bool = False
) -> None:
    """ValidatePersistentVolumeClaimSpec. The allowances are for updates of claims that were already wrong."""
    modes = spec.get("accessModes") or ()
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    check_label_selector(spec.get("selector"), f"{path}.selector", errors, allow_invalid_values=allow_invalid_selector)
    check_access_modes(modes, f"{path}.accessModes", errors)
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    where = f"{path}.resources[storage]"
    if storage is None:
        errors.append(required(where))
    elif check_positive_quantity(storage, where, errors):
        check_quantity("storage", storage, where, errors)
    if spec.get("storageClassName"):
        check_dns1123_subdomain(spec["storageClassName"], f"{path}.storageClassName", errors)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    _check_data_sources(spec, path, errors, allow_invalid_group)
    if spec.get("volumeAttributesClassName"):
        check_dns1123_subdomain(spec["volumeAttributesClassName"], f"{path}.volumeAttributesClassName", errors)


def _check_data_sources(spec: Object, path: str, errors: Errors, allow_invalid_group: bool) -> None:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, value in (("dataSource", source), ("dataSourceRef", reference)):
        if value is not None:
            _check_data_source(value, f"{path}.{field}", errors, allow_invalid_group)
    if source is None or reference is None:
        return
    shown: dict[str, str] = {}  # Kubernetes shows the (opaque) path object here
    if reference.get("namespace"):
        errors.append(invalid_value(path, shown, "may not be specified when dataSourceRef.namespace is specified"))
    elif any(source.get(f) != reference.get(f) for f in ("apiGroup", "kind", "name")):
        errors.append(invalid_value(path, shown, "must match dataSourceRef"))


def _check_data_source(source: Object, path: str, errors: Errors, allow_invalid_group: bool) -> None:
    kind, group = source.get("kind", ""), source.get("apiGroup")
    if not source.get("name"):
        errors.append(required(f"{path}.name"))
    if not kind:
        errors.append(required(f"{path}.kind"))
    if not group and kind != "PersistentVolumeClaim":
        errors.append(invalid_value(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
    if group and not allow_invalid_group:
        check(is_dns1123_subdomain(group), group, f"{path}.apiGroup", errors)
    if source.get("namespace"):
        check(is_dns1123_label(source["namespace"]), source["namespace"], f"{path}.namespace", errors)

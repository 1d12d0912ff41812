"""ResourceClaims, their templates, and DeviceClasses. Imitates pkg/apis/resource validation and defaults, and pkg/registry/resource.

Left out: whether the device results in a status fit the requests.
"""

from __future__ import annotations

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..formats import FIELD_IMMUTABLE, Errors, check_dns1123_subdomain
from ..strategy import StatusStrategy, Strategy, keep_field
from .checks import (
    CONFIGURATIONS_MAX,
    CONSTRAINTS_MAX,
    REQUESTS_MAX,
    check_attribute_name,
    check_configuration,
    check_label,
    check_list,
    check_selectors,
    check_set,
    check_toleration,
)

ALTERNATIVES_MAX = 8
CONSUMERS_MAX = 256
ALLOCATION_MODES = ("All", "ExactCount")
_ONE_KIND = "exactly one of `exactly` or `firstAvailable` is required"
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


def default_devices(spec: Object, version: str) -> None:
    """spec of a claim, in the version it came in: one device of the class, unless told otherwise."""
    for request in (spec.get("devices") or {}).get("requests") or ():
        exactly = request if version == "v1beta1" and not request.get("firstAvailable") else request.get("exactly")
        for part in (*([] if exactly is None else [exactly]), *(request.get("firstAvailable") or ())):
            if not part.get("allocationMode"):
                part["allocationMode"] = "ExactCount"
            if part["allocationMode"] == "ExactCount" and not part.get("count"):
                part["count"] = 1
            for toleration in part.get("tolerations") or ():
                toleration.setdefault("operator", "Equal")


def check_devices(devices: Object, path: str, errors: Errors) -> None:
    """spec.devices of a claim (validateDeviceClaim)."""
    requests = devices.get("requests") or ()
    names = {request.get("name", "") for request in requests}
    names |= {f"{r.get('name', '')}/{part.get('name', '')}" for r in requests for part in r.get("firstAvailable") or ()}

    def reference(name: str, where: str, found: Errors) -> None:
        parts = name.split("/")
        if len(parts) <= 2:
            for part in parts:
                check_label(part, where, found)
        if len(parts) > 2 or name not in names:
            found.append(invalid_value(where, name, _NO_REQUEST))

    def constraint(entry: Object, where: str, found: Errors) -> None:
        check_set(entry.get("requests") or (), REQUESTS_MAX, f"{where}.requests", found, reference)
        match, distinct = entry.get("matchAttribute"), entry.get("distinctAttribute")
        if match is not None:
            check_attribute_name(match, f"{where}.matchAttribute", found)
        elif distinct is not None:
            check_attribute_name(distinct, f"{where}.distinctAttribute", found)
        else:
            detail = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
            found.append(required(where, detail))

    def configuration(entry: Object, where: str, found: Errors) -> None:
        check_set(entry.get("requests") or (), REQUESTS_MAX, f"{where}.requests", found, reference)
        check_configuration(entry, where, found)

    check_set(requests, REQUESTS_MAX, f"{path}.requests", errors, _check_request, key="name")
    check_list(devices.get("constraints") or (), CONSTRAINTS_MAX, f"{path}.constraints", errors, constraint)
    check_list(devices.get("config") or (), CONFIGURATIONS_MAX, f"{path}.config", errors, configuration)


def _check_request(request: Object, path: str, errors: Errors) -> None:
    check_label(request.get("name", ""), f"{path}.name", errors)
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable")
    if alternatives:
        check_set(alternatives, ALTERNATIVES_MAX, f"{path}.firstAvailable", errors, _check_alternative, key="name")
    if exactly is not None:
        _check_wanted(exactly, f"{path}.exactly", errors)
    if exactly is None and not alternatives:
        errors.append(required(path, _ONE_KIND))
    elif exactly is not None and alternatives:
        errors.append(invalid_value(path, None, f"{_ONE_KIND}, but multiple fields are set"))


def _check_alternative(part: Object, path: str, errors: Errors) -> None:
    check_label(part.get("name", ""), f"{path}.name", errors)
    _check_wanted(part, path, errors)


def _check_wanted(part: Object, path: str, errors: Errors) -> None:
    name, mode, count = part.get("deviceClassName", ""), part.get("allocationMode", ""), part.get("count", 0)
    if name:
        check_dns1123_subdomain(name, f"{path}.deviceClassName", errors)
    else:
        errors.append(required(f"{path}.deviceClassName"))
    check_selectors(part.get("selectors") or (), f"{path}.selectors", errors)
    if mode == "All":
        if count:
            errors.append(invalid_value(f"{path}.count", count, "must not be specified when allocationMode is 'All'"))
    elif mode != "ExactCount":
        errors.append(not_supported(f"{path}.allocationMode", mode, ALLOCATION_MODES))
    elif count <= 0:
        errors.append(invalid_value(f"{path}.count", count, "must be greater than zero"))
    for i, toleration in enumerate(part.get("tolerations") or ()):
        check_toleration(toleration, f"{path}.tolerations[{i}]", errors)


class ResourceClaimStrategy(Strategy):
    """A ResourceClaim; its spec stays as it was created."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        default_devices(obj.setdefault("spec", {}), self.resource.version)
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_devices(obj["spec"].get("devices") or {}, "spec.devices", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = _unchanged_spec(obj, old)
        return errors + self.validate(obj)


class ResourceClaimStatusStrategy(StatusStrategy):
    """resourceclaims/status."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        status, before = obj.get("status") or {}, old.get("status") or {}
        consumers = status.get("reservedFor") or ()
        check_set(consumers, CONSUMERS_MAX, "status.reservedFor", errors, _check_consumer, key="uid")
        if consumers and status.get("allocation") is None:
            errors.append(forbidden_field("status.reservedFor", "may not be specified when `allocated` is not set"))
        elif obj["metadata"].get("deletionTimestamp") and any(c not in (before.get("reservedFor") or ()) for c in consumers):
            detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            errors.append(forbidden_field("status.reservedFor", detail))
        if None not in (status.get("allocation"), before.get("allocation")) and status["allocation"] != before["allocation"]:
            errors.append(invalid_value("status.allocation", status["allocation"], FIELD_IMMUTABLE))
        return errors


def _check_consumer(consumer: Object, path: str, errors: Errors) -> None:
    errors.extend(required(f"{path}.{field}") for field in ("resource", "name", "uid") if not consumer.get(field))


class ResourceClaimTemplateStrategy(Strategy):
    """A ResourceClaimTemplate; it stays as it was created."""

    def default(self, obj: Object) -> None:
        default_devices(obj.setdefault("spec", {}).setdefault("spec", {}), self.resource.version)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_devices(obj["spec"]["spec"].get("devices") or {}, "spec.spec.devices", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return _unchanged_spec(obj, old) + self.validate(obj)


def _unchanged_spec(obj: Object, old: Object) -> list[FieldError]:
    return [invalid_value("spec", obj["spec"], FIELD_IMMUTABLE)] if obj["spec"] != old["spec"] else []


class DeviceClassStrategy(Strategy):
    """A DeviceClass."""

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + (obj.get("spec") != old.get("spec"))

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj.get("spec") or {}
        check_selectors(spec.get("selectors") or (), "spec.selectors", errors)
        check_list(spec.get("config") or (), CONFIGURATIONS_MAX, "spec.config", errors, check_configuration)
        return errors

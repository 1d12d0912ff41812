"""ResourceSlices, which tell what devices a driver offers, and DeviceTaintRules. Imitates pkg/apis/resource/validation.

Left out: policies of consumable capacity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kubecosm.api.field import FieldError, invalid_value, required, too_long
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time
from kubecosm.runtime.clock import Clock

from ..core.affinity import check_node_selector
from ..formats import Errors, check_dns1123_subdomain, check_immutable
from ..strategy import Strategy
from .checks import (
    check_driver_name,
    check_label,
    check_list,
    check_pool_name,
    check_qualified_name,
    check_set,
    check_taint,
)

DEVICES_MAX = 128
ATTRIBUTES_MAX = 32
TAINTS_MAX = 16
ATTRIBUTE_LENGTH_MAX = 64
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_NUMBER = r"(0|[1-9]\d*)"
_RELEASE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = "[0-9a-zA-Z-]+"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_RELEASE}(\.{_RELEASE})*)?(\+{_BUILD}(\.{_BUILD})*)?")


class ResourceSliceStrategy(Strategy):
    """A ResourceSlice."""

    def default(self, obj: Object) -> None:
        for device in (obj.get("spec") or {}).get("devices") or ():
            for taint in device.get("taints") or ():
                _date(taint, self.clock)

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + (obj.get("spec") != old.get("spec"))

    def validate(self, obj: Object) -> list[FieldError]:
        return self._check(obj, None)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return self._check(obj, old)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver", "")}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("spec.nodeName", "spec.driver")

    def _check(self, obj: Object, old: Object | None) -> list[FieldError]:
        errors: Errors = []
        spec = obj.get("spec") or {}
        pool = spec.get("pool") or {}
        check_driver_name(spec.get("driver", ""), "spec.driver", errors)
        _check_pool(pool, errors)
        if old is not None:
            before = old.get("spec") or {}
            check_immutable(pool.get("name", ""), (before.get("pool") or {}).get("name", ""), "spec.pool.name", errors)
            check_immutable(spec.get("driver", ""), before.get("driver", ""), "spec.driver", errors)
            check_immutable(spec.get("nodeName"), before.get("nodeName"), "spec.nodeName", errors)
        _check_place(spec, errors)
        per_device = bool(spec.get("perDeviceNodeSelection"))

        def device(entry: Object, path: str, found: Errors) -> None:
            _check_device(entry, path, found, per_device=per_device)

        check_set(spec.get("devices") or (), DEVICES_MAX, "spec.devices", errors, device, key="name")
        check_set(spec.get("sharedCounters") or (), -1, "spec.sharedCounters", errors, _check_counter_set, key="name")
        return errors


def _check_pool(pool: Object, errors: Errors) -> None:
    check_pool_name(pool.get("name", ""), "spec.pool.name", errors)
    count, generation = pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    if count <= 0:
        errors.append(invalid_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        errors.append(invalid_value("spec.pool.generation", generation, "must be greater than or equal to zero"))


def _check_place(spec: Object, errors: Errors) -> None:
    """Where the devices can be reached from: exactly one of four ways."""
    one_of = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    node = spec.get("nodeName")
    if node:
        check_dns1123_subdomain(node, "spec.nodeName", errors)
    elif node is not None:
        errors.append(invalid_value("spec.nodeName", node, "must be either unset or set to a non-empty string"))
    selector = spec.get("nodeSelector")
    if selector is not None:
        check_node_selector(selector, "spec.nodeSelector", errors)
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            detail = "must have exactly one node selector term"
            errors.append(invalid_value("spec.nodeSelector.nodeSelectorTerms", terms, detail))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field) is False:
            errors.append(invalid_value(f"spec.{field}", False, "must be either unset or set to true"))
    chosen = [f"`{field}`" for field in _PLACES if spec.get(field) or (field == "nodeSelector" and selector is not None)]
    if not chosen:
        errors.append(required("spec", one_of))
    elif len(chosen) > 1:
        errors.append(invalid_value("spec", f"{{{', '.join(chosen)}}}", f"{one_of}, but multiple fields are set"))


def _check_device(device: Object, path: str, errors: Errors, *, per_device: bool) -> None:
    check_label(device.get("name", ""), f"{path}.name", errors)
    attributes: Mapping[str, Object] = device.get("attributes") or {}
    capacity: Mapping[str, Object] = device.get("capacity") or {}
    if len(attributes) + len(capacity) > ATTRIBUTES_MAX:
        detail = f"the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        errors.append(invalid_value(path, len(attributes) + len(capacity), detail))
    for name, attribute in attributes.items():
        check_qualified_name(name, f"{path}.attributes[{name}]", errors)
        _check_attribute(attribute, f"{path}.attributes[{name}]", errors)
    for name in capacity:
        check_qualified_name(name, f"{path}.capacity[{name}]", errors)
    check_list(device.get("taints") or (), TAINTS_MAX, f"{path}.taints", errors, check_taint)
    places = [f"`{field}`" for field in ("nodeName", "nodeSelector", "allNodes") if device.get(field) is not None]
    only = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the "
    if per_device and not places:
        errors.append(required(path, only + "ResourceSlice spec"))
    elif per_device and len(places) > 1:
        errors.append(invalid_value(path, f"{{{', '.join(places)}}}", only + "ResourceSlice spec"))
    elif places and not per_device:
        detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
        errors.append(invalid_value(path, None, detail + "ResourceSlice spec"))


def _check_attribute(attribute: Object, path: str, errors: Errors) -> None:
    values = [field for field in attribute if attribute[field] is not None]
    version = attribute.get("version")
    if version is not None and not _SEMVER.fullmatch(version):
        errors.append(invalid_value(f"{path}.version", version, "must be a string compatible with semver.org spec 2.0.0"))
    for field in ("string", "version"):
        if len(attribute.get(field) or "") > ATTRIBUTE_LENGTH_MAX:
            errors.append(too_long(f"{path}.{field}", ATTRIBUTE_LENGTH_MAX))
    if not values:
        errors.append(required(path, "exactly one value must be specified"))
    elif len(values) > 1:
        errors.append(invalid_value(path, attribute, "exactly one value must be specified"))


def _check_counter_set(counters: Object, path: str, errors: Errors) -> None:
    if counters.get("name"):
        check_label(counters["name"], f"{path}.name", errors)
    else:
        errors.append(required(f"{path}.name"))
    if not counters.get("counters"):
        errors.append(required(f"{path}.counters"))
    for name in counters.get("counters") or ():
        check_label(name, f"{path}.counters[{name}]", errors)


def _date(taint: Object, clock: Clock | None) -> None:
    """When a taint was added, unless it says so itself."""
    if not taint.get("timeAdded") and clock is not None:
        taint["timeAdded"] = format_time(clock.now())


class DeviceTaintRuleStrategy(Strategy):
    """A DeviceTaintRule."""

    def default(self, obj: Object) -> None:
        taint = (obj.get("spec") or {}).get("taint")
        if taint:
            _date(taint, self.clock)

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj.get("spec") or {}
        selector = spec.get("deviceSelector") or {}
        for field, item in (("driver", check_driver_name), ("pool", check_pool_name), ("device", check_label)):
            if selector.get(field) is not None:
                item(selector[field], f"spec.deviceSelector.{field}", errors)
        check_taint(spec.get("taint") or {}, "spec.taint", errors)
        return errors

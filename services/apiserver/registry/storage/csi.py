"""CSIDrivers, CSINodes, CSIStorageCapacities and VolumeAttachments. Imitates pkg/apis/storage/validation."""

from __future__ import annotations

from kubecosm.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.resources import amount
from ..core.volume_sources import check_csi_driver_name
from ..formats import (
    FIELD_IMMUTABLE,
    NEGATIVE,
    Errors,
    check_dns1123_subdomain,
    check_immutable,
    check_qualified_name,
)
from ..meta import check_label_selector
from ..strategy import Strategy, keep_field
from ..values import selector_value

NODE_ID_MAX = 192
LIFECYCLE_MODES = ("Ephemeral", "Persistent")
GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_REQUIRED_FLAGS = ("attachRequired", "podInfoOnMount", "storageCapacity")


class CSIDriverStrategy(Strategy):
    """A CSIDriver."""

    allow_unconditional_update = False

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        for field, value in (
            ("attachRequired", True), ("podInfoOnMount", False), ("storageCapacity", False),
            ("fsGroupPolicy", "ReadWriteOnceWithFSType"), ("requiresRepublish", False), ("seLinuxMount", False),
        ):  # fmt: skip
            spec.setdefault(field, value)
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        errors.extend(required(f"spec.{field}") for field in _REQUIRED_FLAGS if field not in spec)
        policy = spec.get("fsGroupPolicy")
        if policy is not None and policy not in GROUP_POLICIES:
            errors.append(not_supported("spec.fsGroupPolicy", policy, GROUP_POLICIES))
        audiences: set[str] = set()
        for i, request in enumerate(spec.get("tokenRequests") or ()):
            audience, seconds = request.get("audience", ""), request.get("expirationSeconds")
            if audience in audiences:
                errors.append(duplicate(f"spec.tokenRequests[{i}].audience", audience))
            audiences.add(audience)
            if seconds is not None and seconds < 600:
                where = f"spec.tokenRequests[{i}].expirationSeconds"
                errors.append(invalid_value(where, seconds, "may not specify a duration less than 10 minutes"))
        for mode in spec.get("volumeLifecycleModes") or ():
            if mode not in LIFECYCLE_MODES:
                errors.append(not_supported("spec.volumeLifecycleModes", mode, LIFECYCLE_MODES))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        for field in ("attachRequired", "volumeLifecycleModes"):
            check_immutable(obj["spec"].get(field), old["spec"].get(field), f"spec.{field}", errors)
        return errors


class CSINodeStrategy(Strategy):
    """A CSINode: what drivers a node has."""

    allow_unconditional_update = False

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("drivers", None)  # an empty list stays until ownership of the field is recorded

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        names: set[str] = set()
        for i, driver in enumerate(obj["spec"].get("drivers") or ()):
            _check_driver(driver, names, f"spec.drivers[{i}]", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        before = {driver.get("name"): driver for driver in old["spec"].get("drivers") or ()}
        for i, driver in enumerate(obj["spec"].get("drivers") or ()):
            known = before.get(driver.get("name"))
            if known is not None and _without_count(known) != _without_count(driver):
                errors.append(invalid_value(f"spec.drivers[{i}]", _shown_driver(driver), FIELD_IMMUTABLE))
        return errors


def _without_count(driver: Object) -> Object:
    return {k: v for k, v in driver.items() if k != "allocatable"}


def _shown_driver(driver: Object) -> Object:
    allocatable = driver.get("allocatable")
    return {
        "Name": driver.get("name", ""), "NodeID": driver.get("nodeID", ""), "TopologyKeys": driver.get("topologyKeys"),
        "Allocatable": None if allocatable is None else {"Count": allocatable.get("count")},
    }  # fmt: skip


def _check_driver(driver: Object, names: set[str], path: str, errors: Errors) -> None:
    name, node_id = driver.get("name", ""), driver.get("nodeID", "")
    check_csi_driver_name(name, f"{path}.name", errors)
    if not node_id:
        errors.append(required(f"{path}.nodeID"))
    elif len(node_id) > NODE_ID_MAX:
        errors.append(invalid_value(f"{path}.nodeID", node_id, f"must be {NODE_ID_MAX} characters or less"))
    count = (driver.get("allocatable") or {}).get("count")
    if count is not None and count < 0:
        errors.append(invalid_value(f"{path}.allocatable.count", count, NEGATIVE))
    if name in names:
        errors.append(duplicate(f"{path}.name", name))
    names.add(name)
    seen: set[str] = set()
    for key in driver.get("topologyKeys") or ():
        if not key:
            errors.append(required(f"{path}.topologyKeys"))
        if key in seen:
            errors.append(duplicate(f"{path}.topologyKeys", key))
        seen.add(key)
        check_qualified_name(key, f"{path}.topologyKeys", errors)


class CSIStorageCapacityStrategy(Strategy):
    """A CSIStorageCapacity."""

    allow_unconditional_update = False

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        check_dns1123_subdomain(obj.get("storageClassName", ""), "storageClassName", errors)
        for field in ("capacity", "maximumVolumeSize"):
            if field in obj and amount(obj[field]).nanos < 0:
                errors.append(invalid_value(field, obj[field], NEGATIVE))
        check_label_selector(obj.get("nodeTopology"), "nodeTopology", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        if obj.get("nodeTopology") != old.get("nodeTopology"):
            errors.append(invalid_value("nodeTopology", selector_value(obj.get("nodeTopology")), FIELD_IMMUTABLE))
        check_immutable(obj.get("storageClassName", ""), old.get("storageClassName", ""), "storageClassName", errors)
        return errors


class VolumeAttachmentStrategy(Strategy):
    """A VolumeAttachment as the attach-detach controller makes it."""

    allow_unconditional_update = False
    tracks_generation = False

    def default(self, obj: Object) -> None:
        obj.setdefault("spec", {})
        obj.setdefault("status", {}).setdefault("attached", False)

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"attached": False}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        spec = obj["spec"]
        check_csi_driver_name(spec.get("attacher", ""), "spec.attacher", errors)
        source = spec.get("source") or {}
        volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
        exactly = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        if inline is None and volume is None:
            errors.append(required("spec.source", exactly))
        elif inline is not None and volume is not None:
            errors.append(forbidden_field("spec.source", exactly))
        elif volume == "":
            errors.append(required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"))
        check_dns1123_subdomain(spec.get("nodeName", ""), "spec.nodeName", errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        if obj["spec"] != old["spec"]:
            errors.append(invalid_value("spec", _shown_attachment(obj["spec"]), FIELD_IMMUTABLE))
        return errors


def _shown_attachment(spec: Object) -> Object:
    source = spec.get("source") or {}
    shown = {"PersistentVolumeName": source.get("persistentVolumeName"), "InlineVolumeSpec": source.get("inlineVolumeSpec")}
    return {"Attacher": spec.get("attacher", ""), "Source": shown, "NodeName": spec.get("nodeName", "")}

"""PersistentVolumes. Imitates ValidatePersistentVolume(Update) and pkg/registry/core/persistentvolume."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from kubecosm.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..formats import Errors, check_dns1123_subdomain, check_immutable
from ..strategy import StatusStrategy, Strategy, keep_field
from ..values import sorted_map
from .affinity import check_node_selector
from .claim_spec import VOLUME_MODES, check_access_modes
from .pod_defaults import VOLUME_SOURCES
from .resources import check_basic_quantity, check_positive_quantity
from .volume_sources import PERSISTENT, Context
from .volumes import MORE_THAN_ONE

RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_ORDER = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs", "iscsi",
    "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "scaleIO",
    "local", "storageos", "csi",
)  # fmt: skip
_PATHS = {"gcePersistentDisk": "persistentDisk"}
_SURPLUS_PATHS = {"cephfs": "cephFS"}
_NOT_DEFAULTED = frozenset(("secret", "configMap", "downwardAPI", "projected", "ephemeral", "image"))
_DEFAULTERS: dict[str, Callable[[Object], None]] = {k: v for k, v in VOLUME_SOURCES.items() if k not in _NOT_DEFAULTED}


class PersistentVolumeStrategy(Strategy):
    """A PersistentVolume as users create and update it."""

    tracks_generation = False

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        if "volumeMode" not in spec:
            spec["volumeMode"] = "Filesystem"
        for source, fill in _DEFAULTERS.items():
            if source in spec:
                fill(spec[source])
        status = obj.setdefault("status", {})
        if not status.get("phase"):
            status["phase"] = "Pending"

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": obj["metadata"]["creationTimestamp"]}

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        keep_field(obj, old, "status")

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], obj["metadata"].get("name", ""), errors)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors = self.validate(obj)
        _check_update(obj["spec"], old["spec"], errors)
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return {"name": obj["metadata"]["name"]}

    def selectable_field_names(self) -> tuple[str, ...]:
        return ("name",)


class PersistentVolumeStatusStrategy(StatusStrategy):
    """persistentvolumes/status: when the phase last changed is the server's to say, unless the client does."""

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_update(obj, old)
        status, before = obj.setdefault("status", {}), old.get("status") or {}
        told, known = status.get("lastPhaseTransitionTime"), before.get("lastPhaseTransitionTime")
        if status.get("phase") == before.get("phase"):
            if told is None and known is not None:
                status["lastPhaseTransitionTime"] = known
        elif told in (None, known) and self.clock is not None:
            status["lastPhaseTransitionTime"] = format_time(self.clock.now())


def _check_spec(spec: Object, name: str, errors: Errors) -> None:
    modes = spec.get("accessModes") or ()
    if not modes:
        errors.append(required("spec.accessModes"))
    check_access_modes(modes, "spec.accessModes", errors)
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported("spec.capacity", sorted_map(spec.get("capacity")), ("storage",)))
    for resource, value in capacity.items():
        check_basic_quantity(value, f"spec.capacity[{resource}]", errors)
        check_positive_quantity(value, f"spec.capacity[{resource}]", errors)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in RECLAIM_POLICIES:
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if "required" in affinity:
            check_node_selector(affinity["required"], "spec.nodeAffinity.required", errors)
        else:
            errors.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
    _check_sources(spec, name, errors)
    root = posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/"
    if root and policy == "Recycle":
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'"))
    if spec.get("storageClassName"):
        check_dns1123_subdomain(spec["storageClassName"], "spec.storageClassName", errors)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported("spec.volumeMode", mode, VOLUME_MODES))
    _check_attributes_class(spec, errors)


def _check_sources(spec: Object, name: str, errors: Errors) -> None:
    found = False
    context = Context("", name)
    for kind in _ORDER:
        source = spec.get(kind)
        if source is None:
            continue
        if found and kind != "flexVolume":
            errors.append(forbidden_field(f"spec.{_SURPLUS_PATHS.get(kind, kind)}", MORE_THAN_ONE))
            continue
        found = True
        PERSISTENT[kind](source, context, f"spec.{_PATHS.get(kind, kind)}", errors)
        if kind == "local" and "nodeAffinity" not in spec:
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    if not found:
        errors.append(required("spec", "must specify a volume type"))


def _check_attributes_class(spec: Object, errors: Errors) -> None:
    name = spec.get("volumeAttributesClassName")
    if name is None:
        return
    if not name:
        errors.append(required("spec.volumeAttributesClassName", "an empty string is disallowed"))
    else:
        check_dns1123_subdomain(name, "spec.volumeAttributesClassName", errors)
    if "csi" not in spec:
        errors.append(required("spec.csi", "has to be specified when using volumeAttributesClassName"))


def _sources(spec: Object) -> Object:
    return {kind: spec[kind] for kind in _ORDER if kind in spec}


def _check_update(spec: Object, old: Object, errors: Errors) -> None:
    sources, before = _sources(spec), _sources(old)
    csi = sources.get("csi")
    if csi and "csi" in before and "controllerExpandSecretRef" not in before["csi"]:
        sources["csi"] = {k: v for k, v in csi.items() if k != "controllerExpandSecretRef"}
    if sources != before:
        errors.append(forbidden_field("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"))
    check_immutable(spec.get("volumeMode"), old.get("volumeMode"), "volumeMode", errors)
    if old.get("nodeAffinity") is not None and spec.get("nodeAffinity") != old["nodeAffinity"]:
        detail = "field is immutable, except for updating from beta label to GA"
        errors.append(invalid_value("nodeAffinity", spec.get("nodeAffinity"), detail))
    if old.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        errors.append(forbidden_field("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden"))

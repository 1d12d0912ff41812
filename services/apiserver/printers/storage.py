"""The cells of volumes, claims, classes and drivers. Imitates pkg/printers/internalversion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kubecosm.api.names import ANNOTATION_DEFAULT_STORAGE_CLASS, ANNOTATION_DEFAULT_STORAGE_CLASS_BETA, ANNOTATION_STORAGE_CLASS_BETA
from kubecosm.api.resources import Object

from .texts import NONE, UNSET, age, name_of, part

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join([short for mode, short in _MODES.items() if mode in (modes or ())])


def _class_of(obj: Object) -> str:
    """The storage class of a volume or claim: the old annotation comes before the field."""
    annotated = (obj["metadata"].get("annotations") or {}).get(ANNOTATION_STORAGE_CLASS_BETA)
    return str(annotated if annotated is not None else part(obj, "spec", "storageClassName") or "")


def _or_unset(value: str | None) -> str:
    return UNSET if value is None else value


def _phase(obj: Object) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else part(obj, "status", "phase") or ""


def persistent_volumes(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    claim = spec.get("claimRef")
    bound_to = "" if claim is None else f"{claim.get('namespace', '')}/{claim.get('name', '')}"
    return [
        name_of(obj), part(spec, "capacity", "storage") or "0", _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""), _phase(obj), bound_to, _class_of(obj),
        _or_unset(spec.get("volumeAttributesClassName")), part(obj, "status", "reason") or "", age(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]  # fmt: skip


def persistent_volume_claims(obj: Object, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = spec.get("volumeName") or ""
    capacity = (part(status, "capacity", "storage") or "0") if volume else ""
    return [
        name_of(obj), _phase(obj), volume, capacity, _modes(status.get("accessModes")) if volume else "", _class_of(obj),
        _or_unset(spec.get("volumeAttributesClassName")), age(obj, now), _or_unset(spec.get("volumeMode")),
    ]  # fmt: skip


def storage_classes(obj: Object, now: datetime) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    is_default = "true" in (annotations.get(ANNOTATION_DEFAULT_STORAGE_CLASS), annotations.get(ANNOTATION_DEFAULT_STORAGE_CLASS_BETA))
    return [
        name_of(obj) + (" (default)" if is_default else ""), obj.get("provisioner", ""), obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate", bool(obj.get("allowVolumeExpansion")), age(obj, now),
    ]  # fmt: skip


def volume_attributes_classes(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), obj.get("driverName", ""), age(obj, now)]


def volume_attachments(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    volume = part(spec, "source", "persistentVolumeName") or ""
    attached = bool(part(obj, "status", "attached"))
    return [name_of(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)]


def csi_nodes(obj: Object, now: datetime) -> list[Any]:
    return [name_of(obj), len(part(obj, "spec", "drivers") or ()), age(obj, now)]


def csi_drivers(obj: Object, now: datetime) -> list[Any]:
    spec = obj.get("spec") or {}
    requests = spec.get("tokenRequests")
    tokens = UNSET if requests is None else ",".join([request.get("audience", "") for request in requests])
    return [
        name_of(obj), spec.get("attachRequired", True), spec.get("podInfoOnMount", False), spec.get("storageCapacity", False), tokens,
        spec.get("requiresRepublish", False), ",".join(spec.get("volumeLifecycleModes") or ()) or NONE, age(obj, now),
    ]  # fmt: skip

"""Matching claims with volumes: predicates and bodies that the storage controllers share. Pure functions.

Imitates pkg/controller/volume/persistentvolume/{util,index}.go and k8s.io/component-helpers/storage/volume.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import annotations_of, is_deleting, labels_of, uid_of
from kubecosm.api.names import (
    ANNOTATION_BIND_COMPLETED,
    ANNOTATION_BOUND_BY_CONTROLLER,
    ANNOTATION_DEFAULT_STORAGE_CLASS,
    ANNOTATION_DEFAULT_STORAGE_CLASS_BETA,
    ANNOTATION_PROVISIONER_IDENTITY,
    ANNOTATION_STORAGE_CLASS_BETA,
    PROVISIONERS_MIGRATED,
)
from kubecosm.api.quantity import whole_value
from kubecosm.api.resources import Object
from kubecosm.api.selectors import from_label_selector

YES = "yes"
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"

INDEX_CLAIM = "claim"
"""Pods by the claims they use, as namespace/name."""


def claim_keys(pod: Object) -> list[str]:
    """The claims of a pod: named ones, and those made for its ephemeral volumes."""
    meta = pod["metadata"]
    names = []
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            names.append(volume["persistentVolumeClaim"]["claimName"])
        elif volume.get("ephemeral"):
            names.append(f"{meta['name']}-{volume['name']}")
    return [f"{meta['namespace']}/{name}" for name in names]


def class_of(obj: Object) -> str | None:
    """The name of the StorageClass of a claim or volume; None if it names none at all (an empty name means: no class)."""
    beta = annotations_of(obj).get(ANNOTATION_STORAGE_CLASS_BETA)
    name: str | None = obj["spec"].get("storageClassName") if beta is None else beta
    return name


def phase_of(obj: Object) -> str:
    return (obj.get("status") or {}).get("phase") or "Pending"


def requested_bytes(claim: Object) -> int:
    """What the claim asks for."""
    return whole_value(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def capacity_bytes(obj: Object) -> int:
    """What a volume holds, or a bound claim has."""
    capacity = obj["spec"].get("capacity") or (obj.get("status") or {}).get("capacity") or {}
    return whole_value(capacity.get("storage", "0"))


def claim_reference(claim: Object) -> Object:
    meta = claim["metadata"]
    return {
        "kind": "PersistentVolumeClaim", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"], "apiVersion": "v1",
        "resourceVersion": meta["resourceVersion"],
    }  # fmt: skip


def is_claimed_by(volume: Object, claim: Object) -> bool:
    """The volume's claimRef names this claim; one without uid was written by a user ahead of the claim."""
    ref = volume["spec"].get("claimRef")
    if ref is None:
        return False
    meta = claim["metadata"]
    return (ref.get("namespace"), ref.get("name")) == (meta["namespace"], meta["name"]) and ref.get("uid", "") in ("", uid_of(claim))


def is_ours(volume: Object) -> bool:
    """The built-in provisioner made the volume, and so grows, modifies and removes it."""
    return ANNOTATION_PROVISIONER_IDENTITY in annotations_of(volume)


def mode_of(obj: Object) -> str:
    """The volumeMode of a claim or volume."""
    return obj["spec"].get("volumeMode") or "Filesystem"


def attributes_class_of(obj: Object) -> str:
    return obj["spec"].get("volumeAttributesClassName") or ""


def offers_modes(volume: Object, claim: Object) -> bool:
    """The volume has every access mode that the claim asks for."""
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def plan_match(claim: Object, volumes: Iterable[Object], *, late: bool = False) -> Object | None:
    """The volume to bind: of those with the fewest access modes one that is reserved for the claim, else the smallest (FindMatchingVolume).

    `late`: the scheduler chooses among the free ones (WaitForFirstConsumer), so that only a reserved one is taken here.
    """
    found = [volume for volume in volumes if _may_bind(volume, claim, late)]
    return min(found, key=lambda volume: _rank(volume, claim), default=None)


def _rank(volume: Object, claim: Object) -> tuple[int, bool, int, str]:
    modes = len(volume["spec"].get("accessModes") or ())
    return modes, not is_claimed_by(volume, claim), capacity_bytes(volume), volume["metadata"]["name"]


def _may_bind(volume: Object, claim: Object, late: bool) -> bool:
    reserved = is_claimed_by(volume, claim)
    if (volume["spec"].get("claimRef") and not reserved) or is_deleting(volume) or not offers_modes(volume, claim):
        return False
    if capacity_bytes(volume) < requested_bytes(claim) or mode_of(volume) != mode_of(claim):
        return False
    if attributes_class_of(volume) != attributes_class_of(claim):
        return False
    if reserved or late:
        return reserved
    selector = claim["spec"].get("selector")
    return (
        phase_of(volume) == "Available"
        and (class_of(claim) or "") == (class_of(volume) or "")
        and (selector is None or from_label_selector(selector).matches(labels_of(volume)))
    )


def why_mismatched(volume: Object, claim: Object) -> str:
    """Why a claim may not have the volume it asks for by name; empty if it may (checkVolumeSatisfyClaim)."""
    if is_deleting(volume):
        return f'the volume is marked for deletion "{volume["metadata"]["name"]}"'
    if capacity_bytes(volume) < requested_bytes(claim):
        return "requested PV is too small"
    if (class_of(volume) or "") != (class_of(claim) or ""):
        return "storageClassName does not match"
    if attributes_class_of(volume) != attributes_class_of(claim):
        return "volumeAttributesClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    return "" if offers_modes(volume, claim) else "incompatible accessMode"


def is_default_class(storage_class: Object) -> bool:
    marks = annotations_of(storage_class)
    return any(marks.get(mark) == "true" for mark in (ANNOTATION_DEFAULT_STORAGE_CLASS, ANNOTATION_DEFAULT_STORAGE_CLASS_BETA))


def default_class(classes: Iterable[Object]) -> Object | None:
    """The newest StorageClass that is marked as default; of equally old ones the first by name."""
    marked = sorted((one for one in classes if is_default_class(one)), key=lambda one: str(one["metadata"]["name"]))
    return max(marked, key=lambda one: one["metadata"].get("creationTimestamp") or "", default=None)


def provisioner_of(storage_class: Object) -> str:
    """Who makes volumes of the class; drivers that were part of Kubernetes once have become CSI drivers (csi-translation-lib)."""
    name: str = storage_class["provisioner"]
    return PROVISIONERS_MIGRATED.get(name, name)


def binds_late(storage_class: Object | None) -> bool:
    """Volumes of the class are bound to claims by the scheduler, with the node of their first pod."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER


def bound_volume(volume: Object, claim: Object) -> Object | None:
    """The volume with its claimRef complete; None if it is so already (GetBindVolumeToClaim)."""
    ref = volume["spec"].get("claimRef")
    if ref is not None and ref.get("uid") == uid_of(claim):
        return None
    annotations = annotations_of(volume)
    if not is_claimed_by(volume, claim):
        annotations = {**annotations, ANNOTATION_BOUND_BY_CONTROLLER: YES}
    meta = {**volume["metadata"], "annotations": annotations}
    return {**volume, "metadata": meta, "spec": {**volume["spec"], "claimRef": claim_reference(claim)}}


def unbound_volume(volume: Object) -> Object:
    """The volume without its claim; what a user had reserved stays reserved."""
    meta, spec, annotations = volume["metadata"], volume["spec"], annotations_of(volume)
    if ANNOTATION_BOUND_BY_CONTROLLER in annotations:
        left = {name: value for name, value in annotations.items() if name != ANNOTATION_BOUND_BY_CONTROLLER}
        meta = {**{field: value for field, value in meta.items() if field != "annotations"}, **({"annotations": left} if left else {})}
        return {**volume, "metadata": meta, "spec": {field: value for field, value in spec.items() if field != "claimRef"}}
    reserved = {field: value for field, value in spec["claimRef"].items() if field != "uid"}
    return {**volume, "spec": {**spec, "claimRef": reserved}}


def bound_claim(claim: Object, volume: Object) -> Object | None:
    """The claim with its volume's name; None if it has it already."""
    name, annotations = volume["metadata"]["name"], annotations_of(claim)
    wanted = {**annotations, ANNOTATION_BIND_COMPLETED: annotations.get(ANNOTATION_BIND_COMPLETED, YES)}
    if claim["spec"].get("volumeName") != name:
        wanted.setdefault(ANNOTATION_BOUND_BY_CONTROLLER, YES)
    if claim["spec"].get("volumeName") == name and annotations == wanted:
        return None
    return {**claim, "metadata": {**claim["metadata"], "annotations": wanted}, "spec": {**claim["spec"], "volumeName": name}}


def pending_status(claim: Object, phase: str = "Pending") -> Object:
    """The status of a claim without a volume."""
    status = {field: value for field, value in (claim.get("status") or {}).items() if field not in ("accessModes", "capacity")}
    return {**status, "phase": phase}


def bound_status(claim: Object, volume: Object) -> Object:
    """The status of a claim that has its volume. What it holds is told when it becomes bound; later it is whoever expands that tells."""
    old = claim.get("status") or {}
    status: Object = {**old, "phase": "Bound", "accessModes": volume["spec"].get("accessModes") or []}
    if old.get("phase") == "Bound":
        return status
    status["capacity"] = volume["spec"].get("capacity") or {}
    if name := attributes_class_of(volume):
        status["currentVolumeAttributesClassName"] = name
    return status

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
    ANNOTATION_PROVISIONER_IDENTITY,
    ANNOTATION_SELECTED_NODE,
    ANNOTATION_STORAGE_CLASS_BETA,
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


def fits(volume: Object, claim: Object) -> bool:
    """Size, access modes, volume mode, class and labels are what the claim asks for."""
    spec, wanted = volume["spec"], claim["spec"]
    selector = wanted.get("selector")
    return (
        set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and (wanted.get("volumeMode") or "Filesystem") == (spec.get("volumeMode") or "Filesystem")
        and (class_of(claim) or "") == (class_of(volume) or "")
        and capacity_bytes(volume) >= requested_bytes(claim)
        and (selector is None or from_label_selector(selector).matches(labels_of(volume)))
    )


def plan_match(claim: Object, volumes: Iterable[Object]) -> Object | None:
    """The volume to bind: one already meant for the claim, else the smallest free one that fits."""
    best: Object | None = None
    for volume in volumes:
        if is_claimed_by(volume, claim):
            return volume
        if (
            volume["spec"].get("claimRef")
            or is_deleting(volume)
            or phase_of(volume) not in ("Pending", "Available")
            or not fits(volume, claim)
        ):
            continue
        if best is None or (capacity_bytes(volume), volume["metadata"]["name"]) < (capacity_bytes(best), best["metadata"]["name"]):
            best = volume
    return best


def is_default_class(storage_class: Object) -> bool:
    return annotations_of(storage_class).get(ANNOTATION_DEFAULT_STORAGE_CLASS) == "true"


def default_class(classes: Iterable[Object]) -> Object | None:
    """The newest StorageClass that is marked as default."""
    marked = [storage_class for storage_class in classes if is_default_class(storage_class)]
    return max(marked, key=lambda c: (c["metadata"].get("creationTimestamp") or "", c["metadata"]["name"]), default=None)


def waits_for_consumer(claim: Object, storage_class: Object | None) -> bool:
    """Binding is put off until the scheduler has chosen a node for the first pod that uses the claim."""
    late = storage_class is not None and storage_class.get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER
    return late and ANNOTATION_SELECTED_NODE not in annotations_of(claim)


def bound_volume(volume: Object, claim: Object) -> Object | None:
    """The volume with its claimRef complete; None if it is so already."""
    ref = volume["spec"].get("claimRef")
    if ref is not None and ref.get("uid") == uid_of(claim):
        return None
    annotations = annotations_of(volume)
    if ref is None:
        annotations = {**annotations, ANNOTATION_BOUND_BY_CONTROLLER: YES}
    meta = {**volume["metadata"], "annotations": annotations}
    return {**volume, "metadata": meta, "spec": {**volume["spec"], "claimRef": claim_reference(claim)}}


def bound_claim(claim: Object, volume: Object) -> Object | None:
    """The claim with its volume's name; None if it has it already."""
    name, annotations = volume["metadata"]["name"], annotations_of(claim)
    wanted = {**annotations, ANNOTATION_BIND_COMPLETED: YES}
    if not claim["spec"].get("volumeName"):
        wanted[ANNOTATION_BOUND_BY_CONTROLLER] = YES
    if claim["spec"].get("volumeName") == name and annotations == wanted:
        return None
    return {**claim, "metadata": {**claim["metadata"], "annotations": wanted}, "spec": {**claim["spec"], "volumeName": name}}


def expanded_volume(claim: Object, volume: Object, storage_class: Object | None) -> Object | None:
    """The volume as large as its claim asks for; None if it is so already or may not grow."""
    if requested_bytes(claim) <= capacity_bytes(volume) or not (storage_class or {}).get("allowVolumeExpansion"):
        return None
    if ANNOTATION_PROVISIONER_IDENTITY not in annotations_of(volume):
        return None
    capacity = {"storage": claim["spec"]["resources"]["requests"]["storage"]}
    return {**volume, "spec": {**volume["spec"], "capacity": capacity}}


def bound_status(claim: Object, volume: Object) -> Object:
    """The status of a claim that has its volume; a larger capacity it has been given stays."""
    old = claim.get("status") or {}
    capacity = volume["spec"].get("capacity") or {}
    status: Object = {"phase": "Bound", "accessModes": volume["spec"].get("accessModes") or [], "capacity": capacity}
    return {**{field: value for field, value in old.items() if field not in status}, **status}

"""Where the volumes of a pod let it run: what the scheduler's VolumeBinding would say, as far as labels of nodes decide. Pure.

Leaves out free volumes of WaitForFirstConsumer classes (a new one counts as possible wherever the class allows), and storage capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kubecosm.api.meta import Key, annotations_of
from kubecosm.api.names import ANNOTATION_BIND_COMPLETED, ANNOTATION_STORAGE_CLASS_BETA, PROVISIONER_NONE
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, Object, Resource

NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
LATE = "WaitForFirstConsumer"
Lookup = Callable[[Resource, Key], Object | None]


class Reach(NamedTuple):
    """Node selector terms, one of which a node must match, and the reason if it matches none."""

    terms: tuple[Object, ...]
    reason: str


class VolumeNeeds(NamedTuple):
    """What the volumes of a pod demand of a node; with a refusal no node will do."""

    reaches: tuple[Reach, ...] = ()
    refusal: str = ""


NO_VOLUMES = VolumeNeeds()


def volume_needs(pod: Object, lookup: Lookup) -> VolumeNeeds:
    reaches = []
    for name in _claim_names(pod):
        claim = lookup(PERSISTENTVOLUMECLAIMS, Key(pod["metadata"]["namespace"], name))
        if claim is None:
            return VolumeNeeds(refusal=f'persistentvolumeclaim "{name}" not found')
        needs = _needs_of(claim, lookup)
        if isinstance(needs, str):
            return VolumeNeeds(refusal=needs)
        reaches += [needs] if needs is not None else []
    return VolumeNeeds(tuple(reaches)) if reaches else NO_VOLUMES


def _claim_names(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def _needs_of(claim: Object, lookup: Lookup) -> Reach | str | None:
    """A reach, why no node will do, or None for a claim that demands nothing."""
    spec, annotations = claim["spec"], annotations_of(claim)
    if spec.get("volumeName") and ANNOTATION_BIND_COMPLETED in annotations:
        volume = lookup(PERSISTENTVOLUMES, Key("", spec["volumeName"]))
        required = (((volume or {}).get("spec") or {}).get("nodeAffinity") or {}).get("required")
        return None if required is None else Reach(tuple(required.get("nodeSelectorTerms") or ()), NODE_CONFLICT)
    class_name = annotations.get(ANNOTATION_STORAGE_CLASS_BETA, spec.get("storageClassName"))
    storage_class = lookup(STORAGECLASSES, Key("", class_name)) if class_name else None
    if storage_class is None or storage_class.get("volumeBindingMode") != LATE or spec.get("volumeName"):
        return UNBOUND
    if storage_class["provisioner"] == PROVISIONER_NONE:
        return None
    terms = tuple(
        {"matchExpressions": [{**one, "operator": "In"} for one in topology.get("matchLabelExpressions") or ()]}
        for topology in storage_class.get("allowedTopologies") or ()
    )
    return Reach(terms, BIND_CONFLICT) if terms else None

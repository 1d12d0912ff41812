"""PersistentVolumeClaims, PersistentVolumes and StorageClasses as the scheduler needs them, and what it has assumed about them.

Imitates pkg/scheduler/framework/plugins/volumebinding. Left out: CSI migration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from kubecosm.api import names, selectors
from kubecosm.api.meta import annotations_of, labels_of
from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object

from .csi import CsiState, key_of, reach_of
from .nodeselector import NodeTerms, compile_selector

WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"


@dataclass(frozen=True, slots=True)
class PodClaims:
    """The claims of a pod by what is to be done about them; keys are namespace/name."""

    bound: tuple[Object, ...]
    waiting: tuple[Object, ...]
    """Unbound, to be bound when the pod's node is known."""
    immediate: tuple[Object, ...]
    """Unbound, and none of the scheduler's business."""


class VolumeState:
    """What informers say of volumes, plus assumptions of pods that are being bound."""

    def __init__(self) -> None:
        self.claims: dict[str, Object] = {}
        self.volumes: dict[str, Object] = {}
        self.classes: dict[str, Object] = {}
        self.csi = CsiState()
        self._assumed_volumes: dict[str, str] = {}
        self._waiters: dict[str, asyncio.Event] = {}

    # ---- informers

    def set_claim(self, claim: Object) -> None:
        key = key_of(claim)
        self.claims[key] = claim
        self._wake(key)

    def remove_claim(self, claim: Object) -> None:
        self.claims.pop(key_of(claim), None)
        self._wake(key_of(claim))

    def set_volume(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        self.volumes[name] = volume
        if self._waiters:
            self._wake(self._assumed_volumes.get(name) or _claim_ref(volume["spec"]))

    def remove_volume(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        self.volumes.pop(name, None)
        self._wake(self._assumed_volumes.get(name, ""))

    def set_class(self, storage_class: Object) -> None:
        self.classes[storage_class["metadata"]["name"]] = storage_class

    def remove_class(self, storage_class: Object) -> None:
        self.classes.pop(storage_class["metadata"]["name"], None)

    def _wake(self, key: str) -> None:
        if waiter := self._waiters.pop(key, None):
            waiter.set()

    async def wait_claim_changed(self, key: str) -> None:
        """Return when the claim is next heard of."""
        await self._waiters.setdefault(key, asyncio.Event()).wait()

    # ---- questions

    def binds_on_first_use(self, claim: Object) -> bool:
        """Whether the claim's class waits for its first consumer (IsDelayBindingMode)."""
        storage_class = self.classes.get(class_of(claim))
        return storage_class is not None and storage_class.get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER

    def can_provision(self, claim: Object) -> bool:
        storage_class = self.classes.get(class_of(claim))
        return storage_class is not None and storage_class.get("provisioner") not in (None, "", names.PROVISIONER_NONE)

    def candidates(self, claim: Object) -> Iterator[tuple[Object, NodeTerms | None]]:
        """Available volumes that would satisfy the claim, each with the nodes it can be used on (None: all).

        What is reserved for the claim comes first, then the smallest.
        """
        fitting = (volume for volume in self.volumes.values() if self._fits(volume, claim))
        key = key_of(claim)
        for volume in sorted(fitting, key=lambda v: (_claim_ref(v["spec"]) != key, _capacity(v), v["metadata"]["name"])):
            yield volume, node_affinity_of(volume)

    def _fits(self, volume: Object, claim: Object) -> bool:
        """Class, mode, size; for a volume that is not reserved for the claim access modes and labels too (volume.FindMatchingVolume)."""
        spec, wanted = volume.get("spec") or {}, claim.get("spec") or {}
        name, key = volume["metadata"]["name"], key_of(claim)
        owner = self._assumed_volumes.get(name) or _claim_ref(spec)
        if (owner and owner != key) or volume["metadata"].get("deletionTimestamp"):
            return False
        if (spec.get("storageClassName") or "") != class_of(claim) or _capacity(volume) < request_of(claim):
            return False
        if (spec.get("volumeAttributesClassName") or "") != (wanted.get("volumeAttributesClassName") or ""):
            return False
        if spec.get("volumeMode", "Filesystem") != wanted.get("volumeMode", "Filesystem"):
            return False
        if owner:
            return True
        if (volume.get("status") or {}).get("phase") != "Available":
            return False
        selector = wanted.get("selector")
        offers = set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        return offers and (not selector or selectors.from_label_selector(selector).matches(labels_of(volume)))

    def room(self, claim: Object) -> Iterator[NodeTerms] | None:
        """Where the storage system that would make a volume for the claim has room for it; None if it does not say (hasEnoughCapacity)."""
        storage_class = class_of(claim)
        if not self.csi.tracks_capacity(self.classes[storage_class].get("provisioner") or ""):
            return None
        return self._rooms(storage_class, request_of(claim))

    def _rooms(self, storage_class: str, size: int) -> Iterator[NodeTerms]:
        for capacity in self.csi.capacities(storage_class):
            limit = capacity.get("maximumVolumeSize") or capacity.get("capacity")
            terms = reach_of(capacity)
            if limit is not None and _bytes(limit) >= size and terms is not None:
                yield terms

    # ---- assumptions

    def assume(self, volume: str, claim: str) -> None:
        self._assumed_volumes[volume] = claim

    def forget(self, volume: str) -> None:
        self._assumed_volumes.pop(volume, None)

    def sort_claims(self, claims: list[Object]) -> PodClaims:
        """Bound, waiting for the scheduler, and waiting for the volume controller (GetPodVolumeClaims)."""
        bound, waiting, immediate = [], [], []
        for claim in claims:
            if is_bound(claim):
                bound.append(claim)
            elif self.binds_on_first_use(claim) and not claim["spec"].get("volumeName"):
                waiting.append(claim)
            else:
                immediate.append(claim)
        return PodClaims(tuple(bound), tuple(waiting), tuple(immediate))


def class_of(claim: Object) -> str:
    """The claim's class; the beta annotation wins (GetPersistentVolumeClaimClass)."""
    annotated = annotations_of(claim).get(names.ANNOTATION_STORAGE_CLASS_BETA)
    return annotated if annotated is not None else (claim.get("spec") or {}).get("storageClassName") or ""


def is_bound(claim: Object) -> bool:
    """The volume controller has finished with it (isPVCFullyBound)."""
    return bool((claim.get("spec") or {}).get("volumeName")) and names.ANNOTATION_BIND_COMPLETED in annotations_of(claim)


def selected_node_of(claim: Object) -> str:
    return annotations_of(claim).get(names.ANNOTATION_SELECTED_NODE, "")


def node_affinity_of(volume: Object) -> NodeTerms | None:
    return compile_selector(((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required"))


def _claim_ref(volume_spec: Object) -> str:
    ref = volume_spec.get("claimRef")
    return f"{ref.get('namespace', '')}/{ref.get('name', '')}" if ref else ""


def _capacity(volume: Object) -> int:
    return _bytes(((volume.get("spec") or {}).get("capacity") or {}).get("storage", 0))


def request_of(claim: Object) -> int:
    """How many bytes the claim asks for."""
    return _bytes((((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage", 0))


def _bytes(quantity: str | int) -> int:
    try:
        return Quantity.of(quantity).value()
    except QuantityError:
        return 0

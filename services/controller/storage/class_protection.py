"""VolumeAttributesClass protection: a class that a claim or a volume has, or is to have, is not deleted under it.

Watches VolumeAttributesClasses, PersistentVolumeClaims and PersistentVolumes. Writes the finalizer kubernetes.io/vac-protection.
Imitates pkg/controller/volume/vacprotection.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import Key, key_of
from kubecosm.api.names import FINALIZER_VAC_PROTECTION
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES, Object
from kubecosm.client.controller import Context, ControllerSpec, Reader, Result, done

from ..common.finalizers import plan_finalizers, write_finalizers

INDEX_CLASS = "attributes-class"
"""Claims and volumes by the VolumeAttributesClasses that they have or are to have."""


def classes_of_claim(claim: Object) -> list[str]:
    status = claim.get("status") or {}
    modifying = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    names = ((claim.get("spec") or {}).get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), modifying)
    return sorted({name for name in names if name})


def classes_of_volume(volume: Object) -> list[str]:
    name = volume["spec"].get("volumeAttributesClassName")
    return [name] if name else []


async def reconcile(ctx: Context, key: Key) -> Result:
    found = ctx.cache(VOLUMEATTRIBUTESCLASSES).get(key)
    if found is not None:
        in_use = any(ctx.cache(resource).by_index(INDEX_CLASS, key.name) for resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES))
        finalizers = plan_finalizers(found, FINALIZER_VAC_PROTECTION, in_use=in_use)
        await write_finalizers(ctx, VOLUMEATTRIBUTESCLASSES, found, finalizers)
    return done()


def map_class(_reader: Reader, obj: Object) -> Iterable[Key]:
    return (key_of(obj),)


def map_claim(_reader: Reader, claim: Object) -> Iterable[Key]:
    return [Key("", name) for name in classes_of_claim(claim)]


def map_volume(_reader: Reader, volume: Object) -> Iterable[Key]:
    return [Key("", name) for name in classes_of_volume(volume)]


SPEC = ControllerSpec(
    name="vacprotection",
    component="volumeattributesclass-protection-controller",
    watches={VOLUMEATTRIBUTESCLASSES: map_class, PERSISTENTVOLUMECLAIMS: map_claim, PERSISTENTVOLUMES: map_volume},
    cares={
        PERSISTENTVOLUMECLAIMS: lambda old, new: classes_of_claim(old) != classes_of_claim(new),
        PERSISTENTVOLUMES: lambda old, new: classes_of_volume(old) != classes_of_volume(new),
    },
    indexers={PERSISTENTVOLUMECLAIMS: {INDEX_CLASS: classes_of_claim}, PERSISTENTVOLUMES: {INDEX_CLASS: classes_of_volume}},
    workers=1,
)

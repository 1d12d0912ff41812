"""PersistentVolumeClaimResize: claims grow only where their class allows it (plugin/pkg/admission/storage/persistentvolume/resize)."""

from __future__ import annotations

from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import UPDATE, Attributes, Plugin
from .refusal import refuse


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    operations = (UPDATE,)

    def __init__(self, classes: ResourceCache) -> None:
        self._classes = classes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PERSISTENTVOLUMECLAIMS and not subresource

    def validate(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        assert attributes.old is not None
        if _size(attributes.obj) <= _size(attributes.old):
            return
        if (attributes.old.get("status") or {}).get("phase") != "Bound":
            raise refuse(attributes, "Only bound persistent volume claims can be expanded")
        entry = self._classes.get(attributes.obj["spec"].get("storageClassName") or "")
        if entry is None or not entry.decode().get("allowVolumeExpansion"):
            why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            raise refuse(attributes, why)


def _size(claim: Object) -> Quantity:
    return Quantity.of(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))

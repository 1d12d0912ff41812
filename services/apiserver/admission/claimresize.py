"""PersistentVolumeClaimResize: claims grow only where their class allows it (plugin/pkg/admission/storage/persistentvolume/resize)."""

from __future__ import annotations

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import ANNOTATION_STORAGE_CLASS_BETA
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
        name = _class_of(attributes.obj)
        entry = self._classes.get(name) if name == _class_of(attributes.old) else None
        if entry is None or not entry.decode().get("allowVolumeExpansion"):
            why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            raise refuse(attributes, why)


def _class_of(claim: Object) -> str:
    """GetPersistentVolumeClaimClass: the beta annotation counts first."""
    return str(annotations_of(claim).get(ANNOTATION_STORAGE_CLASS_BETA, claim["spec"].get("storageClassName") or ""))


def _size(claim: Object) -> Quantity:
    return Quantity.of(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))

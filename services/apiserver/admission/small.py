"""Admission plugins of a few lines each: default tolerations, taints of new nodes, storage finalizers, default classes.

Imitates plugin/pkg/admission/{defaulttolerationseconds,nodetaint,storage/storageobjectinuseprotection,storage/storageclass/setdefault,
network/defaultingressclass}.
"""

from __future__ import annotations

from kubecosm.api import names
from kubecosm.api.resources import INGRESSES, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Object, Resource, builtin

from ..cache.resource import ResourceCache
from .chain import CREATE, UPDATE, Attributes, Plugin

VOLUMEATTRIBUTESCLASSES = builtin("storage.k8s.io", "v1", "volumeattributesclasses")
PROTECTION = {
    PERSISTENTVOLUMECLAIMS: names.FINALIZER_PVC_PROTECTION,
    PERSISTENTVOLUMES: names.FINALIZER_PV_PROTECTION,
    VOLUMEATTRIBUTESCLASSES: names.FINALIZER_VAC_PROTECTION,
}


class DefaultTolerationSeconds(Plugin):
    """Pods stay a while on a node that is not ready or unreachable, unless they say otherwise."""

    name = "DefaultTolerationSeconds"
    operations = (CREATE, UPDATE)

    def __init__(self, not_ready: int = 300, unreachable: int = 300) -> None:
        """For how many seconds."""
        self._seconds = {names.TAINT_NOT_READY: not_ready, names.TAINT_UNREACHABLE: unreachable}

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and not subresource

    def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        spec = attributes.obj["spec"]
        tolerations = spec.get("tolerations") or []
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            for key, seconds in self._seconds.items()
            if not any(_tolerates(toleration, key) for toleration in tolerations)
        ]
        if added:
            spec["tolerations"] = [*tolerations, *added]


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")


class TaintNodesByCondition(Plugin):
    """A new node takes no pods until it has reported ready."""

    name = "TaintNodesByCondition"
    operations = (CREATE,)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == NODES and not subresource

    def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        taint = {"key": names.TAINT_NOT_READY, "effect": "NoSchedule"}
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(t.get("key") == taint["key"] and t.get("effect") == taint["effect"] for t in taints):
            spec["taints"] = [*taints, taint]


class StorageObjectInUseProtection(Plugin):
    """Claims and volumes get the finalizer that keeps them while they are used."""

    name = "StorageObjectInUseProtection"
    operations = (CREATE,)

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource in PROTECTION and not subresource

    def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        meta, finalizer = attributes.obj["metadata"], PROTECTION[attributes.resource]
        if finalizer not in (meta.get("finalizers") or ()):
            meta["finalizers"] = [*(meta.get("finalizers") or ()), finalizer]


class DefaultStorageClass(Plugin):
    """A claim without a class gets the default one, the newest if there are several."""

    name = "DefaultStorageClass"
    operations = (CREATE,)

    def __init__(self, classes: ResourceCache) -> None:
        self._classes = classes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PERSISTENTVOLUMECLAIMS and not subresource

    def admit(self, attributes: Attributes) -> None:
        obj = attributes.obj
        assert obj is not None
        spec = obj.setdefault("spec", {})
        if spec.get("storageClassName") is not None or names.ANNOTATION_STORAGE_CLASS_BETA in (obj["metadata"].get("annotations") or {}):
            return
        marks = (names.ANNOTATION_DEFAULT_STORAGE_CLASS, names.ANNOTATION_DEFAULT_STORAGE_CLASS_BETA)
        default = _default_of(self._classes, marks)
        if default:
            spec["storageClassName"] = default


class DefaultIngressClass(Plugin):
    """An Ingress without a class gets the default one."""

    name = "DefaultIngressClass"
    operations = (CREATE,)

    def __init__(self, classes: ResourceCache) -> None:
        self._classes = classes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == INGRESSES and not subresource

    def admit(self, attributes: Attributes) -> None:
        obj = attributes.obj
        assert obj is not None
        spec = obj.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or names.ANNOTATION_INGRESS_CLASS in (obj["metadata"].get("annotations") or {}):
            return
        default = _default_of(self._classes, (names.ANNOTATION_DEFAULT_INGRESS_CLASS,))
        if default:
            spec["ingressClassName"] = default


def _default_of(classes: ResourceCache, marks: tuple[str, ...]) -> str:
    """The class annotated as default: the newest, of equally old ones the first by name; empty if there is none."""
    found = []
    for entry in classes.entries():
        meta = entry.decode()["metadata"]
        if any((meta.get("annotations") or {}).get(mark) == "true" for mark in marks):
            found.append((meta.get("creationTimestamp", ""), meta["name"]))
    if not found:
        return ""
    newest = max(created for created, _ in found)
    return str(min(name for created, name in found if created == newest))

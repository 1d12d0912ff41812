"""Reading and building the common parts of objects: identity, owners, conditions, deletion. Pure functions on dicts."""

from __future__ import annotations

from typing import NamedTuple

from kubecosm.api.resources import Object, Resource


class Key(NamedTuple):
    """An object's identity within its resource; namespace is empty for cluster-scoped objects."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Object) -> Key:
    meta = obj["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def uid_of(obj: Object) -> str:
    uid: str = obj["metadata"].get("uid", "")
    return uid


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def controller_of(obj: Object) -> Object | None:
    """The ownerReference with controller: true, if any."""
    refs: list[Object] = obj["metadata"].get("ownerReferences") or []
    return next((ref for ref in refs if ref.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    ref = controller_of(obj)
    return ref is not None and ref["uid"] == owner["metadata"]["uid"]


def controller_ref(owner: Object, resource: Resource) -> Object:
    """An ownerReference that makes `owner` the managing controller (metav1.NewControllerRef)."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def get_condition(obj: Object, condition_type: str) -> Object | None:
    conditions: list[Object] = (obj.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == condition_type), None)


def is_condition_true(obj: Object, condition_type: str) -> bool:
    condition = get_condition(obj, condition_type)
    return condition is not None and condition.get("status") == "True"

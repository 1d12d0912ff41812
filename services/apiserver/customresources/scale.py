"""The scale subresource of custom resources, by the paths of their definition.

Imitates apiextensions-apiserver's registry/customresource.
"""

from __future__ import annotations

import copy

from kubecosm.api.errors import InternalError
from kubecosm.api.managedfields import sets
from kubecosm.api.managedfields.sets import Node
from kubecosm.api.resources import CustomResource, Object

from .jsonpath import find, simple_fields

_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of_custom(row: CustomResource, obj: Object, *, to_change: bool = False) -> Object:
    """The Scale of an instance. One without replicas counts as 0 for who wants `to_change` it. Raises InternalError for others."""
    paths, meta = row.scale or {}, obj["metadata"]
    replicas = find(paths["specReplicasPath"], obj) or ([0] if to_change else [])
    if not replicas:
        raise InternalError(f"the spec replicas field \"{paths['specReplicasPath']}\" does not exist")
    current = find(paths["statusReplicasPath"], obj)
    selector = find(paths["labelSelectorPath"], obj) if paths.get("labelSelectorPath") else []
    return {
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {name: meta[name] for name in _KEPT if name in meta},
        "spec": {"replicas": replicas[0]} if replicas[0] else {},
        "status": {"replicas": current[0] if current else 0, **({"selector": selector[0]} if selector and selector[0] else {})},
    }  # fmt: skip


def replicas_path(row: CustomResource) -> Node | None:
    """Where the replicas of its version are, as a set of fields; None without a Scale."""
    return sets.from_paths(".".join(simple_fields(row.scale["specReplicasPath"]))) if row.scale else None


def with_replicas(row: CustomResource, obj: Object, replicas: int) -> Object:
    """A copy of an instance that wants so many replicas."""
    changed = copy.deepcopy(obj)
    *parents, last = simple_fields((row.scale or {})["specReplicasPath"])
    part = changed
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = replicas
    return changed

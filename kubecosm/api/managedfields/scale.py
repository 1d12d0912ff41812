"""Who owns the replicas of a workload, seen through its Scale: entries go there, are changed, and come back.

A Scale is a view of its workload, so whoever owns the workload's replicas is asked when another applies to the Scale, and whoever changes
them through the Scale owns them in the workload from then on. Imitates apimachinery's managedfields.ScaleHandler; unlike there, an
updater whose replicas nobody touched keeps its entry whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubecosm.api.managedfields import entries, sets
from kubecosm.api.managedfields.entries import APPLY, Manager, Managers, Owned
from kubecosm.api.managedfields.sets import Node
from kubecosm.api.resources import Object, Resource

SCALES = Resource("autoscaling", "v1", "Scale", "scales", "scale", namespaced=True)
"""Not served by itself: what the scale subresource of every workload shows."""
REPLICAS_IN_SCALE = sets.from_paths("spec.replicas")

ReplicasPaths = Mapping[str, Node | None]
"""apiVersion of a workload → where its replicas are; None: that version has no Scale. Entries of other versions count for nothing."""


def owners_of_scale(workload: Object, paths: ReplicasPaths) -> list[Object]:
    """managedFields of the Scale: those who own the workload's replicas."""
    found: Managers = {}
    for key, owned in _managers(workload).items():
        path = paths.get(owned.api_version)
        if path is not None and sets.intersection(owned.fields, path):
            found[_in_scale(key)] = Owned(REPLICAS_IN_SCALE, SCALES.api_version, owned.time)
    return entries.encode(found)


def owners_of_workload(workload: Object, scale: Object, paths: ReplicasPaths, api_version: str) -> list[Object]:
    """managedFields of the workload after its Scale was written in `api_version`: replicas belong to those who own them in the Scale."""
    scaling = {key for key, owned in _managers(scale).items() if sets.intersection(owned.fields, REPLICAS_IN_SCALE)}
    found: Managers = {}
    for key, owned in _managers(workload).items():
        if owned.api_version not in paths:
            continue
        path = paths[owned.api_version]
        if path is None or not sets.intersection(owned.fields, path):
            found[key] = owned
        elif _in_scale(key) in scaling:
            found[key] = owned
            scaling.discard(_in_scale(key))
        elif left := sets.difference(owned.fields, path):
            found[key] = Owned(left, owned.api_version, owned.time)
    path = paths[api_version]
    for key in scaling:
        found[entries.manager(key.name, key.operation, api_version, key.subresource)] = Owned(path or {}, api_version)
    return entries.encode(found)


def _managers(obj: Object) -> Managers:
    return entries.decode(obj["metadata"].get("managedFields")) or {}


def _in_scale(key: Manager) -> Manager:
    """The same manager, as the Scale names it."""
    return key if key.operation == APPLY else key._replace(api_version=SCALES.api_version)

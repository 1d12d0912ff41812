"""What the scheduler watches. Kept apart from the engine so that a process without pods to schedule need not load it."""

from __future__ import annotations

from collections.abc import Mapping

from kubecosm.api.resources import (
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
    Object,
    Resource,
)
from kubecosm.client.informer import Informer, InformerFactory

POD_SELECTOR = "status.phase!=Succeeded,status.phase!=Failed"
"""Pods that have ended are none of the scheduler's business."""

BESIDES_PODS: tuple[Resource, ...] = (
    NODES, NAMESPACES, SERVICES, REPLICATIONCONTROLLERS, REPLICASETS, STATEFULSETS, PERSISTENTVOLUMES, PERSISTENTVOLUMECLAIMS,
    STORAGECLASSES, PODDISRUPTIONBUDGETS,
)  # fmt: skip


def pods_of(factory: InformerFactory) -> Informer:
    """The informer of all pods that have not ended."""
    return factory.informer(PODS, field_selector=POD_SELECTOR)


def watch_all(factory: InformerFactory) -> None:
    """Ask for every informer, so that all lists are under way at once."""
    for resource in BESIDES_PODS:
        factory.informer(resource)
    pods_of(factory)


def slim(obj: Object) -> Object:
    """Drops what the scheduler never reads before an informer stores it: managed fields and the pod templates of controllers."""
    obj["metadata"].pop("managedFields", None)
    spec: Mapping[str, object] = obj.get("spec") or {}
    if "template" in spec and "containers" not in spec:
        obj["spec"] = {name: value for name, value in spec.items() if name not in ("template", "volumeClaimTemplates")}
    return obj

"""What the scheduler watches. Kept apart from the engine, which is loaded later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


PLACED_SPEC = frozenset((
    "nodeName", "schedulerName", "priority", "preemptionPolicy", "affinity", "overhead", "resources", "containers", "initContainers",
    "volumes",
))  # fmt: skip
PLACED_VOLUMES = frozenset(("persistentVolumeClaim", "ephemeral", "gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd"))
PLACED_CONTAINER = frozenset(("name", "image", "resources", "ports", "restartPolicy"))
NODE_STATUS = frozenset(("allocatable", "conditions", "declaredFeatures", "images"))
PLACED_CONDITIONS = ("DisruptionTarget", "PodResizePending")
PLACED_STATUS = frozenset(("phase", "startTime", "nominatedNodeName", "resources", "allocatedResources"))


def slim(obj: Object) -> Object:
    """Drops what the scheduler never reads before an informer stores it.

    Of all objects the managed fields, of controllers the pod template, of nodes what describes the machine; of pods that have a node all
    that only matters for finding one, or for running it: with tens of thousands of pods that is most of the memory of this process.
    """
    obj["metadata"].pop("managedFields", None)
    spec: Mapping[str, Any] = obj.get("spec") or {}
    if "containers" in spec:
        return slim_placed(obj) if spec.get("nodeName") else obj
    if "allocatable" in (obj.get("status") or {}):
        return slim_node(obj)
    if "template" in spec:
        obj["spec"] = {name: value for name, value in spec.items() if name not in ("template", "volumeClaimTemplates")}
    return obj


def slim_node(node: Object) -> Object:
    """A node without what describes its machine; conditions without their heartbeats, so that a heartbeat changes nothing."""
    status = {name: value for name, value in node["status"].items() if name in NODE_STATUS}
    if "conditions" in status:
        status["conditions"] = [{"type": c["type"], "status": c.get("status", "")} for c in status["conditions"]]
    return {"metadata": node["metadata"], "spec": node.get("spec") or {}, "status": status}


def slim_placed(pod: Object) -> Object:
    """A pod that has its node, as far as it matters to others."""
    meta = {name: value for name, value in pod["metadata"].items() if name != "annotations"}
    spec = {name: value for name, value in pod["spec"].items() if name in PLACED_SPEC}
    for kind in ("containers", "initContainers"):
        if kind in spec:
            spec[kind] = [{name: value for name, value in c.items() if name in PLACED_CONTAINER} for c in spec[kind]]
    if "volumes" in spec:
        spec["volumes"] = [v for v in spec["volumes"] if not PLACED_VOLUMES.isdisjoint(v)]
    return {"metadata": meta, "spec": spec, "status": _slim_status(pod.get("status") or {})}


def _slim_status(status: Object) -> Object:
    """Phase, disruption, and resources in the course of an in-place resize."""
    kept = {name: value for name, value in status.items() if name in PLACED_STATUS}
    conditions = [c for c in status.get("conditions") or () if c.get("type") in PLACED_CONDITIONS]
    if conditions:
        kept["conditions"] = conditions
    for kind in ("containerStatuses", "initContainerStatuses"):
        resized = [
            {name: c[name] for name in ("name", "allocatedResources", "resources") if name in c}
            for c in status.get(kind) or () if c.get("allocatedResources") or c.get("resources")
        ]  # fmt: skip
        if resized:
            kept[kind] = resized
    return kept

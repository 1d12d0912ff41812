"""The Node and Lease objects of simulated nodes, as a kubelet writes them (pkg/kubelet/kubelet_node_status.go). Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kubecosm.api.names import (
    ANNOTATION_CONTROLLER_MANAGED_ATTACH,
    LABEL_ARCH,
    LABEL_ARCH_BETA,
    LABEL_HOSTNAME,
    LABEL_OS,
    LABEL_OS_BETA,
    LABEL_REGION,
    LABEL_ZONE,
    NAMESPACE_NODE_LEASE,
    NODE_FEATURE_GUARANTEED_CPU_RESIZE,
    NODE_FEATURE_RESTART_ALL,
)  # fmt: skip
from kubecosm.api.quantity import BINARY_SI, Quantity
from kubecosm.api.resources import NODES, Object
from kubecosm.api.times import format_micro_time, format_time

from .addresses import NodeSpec

KUBELET_VERSION = "v1.36.0"
EVICTION_DISK = 0.1
IMAGES_MAX = 50
"""--node-status-max-images"""
EVICTION_MEMORY = "100Mi"
"""Kept back for the node itself: the kubelet's default hard eviction threshold."""
REGION = "local"
NAMESPACE_UUID = uuid.UUID("5b0f2c1e-9f3a-4d64-8f5e-6b7f5a0a3d36")
"""Machine ids are derived from node names, so that they stay over restarts."""


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What the nodes of a process have in common; each adopted node has a shape of its own."""

    cpu: str
    memory: str
    ephemeral_storage: str
    max_pods: int
    port: int
    runtime_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    zones: int = 0
    extended: Mapping[str, str] = field(default_factory=dict)
    """More resources: `nvidia.com/gpu`, huge pages."""
    lease_seconds: int = 40
    version: str = KUBELET_VERSION
    """What the nodes report as their kubelet's version."""


def node_object(node: NodeSpec, shape: NodeShape, now: datetime) -> Object:
    """A Node ready to be created."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": node_labels(node, shape),
            "annotations": {ANNOTATION_CONTROLLER_MANAGED_ATTACH: "true"},
        },
        "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
        "status": node_status(node, shape, now),
    }


def node_labels(node: NodeSpec, shape: NodeShape) -> dict[str, str]:
    labels = {
        LABEL_ARCH_BETA: "amd64", LABEL_OS_BETA: "linux", LABEL_ARCH: "amd64", LABEL_HOSTNAME: node.name,
        LABEL_OS: "linux",
    }  # fmt: skip
    if shape.zones > 0:
        labels |= {LABEL_ZONE: f"zone-{node.index % shape.zones}", LABEL_REGION: REGION}
    return {**labels, **shape.labels}


def node_status(node: NodeSpec, shape: NodeShape, now: datetime) -> Object:
    capacity = {
        "cpu": shape.cpu, "memory": shape.memory, "ephemeral-storage": shape.ephemeral_storage, "pods": str(shape.max_pods),
        "hugepages-1Gi": "0", "hugepages-2Mi": "0", **shape.extended,
    }  # fmt: skip
    return {
        "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
        "capacity": capacity,
        "allocatable": {**capacity, **allocatable(shape.memory, shape.ephemeral_storage)},
        "conditions": node_conditions(now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": shape.port}},
        "nodeInfo": node_info(node, shape),
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": False, "userNamespaces": False}}],
        "features": {"supplementalGroupsPolicy": True},
        **declared_features(shape.version),
    }


def declared_features(version: str) -> Object:
    """What kubelets tell of themselves since 1.36: Guaranteed pods may be given more or less cpu, and a pod's containers all begin anew."""
    numbers = [int(part) if part.isdigit() else 0 for part in version.removeprefix("v").split(".")[:2]]
    return {"declaredFeatures": [NODE_FEATURE_GUARANTEED_CPU_RESIZE, NODE_FEATURE_RESTART_ALL]} if numbers >= [1, 36] else {}


def allocatable(memory: str, ephemeral_storage: str) -> dict[str, str]:
    """Capacity less the kubelet's default hard eviction thresholds (memory.available, nodefs.available), as kubelets write it."""
    left = Quantity.of(memory).nanos - Quantity.of(EVICTION_MEMORY).nanos
    disk = Quantity.of(ephemeral_storage).value()
    return {
        "memory": f"{max(0, left) // 10**9 // 1024}Ki",
        "ephemeral-storage": str(Quantity.from_value(disk - int(disk * EVICTION_DISK), BINARY_SI)),
    }


def boot_id(node: str, started: datetime) -> str:
    """Names one run of a node between switching it on and off."""
    return str(uuid.uuid5(NAMESPACE_UUID, f"{node} {format_time(started)}"))


def node_conditions(
    now: datetime, since: datetime | None = None, not_ready: str = "", pressures: Collection[str] = ()
) -> list[Object]:  # fmt: skip
    """The four conditions of a node: healthy, not ready for the reason given, or short of something. `since` is when they last changed."""
    heartbeat, transition = format_time(now), format_time(since or now)
    told = [PRESSED[one[0]] if one[0] in pressures else one for one in HEALTHY[:-1]]
    told.append(("Ready", "False", "KubeletNotReady", not_ready) if not_ready else HEALTHY[-1])
    return [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": heartbeat,
            "lastTransitionTime": transition,
            "reason": reason,
            "message": message,
        }
        for kind, status, reason, message in told
    ]


PRESSED = {
    "MemoryPressure": ("MemoryPressure", "True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
}
HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def disputed_conditions(node: Object, pressures: Collection[str] = ()) -> list[Object]:
    """Conditions of a Node that say something else than its kubelet does: somebody took it for silent, say."""
    healthy = {kind: status for kind, status, _reason, _message in HEALTHY}
    conditions = (node.get("status") or {}).get("conditions") or ()
    expected = healthy | dict.fromkeys(pressures, "True")
    return [condition for condition in conditions if expected.get(condition["type"], condition["status"]) != condition["status"]]


def image_list(images: Iterable[tuple[str, int]], image_id: Callable[[str], str]) -> list[Object]:
    """status.images from names and sizes: the largest first, no more than a kubelet tells (nodestatus/setters.go)."""
    largest = sorted(images, key=lambda one: (-one[1], one[0]))[:IMAGES_MAX]
    return [{"names": [image_id(name), name], "sizeBytes": size} for name, size in largest]


def node_info(node: NodeSpec, shape: NodeShape) -> Object:
    machine = uuid.uuid5(NAMESPACE_UUID, node.name)
    return {
        "architecture": "amd64", "bootID": str(uuid.uuid5(machine, "boot")), "containerRuntimeVersion": shape.runtime_version,
        "kernelVersion": "6.12.0-kubecosm",
        "kubeProxyVersion": "", "kubeletVersion": shape.version, "machineID": machine.hex, "operatingSystem": "linux",
        "osImage": "kubecosm",
        "systemUUID": str(machine),
    }  # fmt: skip


def status_differs(old: Object, new: Object) -> bool:
    """Whether a Node that exists needs a new status at once: anything but heartbeat times."""
    for key, value in new.items():
        if key == "conditions":
            before = {c["type"]: (c["status"], c.get("reason")) for c in old.get("conditions") or ()}
            if any(before.get(c["type"]) != (c["status"], c["reason"]) for c in value):
                return True
        elif old.get(key) != value:
            return True
    return False


def heartbeat_patch(old_conditions: list[Object], now: datetime, not_ready: str = "", pressures: Collection[str] = ()) -> Object:
    """The strategic merge patch of status that posts the conditions anew; transition times stay where nothing changed."""
    before = {c["type"]: c for c in old_conditions}
    conditions = []
    for condition in node_conditions(now, not_ready=not_ready, pressures=pressures):
        known = before.get(condition["type"])
        if known is not None and known["status"] == condition["status"] and known.get("lastTransitionTime"):
            condition["lastTransitionTime"] = known["lastTransitionTime"]
        conditions.append(condition)
    return {"status": {"conditions": conditions}}


def lease_object(node: NodeSpec, node_uid: str, shape: NodeShape, now: datetime) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": node.name,
            "namespace": NAMESPACE_NODE_LEASE,
            "ownerReferences": [{"apiVersion": NODES.api_version, "kind": NODES.kind, "name": node.name, "uid": node_uid}],
        },
        "spec": {"holderIdentity": node.name, "leaseDurationSeconds": shape.lease_seconds, "renewTime": format_micro_time(now)},
    }

"""Cluster events and queueing hints: what may make a rejected pod schedulable, and who says so (framework/types.go, EnqueueExtensions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag, StrEnum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..state.podinfo import PodInfo


class Action(IntFlag):
    """What happened to an object; one event may carry several."""

    ADD = auto()
    DELETE = auto()
    UPDATE_NODE_ALLOCATABLE = auto()
    UPDATE_NODE_LABEL = auto()
    UPDATE_NODE_TAINT = auto()
    UPDATE_NODE_CONDITION = auto()
    UPDATE_NODE_ANNOTATION = auto()
    UPDATE_NODE_DECLARED_FEATURE = auto()
    UPDATE_POD_LABEL = auto()
    UPDATE_POD_SCALE_DOWN = auto()
    UPDATE_POD_TOLERATION = auto()
    UPDATE_POD_GATES_ELIMINATED = auto()
    UPDATE_POD_GENERATED_RESOURCE_CLAIM = auto()
    UPDATE_OTHER = auto()

    UPDATE_NODE = (
        UPDATE_NODE_ALLOCATABLE | UPDATE_NODE_LABEL | UPDATE_NODE_TAINT | UPDATE_NODE_CONDITION | UPDATE_NODE_ANNOTATION
        | UPDATE_NODE_DECLARED_FEATURE
    )  # fmt: skip
    UPDATE_POD = (
        UPDATE_POD_LABEL | UPDATE_POD_SCALE_DOWN | UPDATE_POD_TOLERATION | UPDATE_POD_GATES_ELIMINATED
        | UPDATE_POD_GENERATED_RESOURCE_CLAIM
    )  # fmt: skip
    UPDATE = UPDATE_NODE | UPDATE_POD | UPDATE_OTHER
    ALL = ADD | DELETE | UPDATE


class EventResource(StrEnum):
    """What kind of object it happened to. ASSIGNED_POD runs on a node, UNSCHEDULED_POD waits (for hints: it is the pod itself)."""

    ASSIGNED_POD = "AssignedPod"
    UNSCHEDULED_POD = "UnscheduledPod"
    NODE = "Node"
    PERSISTENT_VOLUME = "PersistentVolume"
    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    STORAGE_CLASS = "storage.k8s.io/StorageClass"
    CSI_NODE = "storage.k8s.io/CSINode"
    CSI_DRIVER = "storage.k8s.io/CSIDriver"
    CSI_STORAGE_CAPACITY = "storage.k8s.io/CSIStorageCapacity"
    VOLUME_ATTACHMENT = "storage.k8s.io/VolumeAttachment"
    RESOURCE_CLAIM = "resource.k8s.io/ResourceClaim"
    RESOURCE_SLICE = "resource.k8s.io/ResourceSlice"
    DEVICE_CLASS = "resource.k8s.io/DeviceClass"
    NAMESPACE = "Namespace"
    WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """`label` is the event's name in metrics and logs."""

    resource: EventResource
    action: Action
    label: str = ""

    def concerns(self, other: ClusterEvent) -> bool:
        """Whether a plugin registered for this event wants to hear of `other`."""
        same = self.resource is other.resource or EventResource.WILDCARD in (self.resource, other.resource)
        return same and bool(self.action & other.action)


CHANGES_MAX = 1024
"""Combinations of what an update changed."""

_NAMES = {Action.UPDATE_POD_GATES_ELIMINATED: "UpdatePodSchedulingGatesEliminated", Action.UPDATE_OTHER: "Update"}


def action_name(action: Action) -> str:
    """One action in Kubernetes' spelling: `UpdateNodeLabel`."""
    return _NAMES.get(action) or "".join(part.capitalize() for part in (action.name or "").split("_"))


@lru_cache(maxsize=CHANGES_MAX)
def changes(resource: EventResource, actions: Action) -> tuple[ClusterEvent, ...]:
    """One event for each thing that an update changed; a general one if it changed nothing that has a name."""
    if not actions:
        return (ClusterEvent(resource, Action.UPDATE_OTHER, f"{resource}Update"),)
    return tuple(ClusterEvent(resource, action, f"{resource}{action_name(action)}") for action in actions)


Hint = Callable[["PodInfo", Any, Any], bool]
"""(rejected pod, old object, new object) → whether it is worth another try. Pods are PodInfo, other objects are as received;
old is None for an addition, new for a deletion."""


@dataclass(frozen=True, slots=True)
class HintedEvent:
    """An event that a plugin registers for; without a hint every such event is worth a try."""

    event: ClusterEvent
    hint: Hint | None = None


POD_ADD = ClusterEvent(EventResource.UNSCHEDULED_POD, Action.ADD, "UnscheduledPodAdd")
ASSIGNED_POD_ADD = ClusterEvent(EventResource.ASSIGNED_POD, Action.ADD, "AssignedPodAdd")
ASSIGNED_POD_DELETE = ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE, "AssignedPodDelete")
NODE_ADD = ClusterEvent(EventResource.NODE, Action.ADD, "NodeAdd")
NODE_DELETE = ClusterEvent(EventResource.NODE, Action.DELETE, "NodeDelete")
SCHEDULE_ATTEMPT_FAILURE = "ScheduleAttemptFailure"
BACKOFF_COMPLETE = "BackoffComplete"
POP_FROM_BACKOFF = "PopFromBackoffQ"
UNSCHEDULABLE_TIMEOUT = ClusterEvent(EventResource.WILDCARD, Action.ALL, "UnschedulableTimeout")
FORCE_ACTIVATE = ClusterEvent(EventResource.WILDCARD, Action.ALL, "ForceActivate")

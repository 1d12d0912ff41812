"""Why a node cannot be removed, in cluster-autoscaler's words (simulator/drainability/rules and UnremovableReason). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kubecosm.api.meta import annotations_of, controller_of, is_deleting
from kubecosm.api.names import (
    ANNOTATION_CONFIG_MIRROR,
    ANNOTATION_SAFE_TO_EVICT,
    ANNOTATION_SAFE_TO_EVICT_VOLUMES,
    NAMESPACE_SYSTEM,
)
from kubecosm.api.resources import Object

from ...common.pods import is_terminal
from .budgets import Budgets


class Unremovable(StrEnum):
    """Labels of cluster_autoscaler_unremovable_nodes_count."""

    DISABLED = "ScaleDownDisabledAnnotation"
    MINIMUM = "NodeGroupMinSizeReached"
    UTILIZED = "NotUnderutilized"
    NO_PLACE = "NoPlaceToMovePods"
    HOST = "NotUnneededOtherReason"
    BLOCKED = "BlockedByPod"


class BlockingPod(StrEnum):
    """Why a pod holds its node (drain.BlockingPodReason)."""

    NOT_REPLICATED = "NotReplicated"
    NOT_SAFE = "NotSafeToEvictAnnotation"
    LOCAL_STORAGE = "LocalStorageRequested"
    SYSTEM = "UnmovableKubeSystemPod"
    BUDGET = "NotEnoughPdb"


MESSAGES = {
    BlockingPod.NOT_REPLICATED: "pod is not replicated", BlockingPod.NOT_SAFE: "pod is annotated as not safe to evict",
    BlockingPod.LOCAL_STORAGE: "pod has local storage requested", BlockingPod.SYSTEM: "pod is a system pod without a disruption budget",
    BlockingPod.BUDGET: "not enough pod disruption budget to move the pod",
}  # fmt: skip


REPLICATED_KINDS = frozenset(("ReplicationController", "Job", "ReplicaSet", "StatefulSet"))
"""Controllers that are known to make pods anew."""


@dataclass(frozen=True)
class DrainRules:
    """--skip-nodes-with-local-storage, --skip-nodes-with-system-pods and --skip-nodes-with-custom-controller-pods."""

    skip_local_storage: bool = True
    skip_system_pods: bool = True
    skip_custom_controllers: bool = True


def is_daemon(pod: Object) -> bool:
    """Pods that belong to the node itself: they go with it, and never hold it."""
    owner = controller_of(pod)
    return is_mirror(pod) or (owner is not None and owner["kind"] == "DaemonSet")


def is_mirror(pod: Object) -> bool:
    """A static pod, which only its node's kubelet ends."""
    return ANNOTATION_CONFIG_MIRROR in annotations_of(pod)


def movable(pods: Sequence[Object]) -> list[Object]:
    """The pods that must find another node."""
    return [pod for pod in pods if not is_daemon(pod) and not is_terminal(pod) and not is_deleting(pod)]


def blocking(pod: Object, budgets: Budgets, rules: DrainRules) -> BlockingPod | None:
    """Why this pod by itself holds its node; None if it may be moved."""
    verdict, owner = annotations_of(pod).get(ANNOTATION_SAFE_TO_EVICT), controller_of(pod)
    if verdict == "true":
        return None
    if owner is None or (rules.skip_custom_controllers and owner["kind"] not in REPLICATED_KINDS):
        return BlockingPod.NOT_REPLICATED
    if rules.skip_system_pods and pod["metadata"]["namespace"] == NAMESPACE_SYSTEM and not budgets.covers(pod):
        return BlockingPod.SYSTEM
    if verdict == "false":
        return BlockingPod.NOT_SAFE
    return BlockingPod.LOCAL_STORAGE if rules.skip_local_storage and _keeps_data(pod) else None


def _keeps_data(pod: Object) -> bool:
    """Volumes on the node but those in memory and those that the pod says may be lost."""
    safe = {name.strip() for name in annotations_of(pod).get(ANNOTATION_SAFE_TO_EVICT_VOLUMES, "").split(",")}
    return any(
        "hostPath" in volume or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory")
        for volume in pod["spec"].get("volumes") or () if volume["name"] not in safe
    )  # fmt: skip


def blocker(pods: Sequence[Object], budgets: Budgets, rules: DrainRules) -> tuple[Object, BlockingPod] | None:
    """The first pod that holds the node, and why."""
    for pod in pods:
        why = blocking(pod, budgets, rules)
        if why is not None:
            return pod, why
    if not budgets.allow(pods):
        return next(pod for pod in pods if budgets.covers(pod)), BlockingPod.BUDGET
    return None

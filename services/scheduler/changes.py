"""What changed between two versions of a pod or node, as far as scheduling cares (framework/events.go)."""

from __future__ import annotations

from kubecosm.api.meta import annotations_of, labels_of
from kubecosm.api.resources import Object

from .framework.events import Action
from .state.podinfo import PodInfo
from .state.requests import resize_is_infeasible


def same_for_scheduling(old: Object, new: Object) -> bool:
    """Whether a pod's new version would compile to the same PodInfo: true of most updates, which tell of status."""
    before, after = old["metadata"], new["metadata"]
    return (
        (old["spec"] is new["spec"] or old["spec"] == new["spec"])
        and before.get("labels") == after.get("labels")
        and before.get("deletionTimestamp") == after.get("deletionTimestamp")
        and _resources_of(old) == _resources_of(new)
        and _claims_of(old) == _claims_of(new)
        and resize_is_infeasible(old) == resize_is_infeasible(new)
    )


def same_generation(old: Object, new: Object) -> bool:
    """Whether a pod's spec is what it was but for the node, by its generation, and nothing else that is compiled has changed."""
    before, after = old["metadata"], new["metadata"]
    return (
        before.get("generation") is not None
        and before["generation"] == after.get("generation")
        and before.get("labels") == after.get("labels")
        and before.get("deletionTimestamp") == after.get("deletionTimestamp")
        and not _resources_of(new)
    )


def nominated_node_of(pod: Object) -> str:
    """status.nominatedNodeName, or empty."""
    name: str = (pod.get("status") or {}).get("nominatedNodeName") or ""
    return name


def started_between(old: Object, new: Object) -> bool:
    """Whether the kubelet has said meanwhile when the pod started."""
    return bool((old.get("status") or {}).get("startTime") != (new.get("status") or {}).get("startTime"))


def _resources_of(pod: Object) -> list[object]:
    """What the kubelet says of resources during an in-place resize."""
    status = pod.get("status") or {}
    both = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    told: list[object] = [
        (s["name"], s.get("allocatedResources"), s.get("resources")) for s in both if s.get("allocatedResources") or s.get("resources")
    ]
    return [*told, (status.get("allocatedResources"), status["resources"])] if status.get("resources") else told


def pod_action(old: PodInfo, new: PodInfo) -> Action:
    """How a pod changed (PodSchedulingPropertiesChange); nothing if it did not, for scheduling."""
    action = Action(0)
    if old.labels != new.labels:
        action |= Action.UPDATE_POD_LABEL
    if any(value > new.requests.get(name, 0) for name, value in old.requests.items()):
        action |= Action.UPDATE_POD_SCALE_DOWN
    if len(new.tolerations) != len(old.tolerations):
        action |= Action.UPDATE_POD_TOLERATION
    if old.pod["spec"].get("schedulingGates") and not new.pod["spec"].get("schedulingGates"):
        action |= Action.UPDATE_POD_GATES_ELIMINATED
    if _claims_of(old.pod) != _claims_of(new.pod):
        action |= Action.UPDATE_POD_GENERATED_RESOURCE_CLAIM
    return action


def _claims_of(pod: Object) -> object:
    """The claims that were made for the pod, from templates and for its extended resources."""
    status = pod.get("status") or {}
    return status.get("resourceClaimStatuses") or None, status.get("extendedResourceClaimStatus")


def node_action(old: Object, new: Object) -> Action:
    """How a node changed (NodeSchedulingPropertiesChange); nothing for a heartbeat, or for being cordoned."""
    action = Action(0)
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if (before.get("unschedulable") and not after.get("unschedulable")) or (before.get("taints") or []) != (after.get("taints") or []):
        action |= Action.UPDATE_NODE_TAINT
    if labels_of(old) != labels_of(new):
        action |= Action.UPDATE_NODE_LABEL
    was, now = old.get("status") or {}, new.get("status") or {}
    if was.get("allocatable") != now.get("allocatable"):
        action |= Action.UPDATE_NODE_ALLOCATABLE
    if _conditions(was) != _conditions(now):
        action |= Action.UPDATE_NODE_CONDITION
    if annotations_of(old) != annotations_of(new):
        action |= Action.UPDATE_NODE_ANNOTATION
    if was.get("declaredFeatures") != now.get("declaredFeatures"):
        action |= Action.UPDATE_NODE_DECLARED_FEATURE
    return action


def _conditions(status: Object) -> dict[str, str]:
    return {condition["type"]: condition.get("status", "") for condition in status.get("conditions") or ()}

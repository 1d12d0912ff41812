"""NodeDeclaredFeatures: pods whose spec needs a feature of the kubelet go to nodes that declare it in status.declaredFeatures.

Which features those are is a table; features that only matter for updates of running pods are none of the scheduler's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kubecosm.api.resources import Object

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable
from ..state.columns import Rows
from ..state.podinfo import PodInfo

REASON = "node declared features check failed - unsatisfied requirements: "


def _restarts_all(spec: Object) -> bool:
    """Whether a container's exit may restart all of them."""
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return any(rule.get("action") == "RestartAllContainers" for one in containers for rule in one.get("restartPolicyRules") or ())


def _has_own_users_on_host_network(spec: Object) -> bool:
    return bool(spec.get("hostNetwork")) and spec.get("hostUsers") is False


NEEDED_FOR: Mapping[str, Callable[[Object], bool]] = {
    "RestartAllContainersOnContainerExits": _restarts_all, "UserNamespacesHostNetworkSupport": _has_own_users_on_host_network,
}  # fmt: skip
"""Feature → whether a pod's spec needs it (component-helpers/nodedeclaredfeatures)."""


def requirements_of(spec: Object) -> frozenset[str]:
    """The features that a node must declare to run such a pod."""
    return frozenset(name for name, needs in NEEDED_FOR.items() if needs(spec))


class NodeDeclaredFeatures:
    name = "NodeDeclaredFeatures"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes

    def events_to_register(self) -> list[HintedEvent]:
        nodes = ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_DECLARED_FEATURE)
        return [HintedEvent(nodes, self._node_changed)]

    @staticmethod
    def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the node declares all that the pod needs."""
        return requirements_of(pod.pod["spec"]) <= declared_by(new)

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        needed = requirements_of(pod.pod["spec"])
        if not needed:
            return SKIP_STATUS
        state.data[self.name] = needed
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        needed: frozenset[str] = state.data[self.name]
        objects = [self._nodes.objects[row] for row in np.arange(self._nodes.size)[rows].tolist()]
        lacking = [tuple(sorted(needed - declared_by(one))) if one is not None else () for one in objects]
        distinct = sorted({one for one in lacking if one})
        if not distinct:
            return None
        codes = np.array([distinct.index(one) if one else 0 for one in lacking], np.int64)
        ok = np.array([not one for one in lacking], np.bool_)
        return Verdict(ok, [unresolvable(REASON + ", ".join(one)) for one in distinct], codes)


def declared_by(node: Object) -> frozenset[str]:
    """status.declaredFeatures"""
    return frozenset((node.get("status") or {}).get("declaredFeatures") or ())

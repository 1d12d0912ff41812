"""Conditions that the scheduler writes, and a pod's nominated node, as patches of the pod's status."""

from __future__ import annotations

from datetime import datetime

from kubecosm.api.meta import get_condition
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

POD_SCHEDULED = "PodScheduled"


def status_patch(pod: Object, reason: str, message: str, nominated: str | None, now: datetime) -> Object | None:
    """A strategic merge patch of the pod's status; None if it says all of that already (updatePod).

    `nominated`: None leaves status.nominatedNodeName, empty clears it.
    """
    patch: Object = {}
    condition = changed_condition(pod, POD_SCHEDULED, "False", reason, message, now)
    if condition is not None:
        patch["conditions"] = [condition]
    current = (pod.get("status") or {}).get("nominatedNodeName") or ""
    if nominated is not None and nominated != current:
        patch["nominatedNodeName"] = nominated or None
    return patch or None


def changed_condition(pod: Object, kind: str, status: str, reason: str, message: str, now: datetime) -> Object | None:
    """The new condition, or None if the pod has it; the transition time is kept while the status stays (podutil.UpdatePodCondition)."""
    old = get_condition(pod, kind)
    new: Object = {"type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": None}
    generation = pod["metadata"].get("generation")
    if generation:
        new["observedGeneration"] = generation
    if old is not None and old.get("status") == status:
        new["lastTransitionTime"] = old.get("lastTransitionTime")
        compared = ("reason", "message", "observedGeneration")
        if all(old.get(name) == new.get(name) for name in compared):
            return None
    else:
        new["lastTransitionTime"] = format_time(now)
    return new

"""What a change of a pod's object means for the kubelet. Pure."""

from __future__ import annotations

from datetime import datetime

from kubecosm.api.resources import Object
from kubecosm.api.times import parse_time

from .conditions import READY
from .phase import TERMINAL, is_terminal

ENDING = ("phase", "reason", "message")
"""The fields of a status that tell that the pod is over, and why."""


def generation_of(pod: Object) -> int:
    return int(pod["metadata"].get("generation") or 0)


def needs_sync(old: Object, new: Object) -> bool:
    """Whether a change of the object can change what the kubelet does or reports; echoes of its own status writes cannot."""
    before, after = old["metadata"], new["metadata"]
    if before.get("generation") != after.get("generation") or before.get("deletionTimestamp") != after.get("deletionTimestamp"):
        return True
    if before.get("deletionGracePeriodSeconds") != after.get("deletionGracePeriodSeconds"):
        return True
    if old["spec"] != new["spec"]:
        return True
    return bool(new["spec"].get("readinessGates")) and old.get("status") != new.get("status")


def has_run(pod: Object) -> bool:
    """Whether the status tells of containers that were created: after a restart of the kubelet such a pod is taken up again."""
    status = pod.get("status") or {}
    lists = (status.get(key) or () for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"))
    return any("containerID" in entry for entries in lists for entry in entries)


def adopted_end(old: Object, new: Object, ours: Object | None) -> Object | None:
    """The status that is `ours`, with the end that somebody else declared; None if nobody did. Such a pod ends."""
    if ours is None or ours["phase"] in TERMINAL or is_terminal(old) or not is_terminal(new):
        return None
    return ours | {key: new["status"][key] for key in ENDING if key in new["status"]}


def is_ready_disputed(ours: Object, pod: Object) -> bool:
    """Whether somebody else says of the condition Ready what the kubelet does not: a node was taken for dead (needsReconcile)."""
    theirs = pod.get("status") or ours
    mine, other = ([one["status"] for one in status.get("conditions") or () if one["type"] == READY] for status in (ours, theirs))
    return mine != other


def seconds_left(pod: Object, status: Object, now: datetime) -> float | None:
    """Until activeDeadlineSeconds is over; None if there is no end to it."""
    limit, started = pod["spec"].get("activeDeadlineSeconds"), status.get("startTime")
    return None if limit is None or not started else limit - (now - parse_time(started)).total_seconds()

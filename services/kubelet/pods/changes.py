"""What a change of a pod's object means for the kubelet. Pure."""

from __future__ import annotations

from kubecosm.api.resources import Object


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

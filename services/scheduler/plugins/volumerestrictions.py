"""VolumeRestrictions: a ReadWriteOncePod claim serves one pod in the whole cluster. Left out: the in-tree disk types that are gone."""

from __future__ import annotations

from typing import Any

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState
from ..framework.status import SKIP_STATUS, Status, unschedulable
from ..state.podinfo import PodInfo

REASON = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


class VolumeRestrictions:
    name = "VolumeRestrictions"

    def __init__(self, handle: Handle) -> None:
        self._cluster = handle.cluster
        self._claims = handle.volumes.claims

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE), self._pod_deleted),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME_CLAIM, Action.ADD | Action.UPDATE)),
        ]

    @staticmethod
    def _pod_deleted(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the deleted pod shared a claim."""
        return old.namespace == pod.namespace and not set(old.claims).isdisjoint(pod.claims)

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        """A claim in use refuses the pod everywhere: no node would be different."""
        for name in pod.claims:
            key = f"{pod.namespace}/{name}"
            modes = ((self._claims.get(key) or {}).get("spec") or {}).get("accessModes") or ()
            if "ReadWriteOncePod" in modes and self._cluster.claim_users.get(key):
                return unschedulable(REASON)
        return SKIP_STATUS

"""VolumeRestrictions: a ReadWriteOncePod claim serves one pod in the whole cluster, and some disks one pod of a node."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import Rows
from ..state.podinfo import Disk, PodInfo

REASON_CLAIM = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
REASON_DISK = "node(s) had no available disk"


def conflict(wanted: Disk, used: Disk) -> bool:
    """Whether two pods of one node cannot have these disks (isVolumeConflict); AWS volumes are not even shared for reading."""
    same = wanted.kind == used.kind and wanted.identity == used.identity
    if not same or (wanted.kind == "rbd" and set(wanted.hosts).isdisjoint(used.hosts)):
        return False
    return wanted.kind == "aws" or not (wanted.read_only and used.read_only)


class VolumeRestrictions:
    name = "VolumeRestrictions"

    def __init__(self, handle: Handle) -> None:
        self._cluster = handle.cluster
        self._claims = handle.volumes.claims

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE), self._pod_deleted),
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD)),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME_CLAIM, Action.ADD | Action.UPDATE)),
        ]

    @staticmethod
    def _pod_deleted(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the deleted pod shared a claim or a disk."""
        shared_claim = old.namespace == pod.namespace and not set(old.claims).isdisjoint(pod.claims)
        return shared_claim or any(conflict(wanted, used) for wanted in pod.disks for used in old.disks)

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        """Whether a placed pod has a claim that only one may have: that refuses every node."""
        in_use = False
        for name in pod.claims:
            key = f"{pod.namespace}/{name}"
            claim = self._claims.get(key)
            if claim is None and not _is_ephemeral(pod, name):
                return unresolvable(f'persistentvolumeclaim "{name}" not found')
            modes = ((claim or {}).get("spec") or {}).get("accessModes") or ()
            in_use = in_use or ("ReadWriteOncePod" in modes and bool(self._cluster.claim_users.get(key)))
        if not in_use and not pod.disks:
            return SKIP_STATUS
        state.data[self.name] = in_use
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        nodes = self._cluster.nodes
        asked = np.arange(nodes.size)[rows]
        if state.data[self.name]:
            return Verdict(np.zeros(len(asked), np.bool_), (unschedulable(REASON_CLAIM),))
        ok = [not self._has_conflict(pod, nodes.pods[row].values()) for row in asked.tolist()]
        return None if all(ok) else Verdict(np.array(ok), (unschedulable(REASON_DISK),))

    @staticmethod
    def _has_conflict(pod: PodInfo, others: Any) -> bool:
        return any(other.disks and conflict(wanted, used) for other in others for used in other.disks for wanted in pod.disks)


def _is_ephemeral(pod: PodInfo, claim: str) -> bool:
    """The claim of an ephemeral volume: VolumeBinding says what is missing."""
    return any(v.get("ephemeral") is not None and claim == f"{pod.name}-{v['name']}" for v in pod.pod["spec"].get("volumes") or ())

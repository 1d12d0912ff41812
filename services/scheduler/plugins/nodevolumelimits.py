"""NodeVolumeLimits: a node attaches so many volumes of a CSI driver and no more, as its CSINode says (nodevolumelimits/csi.go).

Left out: volumes of in-tree drivers that migration turns into CSI volumes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable, unschedulable
from ..state.columns import Rows
from ..state.csi import Attachable
from ..state.podinfo import PodInfo
from ..state.volumes import class_of
from .volumehints import csi_node_holds_more, own_claim

REASON = "node(s) exceed max volume count"
CACHES = "waiting for the caches of CSI objects"


class NodeVolumeLimits:
    name = "NodeVolumeLimits"

    def __init__(self, handle: Handle) -> None:
        self._cluster = handle.cluster
        self._volumes = handle.volumes
        self._csi = handle.volumes.csi

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.CSI_NODE, Action.ADD | Action.UPDATE), csi_node_holds_more),
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE), lambda pod, old, new: bool(old.claims)),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME_CLAIM, Action.ADD), own_claim),
            HintedEvent(ClusterEvent(EventResource.VOLUME_ATTACHMENT, Action.DELETE)),
        ]

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        """Limits are not known before the CSINodes are; nobody hears of these few milliseconds."""
        return unresolvable(CACHES) if pod.claims and not self._csi.ready else None

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        wanted = set(self._attachables(pod)) if self._csi.limits and pod.claims else set()
        if not wanted:
            return SKIP_STATUS
        state.data[self.name] = wanted
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        wanted: set[Attachable] = state.data[self.name]
        names = np.arange(self._cluster.nodes.size)[rows].tolist()
        ok = [self._has_room(row, wanted) for row in names]
        return None if all(ok) else Verdict(np.array(ok), (unschedulable(REASON),))

    def _has_room(self, row: int, wanted: set[Attachable]) -> bool:
        nodes = self._cluster.nodes
        limits = self._csi.limits.get(nodes.names[row])
        if not limits or limits.keys().isdisjoint(volume.driver for volume in wanted):
            return True
        attached = {volume for other in nodes.pods[row].values() if other.claims for volume in self._attachables(other)}
        attached.update(self._known(self._csi.attached_volumes(nodes.names[row])))
        before = Counter(volume.driver for volume in attached)
        new = Counter(volume.driver for volume in wanted - attached)
        return all(before[driver] + count <= limits[driver] for driver, count in new.items() if driver in limits)

    def _attachables(self, pod: PodInfo) -> Iterable[Attachable]:
        """The CSI volumes of a pod; one that is not provisioned yet counts under its claim."""
        for name in pod.claims:
            key = f"{pod.namespace}/{name}"
            claim = self._volumes.claims.get(key)
            if claim is None:
                continue
            volume = (claim.get("spec") or {}).get("volumeName")
            if volume and volume in self._volumes.volumes:
                yield from self._known((volume,))
                continue
            storage_class = self._volumes.classes.get(class_of(claim))
            if storage_class is not None and storage_class.get("provisioner"):
                yield Attachable(storage_class["provisioner"], key)

    def _known(self, volumes: Iterable[str]) -> Iterable[Attachable]:
        for name in volumes:
            source = ((self._volumes.volumes.get(name) or {}).get("spec") or {}).get("csi")
            if source:
                yield Attachable(source["driver"], source["volumeHandle"])

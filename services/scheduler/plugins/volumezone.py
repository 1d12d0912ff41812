"""VolumeZone: a volume with zone or region labels is used in that zone or region only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kubecosm.api import names
from kubecosm.api.meta import labels_of

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unresolvable
from ..state.columns import MISSING, BoolArray, LabelColumn, Rows
from ..state.podinfo import PodInfo
from .volumehints import class_that_waits, own_claim, place_changed

REASON = "node(s) had no available volume zone"
TOPOLOGY_KEYS = {
    names.LABEL_ZONE_BETA: names.LABEL_ZONE, names.LABEL_REGION_BETA: names.LABEL_REGION,
    names.LABEL_ZONE: names.LABEL_ZONE, names.LABEL_REGION: names.LABEL_REGION,
}  # fmt: skip
"""Label → what a node without it may carry instead."""
SEPARATOR = "__"
"""Between the zones of a volume that is in several."""


class VolumeZone:
    name = "VolumeZone"
    looks_at_pods = False

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes
        self._volumes = handle.volumes

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.STORAGE_CLASS, Action.ADD), class_that_waits),
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_LABEL), place_changed),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME_CLAIM, Action.ADD | Action.UPDATE), own_claim),
            HintedEvent(ClusterEvent(EventResource.PERSISTENT_VOLUME, Action.ADD | Action.UPDATE), place_changed),
        ]

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        wanted = []
        for name in pod.claims:
            claim = self._volumes.claims.get(f"{pod.namespace}/{name}") or {}
            volume = self._volumes.volumes.get((claim.get("spec") or {}).get("volumeName") or "")
            labels = labels_of(volume) if volume is not None else {}
            wanted += [(key, labels[key].split(SEPARATOR)) for key in TOPOLOGY_KEYS if key in labels]
        if not wanted:
            return SKIP_STATUS
        state.data[self.name] = wanted
        return None

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        """Nodes without any topology label are taken as a cluster of one zone."""
        ok = np.ones(self._nodes.size, np.bool_)
        unlabelled = np.ones(self._nodes.size, np.bool_)
        for key in TOPOLOGY_KEYS:
            unlabelled &= self._nodes.labels.get(key).ids == MISSING
        for key, values in state.data[self.name]:
            own, current = self._nodes.labels.get(key), self._nodes.labels.get(TOPOLOGY_KEYS[key])
            allowed = np.where(own.ids == MISSING, _in(current, values), _in(own, values))
            ok &= allowed | unlabelled
        return Verdict(ok[rows], (unresolvable(REASON),))


def _in(column: LabelColumn, values: Sequence[str]) -> BoolArray:
    """Rows whose label has one of the values."""
    found: BoolArray = np.isin(column.ids, [column.id_of[value] for value in values if value in column.id_of])
    return found

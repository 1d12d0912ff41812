"""What CSI drivers say: how many volumes a node can attach, and how much room a storage system has where.

Watched only once a pod with claims waits (`ready` tells): clusters without storage do not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kubecosm.api.resources import Object
from kubecosm.api.selectors import SelectorError, from_label_selector

from .nodeselector import NodeTerms, compile_selector


class Attachable(NamedTuple):
    """A volume as its driver knows it."""

    driver: str
    handle: str


class CsiState:
    """CSINodes, CSIDrivers, CSIStorageCapacities and VolumeAttachments as last heard of."""

    def __init__(self) -> None:
        self.ready = True
        """False while the first lists are under way."""
        self.limits: dict[str, dict[str, int]] = {}
        """Node → driver → how many of its volumes can be attached there; only where there is a limit."""
        self._tracks_capacity: set[str] = set()
        self._capacities: dict[str, dict[str, Object]] = {}
        self._attached: dict[str, dict[str, str]] = {}

    # ---- informers

    def set_node(self, csi_node: Object) -> None:
        drivers = (csi_node.get("spec") or {}).get("drivers") or ()
        counts = {driver["name"]: (driver.get("allocatable") or {}).get("count") for driver in drivers}
        limits = {name: int(count) for name, count in counts.items() if count is not None}
        if limits:
            self.limits[csi_node["metadata"]["name"]] = limits
        else:
            self.remove_node(csi_node)

    def remove_node(self, csi_node: Object) -> None:
        self.limits.pop(csi_node["metadata"]["name"], None)

    def set_driver(self, driver: Object) -> None:
        self.remove_driver(driver)
        if (driver.get("spec") or {}).get("storageCapacity"):
            self._tracks_capacity.add(driver["metadata"]["name"])

    def remove_driver(self, driver: Object) -> None:
        self._tracks_capacity.discard(driver["metadata"]["name"])

    def set_capacity(self, capacity: Object) -> None:
        self._capacities.setdefault(capacity.get("storageClassName") or "", {})[key_of(capacity)] = capacity

    def remove_capacity(self, capacity: Object) -> None:
        self._capacities.get(capacity.get("storageClassName") or "", {}).pop(key_of(capacity), None)

    def set_attachment(self, attachment: Object) -> None:
        spec = attachment.get("spec") or {}
        volume = (spec.get("source") or {}).get("persistentVolumeName")
        if volume:
            self._attached.setdefault(spec.get("nodeName") or "", {})[attachment["metadata"]["name"]] = volume

    def remove_attachment(self, attachment: Object) -> None:
        self._attached.get((attachment.get("spec") or {}).get("nodeName") or "", {}).pop(attachment["metadata"]["name"], None)

    # ---- questions

    def attached_volumes(self, node: str) -> Iterator[str]:
        """Names of the PersistentVolumes that are attached to a node, or are to be."""
        yield from self._attached.get(node, {}).values()

    def tracks_capacity(self, driver: str) -> bool:
        """Whether the driver publishes CSIStorageCapacity objects, so that room must be looked for there."""
        return driver in self._tracks_capacity

    def capacities(self, storage_class: str) -> Iterator[Object]:
        """Every CSIStorageCapacity of a class."""
        yield from self._capacities.get(storage_class, {}).values()


def key_of(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def reach_of(capacity: Object) -> NodeTerms | None:
    """The nodes that reach the storage a CSIStorageCapacity is about; None: no node does."""
    topology = capacity.get("nodeTopology")
    try:
        selector = from_label_selector(topology)
    except SelectorError:
        return None
    if topology is None or selector.nothing:
        return None
    if selector.is_everything:
        return NodeTerms()
    expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in (topology.get("matchLabels") or {}).items()]
    return compile_selector({"nodeSelectorTerms": [{"matchExpressions": [*expressions, *(topology.get("matchExpressions") or ())]}]})

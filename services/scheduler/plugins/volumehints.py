"""Which changes of storage objects are worth another try of a rejected pod: the queueing hints of the volume plugins. Pure."""

from __future__ import annotations

from typing import Any

from kubecosm.api import names
from kubecosm.api.meta import annotations_of, labels_of
from kubecosm.api.quantity import Quantity, QuantityError
from kubecosm.api.resources import Object

from ..state.podinfo import PodInfo

TOPOLOGY_KEYS = (names.LABEL_ZONE_BETA, names.LABEL_REGION_BETA, names.LABEL_ZONE, names.LABEL_REGION)
WAITS = "WaitForFirstConsumer"


def own_claim(pod: PodInfo, old: Any, new: Any) -> bool:
    """One of the pod's own claims came or changed."""
    return new["metadata"].get("namespace") == pod.namespace and new["metadata"]["name"] in pod.claims


def class_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    """A class is new, or allows other topologies than before."""
    return old is None or old.get("allowedTopologies") != new.get("allowedTopologies")


def class_that_waits(pod: PodInfo, old: Any, new: Any) -> bool:
    """A new class whose volumes are bound when the node is known."""
    return bool(new.get("volumeBindingMode") == WAITS)


def csi_node_migrated(pod: PodInfo, old: Any, new: Any) -> bool:
    """A CSINode is new, or other in-tree plugins migrate to CSI there."""
    return old is None or _migrated(old) != _migrated(new)


def _migrated(csi_node: Object) -> str:
    return annotations_of(csi_node).get(names.ANNOTATION_MIGRATED_PLUGINS, "")


def csi_node_holds_more(pod: PodInfo, old: Any, new: Any) -> bool:
    """A CSINode is new, or one of its drivers attaches more volumes than before, or has no limit now."""
    if old is None:
        return True
    before, after = _limits(old), _limits(new)
    return any(
        name not in before or (before[name] is not None and (after[name] is None or after[name] > before[name]))  # type: ignore[operator]
        for name in after
    )


def _limits(csi_node: Object) -> dict[str, int | None]:
    return {one["name"]: (one.get("allocatable") or {}).get("count") for one in (csi_node.get("spec") or {}).get("drivers") or ()}


def driver_tells_no_capacity(pod: PodInfo, old: Any, new: Any) -> bool:
    """A driver's capacity is not to be looked at any more."""
    return bool((old["spec"] or {}).get("storageCapacity")) and not (new["spec"] or {}).get("storageCapacity")


def capacity_grew(pod: PodInfo, old: Any, new: Any) -> bool:
    """There is room for larger volumes than before."""
    return old is None or _volume_limit(new) > _volume_limit(old)


def _volume_limit(capacity: Object) -> int:
    """How large a new volume may be, in nanos."""
    try:
        return Quantity.of(capacity.get("maximumVolumeSize") or capacity.get("capacity") or "0").nanos
    except QuantityError:
        return 0


def place_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    """A volume or a node is new, or in another place than before."""
    return old is None or _places(old) != _places(new)


def _places(obj: Object) -> dict[str, str]:
    labels = labels_of(obj)
    return {key: labels[key] for key in TOPOLOGY_KEYS if key in labels}

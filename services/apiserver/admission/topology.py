"""PodTopologyLabels: pods learn the zone and region of their node. Imitates plugin/pkg/admission/podtopologylabels."""

from __future__ import annotations

from kubecosm.api.names import LABEL_REGION, LABEL_ZONE
from kubecosm.api.resources import PODS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import CREATE, Attributes, Plugin

TOPOLOGY_LABELS = (LABEL_ZONE, LABEL_REGION)


class PodTopologyLabels(Plugin):
    """On a binding the labels go onto the Binding, from which they reach the pod."""

    name = "PodTopologyLabels"
    operations = (CREATE,)

    def __init__(self, nodes: ResourceCache) -> None:
        self._nodes = nodes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and subresource in ("", "binding")

    def admit(self, attributes: Attributes) -> None:
        obj = attributes.obj
        assert obj is not None
        if attributes.subresource:
            target = obj.get("target") or {}
            node = target.get("name") if target.get("kind") in (None, "", "Node") else ""
        else:
            node = (obj.get("spec") or {}).get("nodeName")
        if node:
            self._add_labels(obj, node)

    def _add_labels(self, obj: Object, node: str) -> None:
        entry = self._nodes.get(node)
        if entry is None or not any(label.encode() in entry.data for label in TOPOLOGY_LABELS):
            return
        labels = entry.decode()["metadata"].get("labels") or {}
        topology = {key: labels[key] for key in TOPOLOGY_LABELS if key in labels}
        if topology:
            meta = obj.setdefault("metadata", {})
            meta["labels"] = {**(meta.get("labels") or {}), **topology}

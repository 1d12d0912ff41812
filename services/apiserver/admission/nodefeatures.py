"""NodeDeclaredFeatureValidator: a pod that runs is not changed in a way that its node has not said it can follow.

Imitates plugin/pkg/admission/nodedeclaredfeatures and the features of k8s.io/component-helpers/nodedeclaredfeatures that updates may need.
Left out: devices with resources of nodes (alpha).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecosm.api.field import go_quote
from kubecosm.api.names import NODE_FEATURE_GUARANTEED_CPU_RESIZE, NODE_FEATURE_POD_LEVEL_RESIZE
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import NODES, PODS, Object, Resource

from ..cache.resource import ResourceCache
from .chain import UPDATE, Attributes, Plugin
from .refusal import refuse

if TYPE_CHECKING:
    from .plugins import Parts


class NodeDeclaredFeatureValidator(Plugin):
    name = "NodeDeclaredFeatureValidator"
    operations = (UPDATE,)

    def __init__(self, nodes: ResourceCache) -> None:
        self._nodes = nodes

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource == PODS and subresource in ("", "resize")

    def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        assert pod is not None
        assert old is not None
        node_name = pod["spec"].get("nodeName")
        if not node_name or pod["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        needed = features_needed(old, pod)
        if not needed:
            return
        node = self._nodes.get(node_name)
        if node is None:
            raise refuse(attributes, f"node {go_quote(node_name)} not found")
        declared = (node.decode().get("status") or {}).get("declaredFeatures") or ()
        missing = [feature for feature in needed if feature not in declared]
        if missing:
            raise refuse(
                attributes, f"pod update requires features {', '.join(missing)} which are not available on node {go_quote(node_name)}"
            )


def features_needed(old: Object, pod: Object) -> list[str]:
    """What a node must be able to do for this change, by name."""
    needed = []
    is_guaranteed = (old.get("status") or {}).get("qosClass", "Guaranteed") == "Guaranteed"
    if is_guaranteed and _cpu(old) != _cpu(pod):
        needed.append(NODE_FEATURE_GUARANTEED_CPU_RESIZE)
    if old["spec"].get("resources") != pod["spec"].get("resources"):
        needed.append(NODE_FEATURE_POD_LEVEL_RESIZE)
    return sorted(needed)


def _cpu(pod: Object) -> list[Quantity]:
    requests = (((container.get("resources") or {}).get("requests") or {}) for container in pod["spec"].get("containers") or ())
    return [Quantity.of(request.get("cpu", "0")) for request in requests]


def build(parts: Parts) -> NodeDeclaredFeatureValidator:
    return NodeDeclaredFeatureValidator(parts.cache(NODES))

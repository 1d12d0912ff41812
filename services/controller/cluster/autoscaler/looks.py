"""What a look of the cluster autoscaler reads from its caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubecosm.api.meta import Key, labels_of
from kubecosm.api.names import LABEL_NODE_GROUP, NAMESPACE_SYSTEM
from kubecosm.api.resources import CONFIGMAPS, PODS, Object
from kubecosm.client.controller import Context

from ...common.pods import INDEX_NODE, is_terminal
from .simulation import Ask, ask_of
from .status import STATUS_MAP
from .volumes import volume_needs

STATUS_KEY = Key(NAMESPACE_SYSTEM, STATUS_MAP)


def status_object(ctx: Context) -> Object:
    """The status ConfigMap, which cluster-autoscaler's own events are about."""
    known = ctx.cache(CONFIGMAPS).get(STATUS_KEY)
    return known if known is not None else {"metadata": {"name": STATUS_MAP, "namespace": NAMESPACE_SYSTEM}}


def ask_for(ctx: Context, pod: Object) -> Ask:
    """What a pod demands of a node, its volumes included."""
    return ask_of(pod, volume_needs(pod, lambda resource, key: ctx.cache(resource).get(key)))


def running_on(ctx: Context, node: Object) -> list[Object]:
    """The pods of a node that have not ended."""
    return [pod for pod in ctx.cache(PODS).by_index(INDEX_NODE, node["metadata"]["name"]) if not is_terminal(pod)]


def ungrouped(nodes: Sequence[Object], members: Mapping[str, Sequence[Object]]) -> list[Object]:
    return [node for node in nodes if labels_of(node).get(LABEL_NODE_GROUP) not in members]

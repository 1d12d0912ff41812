"""The ConfigMap kube-system/cluster-autoscaler-status, by which people and dashboards see what the autoscaler is at. Pure.

Imitates cluster-autoscaler's clusterstate api (the YAML form of 1.30 and later).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from kubecosm.api.names import ANNOTATION_AUTOSCALER_LAST_UPDATED, NAMESPACE_SYSTEM
from kubecosm.api.resources import Object

from ...common.nodes import ready_status
from .groups import NodeGroup, ordered

STATUS_MAP = "cluster-autoscaler-status"


def plan_status(groups: Sequence[NodeGroup], members: Mapping[str, Sequence[Object]], unneeded: Collection[str]) -> Object:
    """What there is to tell, without the time."""
    listed = [_group(group, members.get(group.name, ()), unneeded) for group in ordered(groups)]
    return {"autoscalerStatus": "Running", "nodeGroups": listed}


def _group(group: NodeGroup, nodes: Sequence[Object], unneeded: Collection[str]) -> Object:
    ready = sum(ready_status(node) == "True" for node in nodes)
    candidates = sum(node["metadata"]["name"] in unneeded for node in nodes)
    counts = {"registered": {"total": len(nodes), "ready": ready, "notStarted": len(nodes) - ready}}
    health = {
        "status": "Healthy",
        "nodeCounts": counts,
        "cloudProviderTarget": len(nodes),
        "minSize": group.minimum,
        "maxSize": group.maximum,
    }
    scale_down = {"status": "CandidatesPresent" if candidates else "NoCandidates", "candidates": candidates}
    return {
        "name": group.name, "health": health, "scaleUp": {"status": "NoActivity" if ready == len(nodes) else "InProgress"},
        "scaleDown": scale_down,
    }  # fmt: skip


def status_map(told: Object, now: datetime) -> Object:
    """The ConfigMap that tells this."""
    import yaml  # rarely needed

    stamp = f"{now:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
    text = yaml.safe_dump({"time": stamp, **told}, sort_keys=False)
    metadata = {"name": STATUS_MAP, "namespace": NAMESPACE_SYSTEM, "annotations": {ANNOTATION_AUTOSCALER_LAST_UPDATED: stamp}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"status": text}}

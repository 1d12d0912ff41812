"""The ConfigMap kube-system/cluster-autoscaler-status, by which people and dashboards see what the autoscaler is at. Pure.

Imitates cluster-autoscaler's clusterstate api (the YAML form of 1.30 and later). Probe times are those of the last write: it is written
when something changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from kubecosm.api.names import ANNOTATION_AUTOSCALER_LAST_UPDATED, NAMESPACE_SYSTEM
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ...common.nodes import ready_status
from .backoff import ERROR_CODE, ERROR_MESSAGE
from .groups import NodeGroup, ordered

STATUS_MAP = "cluster-autoscaler-status"
PARTS = ("health", "scaleUp", "scaleDown")


def plan_status(
    groups: Sequence[NodeGroup], members: Mapping[str, Sequence[Object]], unneeded: Collection[str], leaving: Collection[str] = (),
    others: Sequence[Object] = (), closed: Collection[str] = (),
) -> Object:  # fmt: skip
    """What there is to tell, without times.

    `leaving`: nodes that are being removed; `others`: nodes of no group; `closed`: groups in back-off.
    """
    listed = [_group(group, members.get(group.name, ()), unneeded, leaving, closed) for group in ordered(groups)]
    every = [*others, *(node for found in members.values() for node in found)]
    wide = {
        "health": {"status": "Healthy", "nodeCounts": _counts(every, leaving)},
        "scaleUp": {"status": "InProgress" if any(one["scaleUp"]["status"] == "InProgress" for one in listed) else "NoActivity"},
        "scaleDown": _scale_down(every, unneeded),
    }
    return {"autoscalerStatus": "Running", "clusterWide": wide, "nodeGroups": listed}


def _group(
    group: NodeGroup, nodes: Sequence[Object], unneeded: Collection[str], leaving: Collection[str], closed: Collection[str]
) -> Object:
    health = {
        "status": "Healthy", "nodeCounts": _counts(nodes, leaving), "cloudProviderTarget": len(nodes), "minSize": group.minimum,
        "maxSize": group.maximum,
    }  # fmt: skip
    growing = any(ready_status(node) != "True" for node in nodes)
    scale_up: Object = {"status": "InProgress" if growing else "NoActivity"}
    if group.name in closed:
        scale_up = {"status": "Backoff", "backoffInfo": {"errorCode": ERROR_CODE, "errorMessage": ERROR_MESSAGE}}
    return {
        "name": group.name, "health": health, "scaleUp": scale_up,
        "scaleDown": _scale_down(nodes, unneeded),
    }  # fmt: skip


def _counts(nodes: Sequence[Object], leaving: Collection[str]) -> Object:
    ready = sum(ready_status(node) == "True" for node in nodes)
    going = sum(node["metadata"]["name"] in leaving for node in nodes)
    registered = {"total": len(nodes), "ready": ready, "notStarted": len(nodes) - ready}
    return {"registered": {**registered, **({"beingDeleted": going} if going else {})}, "longUnregistered": 0, "unregistered": 0}


def _scale_down(nodes: Iterable[Object], unneeded: Collection[str]) -> Object:
    candidates = sum(node["metadata"]["name"] in unneeded for node in nodes)
    return {"status": "CandidatesPresent", "candidates": candidates} if candidates else {"status": "NoCandidates"}


def timed(told: Object, before: Object, now: datetime) -> Object:
    """The same with times: a condition whose status is as in `before` (this function's last answer) keeps its transition time."""
    old_groups = {group["name"]: group for group in before.get("nodeGroups") or ()}
    return {
        **told, "clusterWide": _with_times(told["clusterWide"], before.get("clusterWide") or {}, now),
        "nodeGroups": [_with_times(group, old_groups.get(group["name"]) or {}, now) for group in told["nodeGroups"]],
    }  # fmt: skip


def _with_times(told: Object, before: Object, now: datetime) -> Object:
    stamp = format_time(now)
    result = dict(told)
    for part in PARTS:
        old = before.get(part) or {}
        since = old["lastTransitionTime"] if old.get("status") == told[part]["status"] else stamp
        result[part] = {**told[part], "lastProbeTime": stamp, "lastTransitionTime": since}
    return result


def status_map(told: Object, now: datetime) -> Object:
    """The ConfigMap that tells this."""
    import yaml  # rarely needed

    stamp = f"{now:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
    text = yaml.safe_dump({"time": stamp, **told}, sort_keys=False)
    metadata = {"name": STATUS_MAP, "namespace": NAMESPACE_SYSTEM, "annotations": {ANNOTATION_AUTOSCALER_LAST_UPDATED: stamp}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"status": text}}

"""Where daemon pods belong, and the pod of one node. Pure functions.

Imitates pkg/controller/daemon/util/daemonset_util.go and NodeShouldRunDaemonPod.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import annotations_of
from kubecosm.api.names import (
    ANNOTATION_DAEMONSET_TEMPLATE_GENERATION,
    LABEL_CONTROLLER_REVISION_HASH,
    LABEL_POD_TEMPLATE_GENERATION,
    TAINT_DISK_PRESSURE,
    TAINT_MEMORY_PRESSURE,
    TAINT_NETWORK_UNAVAILABLE,
    TAINT_NOT_READY,
    TAINT_PID_PRESSURE,
    TAINT_UNREACHABLE,
    TAINT_UNSCHEDULABLE,
)
from kubecosm.api.resources import DAEMONSETS, Object

from ...common.nodes import NO_EXECUTE, NO_SCHEDULE, matches_node, taints_of, untolerated
from ...common.pods import node_of
from ...common.templates import pod_from_template

TOLERATED = (
    (TAINT_NOT_READY, NO_EXECUTE),
    (TAINT_UNREACHABLE, NO_EXECUTE),
    (TAINT_DISK_PRESSURE, NO_SCHEDULE),
    (TAINT_MEMORY_PRESSURE, NO_SCHEDULE),
    (TAINT_PID_PRESSURE, NO_SCHEDULE),
    (TAINT_UNSCHEDULABLE, NO_SCHEDULE),
)
"""Taints of nodes in trouble, which daemons are there to survive."""


def tolerations(pod_spec: Object) -> list[Object]:
    """The template's own and those every daemon pod gets."""
    own: list[Object] = list(pod_spec.get("tolerations") or ())
    pairs = (*TOLERATED, (TAINT_NETWORK_UNAVAILABLE, NO_SCHEDULE)) if pod_spec.get("hostNetwork") else TOLERATED
    added = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in pairs]
    return own + [toleration for toleration in added if toleration not in own]


def should_run(daemonset: Object, node: Object) -> tuple[bool, bool]:
    """(a pod shall be started there, a pod that is there may stay)."""
    spec = daemonset["spec"]["template"]["spec"]
    if not matches_node(spec, node):
        return False, False
    tolerated = tolerations(spec)
    if untolerated(taints_of(node), tolerated, (NO_SCHEDULE, NO_EXECUTE)) is None:
        return True, True
    return False, untolerated(taints_of(node), tolerated, (NO_EXECUTE,)) is None


def _pinned(affinity: Object | None, node_name: str) -> Object:
    """The affinity with every required term bound to the node by name; the scheduler does the rest."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [node_name]}]
    node_affinity = (affinity or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [{**term, "matchFields": fields} for term in required.get("nodeSelectorTerms") or ()] or [{"matchFields": fields}]
    pinned = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {**(affinity or {}), "nodeAffinity": pinned}


def new_pod(daemonset: Object, node_name: str, hash_text: str) -> Object:
    """The daemon pod for one node."""
    pod = pod_from_template(daemonset["spec"]["template"], daemonset, DAEMONSETS)
    pod["metadata"]["labels"][LABEL_CONTROLLER_REVISION_HASH] = hash_text
    if generation := annotations_of(daemonset).get(ANNOTATION_DAEMONSET_TEMPLATE_GENERATION):
        pod["metadata"]["labels"][LABEL_POD_TEMPLATE_GENERATION] = generation
    spec = pod["spec"]
    spec["affinity"] = _pinned(spec.get("affinity"), node_name)
    spec["tolerations"] = tolerations(spec)
    return pod


def target_node(pod: Object) -> str:
    """The node a daemon pod is on, or is bound for while unscheduled; empty if it is not pinned to one."""
    if bound := node_of(pod):
        return bound
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In" and len(field.get("values") or ()) == 1:
                name: str = field["values"][0]
                return name
    return ""


def by_target(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Pods by the node they belong to."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(target_node(pod), []).append(pod)
    return found

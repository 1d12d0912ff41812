"""Where daemon pods belong, and the pod of one node. Pure functions.

Imitates pkg/controller/daemon/util/daemonset_util.go and NodeShouldRunDaemonPod.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecosm.api.meta import annotations_of, labels_of
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
    found: list[Object] = list(pod_spec.get("tolerations") or ())
    pairs = (*TOLERATED, (TAINT_NETWORK_UNAVAILABLE, NO_SCHEDULE)) if pod_spec.get("hostNetwork") else TOLERATED
    for key, effect in pairs:
        added = {"key": key, "operator": "Exists", "effect": effect}
        same = [index for index, own in enumerate(found) if {**own, "tolerationSeconds": None} == {**added, "tolerationSeconds": None}]
        for index in same:  # those of the template that give up after a while do so no longer
            found[index] = added
        found += [] if same else [added]
    return found


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
    """The affinity with its required node terms, which the node was chosen by, replaced by the node's name; the scheduler does the rest."""
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}]
    node_affinity = (affinity or {}).get("nodeAffinity") or {}
    pinned = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {**(affinity or {}), "nodeAffinity": pinned}


def template_generation(daemonset: Object) -> str:
    """The generation of the template as the deprecated annotation counts it; empty if it does not."""
    text = annotations_of(daemonset).get(ANNOTATION_DAEMONSET_TEMPLATE_GENERATION, "")
    return str(int(text)) if text.isdigit() else ""


def is_updated(daemonset: Object, pod: Object, hash_text: str) -> bool:
    """The pod is of the newest template, by its hash or by the deprecated generation (IsPodUpdated)."""
    labels, generation = labels_of(pod), template_generation(daemonset)
    if generation and labels.get(LABEL_POD_TEMPLATE_GENERATION) == generation:
        return True
    return labels.get(LABEL_CONTROLLER_REVISION_HASH) == hash_text


def new_pod(daemonset: Object, node_name: str, hash_text: str) -> Object:
    """The daemon pod for one node."""
    pod = pod_from_template(daemonset["spec"]["template"], daemonset, DAEMONSETS)
    pod["metadata"]["labels"][LABEL_CONTROLLER_REVISION_HASH] = hash_text
    if generation := template_generation(daemonset):
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
    """Pods by the node they belong to; those that belong to none are left alone."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        if name := target_node(pod):
            found.setdefault(name, []).append(pod)
    return found

"""Whether a pod may be on a node: node selectors, node affinity, taints and tolerations. Pure functions.

Imitates k8s.io/component-helpers/scheduling/corev1. The scheduler has its own, vectorised over all nodes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from kubecosm.api.meta import labels_of
from kubecosm.api.names import LABEL_REGION, LABEL_REGION_BETA, LABEL_ZONE, LABEL_ZONE_BETA
from kubecosm.api.resources import Object

NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"


def failure_zone(labels: Mapping[str, str]) -> tuple[str, str]:
    """Region and zone of a node with these labels, empty without; where both are set the labels of old win (GetZoneKey)."""
    region = labels.get(LABEL_REGION_BETA, labels.get(LABEL_REGION, ""))
    return region, labels.get(LABEL_ZONE_BETA, labels.get(LABEL_ZONE, ""))


def taints_of(node: Object) -> list[Object]:
    return (node.get("spec") or {}).get("taints") or []


def tolerates(toleration: Object, taint: Object) -> bool:
    """Toleration.ToleratesTaint: an empty effect tolerates all effects, an empty key with Exists all keys."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator == "Equal":
        return bool((toleration.get("value") or "") == (taint.get("value") or ""))
    return _compare(operator, taint.get("value") or "", [toleration.get("value") or ""])


def untolerated(taints: Iterable[Object], tolerations: Iterable[Object], effects: Container[str]) -> Object | None:
    """The first taint of one of these effects that nothing tolerates."""
    known = list(tolerations)
    for taint in taints:
        if taint["effect"] in effects and not any(tolerates(toleration, taint) for toleration in known):
            return taint
    return None


def _compare(operator: str, text: str, bounds: list[str]) -> bool:
    try:
        number, bound = int(text), int(bounds[0])
    except (ValueError, IndexError):
        return False
    return number > bound if operator == "Gt" else number < bound if operator == "Lt" else False


def _matches_expression(expression: Object, values: Mapping[str, str]) -> bool:
    key, operator, wanted = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "Exists":
        return key in values
    if operator == "DoesNotExist":
        return key not in values
    if operator == "NotIn":
        return values.get(key) not in wanted
    if key not in values:
        return False
    return values[key] in wanted if operator == "In" else _compare(operator, values[key], wanted)


def _matches_term(term: Object, node: Object) -> bool:
    """All expressions of a term must hold; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    name = {"metadata.name": node["metadata"]["name"]}
    return all(_matches_expression(e, labels_of(node)) for e in expressions) and all(_matches_expression(f, name) for f in fields)


def matches_terms(terms: Iterable[Object], node: Object) -> bool:
    """One of the terms of a NodeSelector holds."""
    return any(_matches_term(term, node) for term in terms)


def matches_node(pod_spec: Object, node: Object) -> bool:
    """spec.nodeName, spec.nodeSelector and the required node affinity allow the node."""
    if pod_spec.get("nodeName") and pod_spec["nodeName"] != node["metadata"]["name"]:
        return False
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels_of(node).items():
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return matches_terms(required.get("nodeSelectorTerms") or (), node)

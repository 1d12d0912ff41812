"""The bodies that go to and come from an extender (k8s.io/kube-scheduler/extender/v1).

The Go types have no JSON tags: fields are written under their Go names and read in any case, as Go's decoder does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecosm.api.resources import Object


class ExtenderError(Exception):
    """An extender did not answer, answered nonsense, or reported an error."""


def field(answer: Mapping[str, Any], name: str) -> Any:
    """The field of a Go struct, however its name is written."""
    if name in answer:
        return answer[name]
    lower = name.lower()
    return next((value for key, value in answer.items() if key.lower() == lower), None)


def typed(obj: Object, kind: str) -> Object:
    """An object of a list, which carries no kind of its own, as a whole one."""
    return {"apiVersion": "v1", "kind": kind, **obj}


def extender_args(pod: Object, nodes: Sequence[Object] | None, names: Sequence[str] | None) -> Object:
    """ExtenderArgs, for filter and prioritize; one of `nodes` and `names` is None."""
    listed = None if nodes is None else {"metadata": {}, "items": [typed(node, "Node") for node in nodes]}
    return {"Pod": typed(pod, "Pod"), "Nodes": listed, "NodeNames": None if names is None else list(names)}


def filtered_names(answer: Any) -> list[str] | None:
    """Names of the nodes that an ExtenderFilterResult lets pass; None if it says nothing of nodes."""
    names = field(answer, "NodeNames")
    if names is not None:
        return [str(name) for name in names]
    nodes = field(answer, "Nodes")
    if nodes is None:
        return None
    return [str(node["metadata"]["name"]) for node in field(nodes, "items") or ()]


def failed_nodes(answer: Any) -> tuple[dict[str, str], dict[str, str]]:
    """(refused, refused for good) of an ExtenderFilterResult: node name → why."""
    return dict(field(answer, "FailedNodes") or {}), dict(field(answer, "FailedAndUnresolvableNodes") or {})


def priorities(answer: Any) -> dict[str, int]:
    """A HostPriorityList as node name → score 0…10."""
    return {str(field(item, "Host")): int(field(item, "Score") or 0) for item in answer or ()}


def victims_args(pod: Object, victims: Mapping[str, tuple[Sequence[Object], int]], *, uids_only: bool) -> Object:
    """ExtenderPreemptionArgs: node name → (pods, how many of them break a budget)."""
    whole = meta = None
    if uids_only:
        meta = {
            node: {"Pods": [{"UID": p["metadata"].get("uid", "")} for p in pods], "NumPDBViolations": violations}
            for node, (pods, violations) in victims.items()
        }
    else:
        whole = {
            node: {"Pods": [typed(p, "Pod") for p in pods], "NumPDBViolations": violations} for node, (pods, violations) in victims.items()
        }
    return {"Pod": typed(pod, "Pod"), "NodeNameToVictims": whole, "NodeNameToMetaVictims": meta}


def meta_victims(answer: Any) -> dict[str, tuple[list[str], int]]:
    """An ExtenderPreemptionResult: node name → (uids of its victims, how many break a budget)."""
    found = field(answer, "NodeNameToMetaVictims") or {}
    return {
        node: ([str(field(pod, "UID")) for pod in field(victims, "Pods") or ()], int(field(victims, "NumPDBViolations") or 0))
        for node, victims in found.items() if victims is not None
    }  # fmt: skip


def binding_args(namespace: str, name: str, uid: str, node: str) -> Object:
    """ExtenderBindingArgs."""
    return {"PodName": name, "PodNamespace": namespace, "PodUID": uid, "Node": node}

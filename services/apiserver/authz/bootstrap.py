"""The default roles and bindings that a cluster starts with, and how they are kept.

What an administrator took away comes back at the next start, what he added stays, and an object annotated
`rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.

Imitates plugin/pkg/auth/authorizer/rbac/bootstrappolicy and pkg/registry/rbac/reconciliation. Pure: the caller reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from kubecosm.api.names import NAMESPACE_SYSTEM
from kubecosm.api.resources import Object, Resource, builtin

from .node.identity import GROUP_NODE_HOSTS

GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
RESOURCES: dict[str, Resource] = {
    "ClusterRole": builtin(GROUP, "v1", "clusterroles"),
    "ClusterRoleBinding": builtin(GROUP, "v1", "clusterrolebindings"),
    "Role": builtin(GROUP, "v1", "roles"),
    "RoleBinding": builtin(GROUP, "v1", "rolebindings"),
}


CONTROLLER_MANAGER = "system:kube-controller-manager"
NODE_ROLE = "system:node"
READ = ["get", "list", "watch"]
AGGREGATED = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
"""Labels of a role that whoever may view, edit or administer a namespace has, too."""


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = orjson.loads(files("kubecosm.services.apiserver.authz").joinpath("bootstrap.json").read_bytes())
    return rows


@cache
def node_rules() -> tuple[Object, ...]:
    """What any kubelet may do, as far as the Node authorizer does not look closer."""
    return tuple(next(row["rules"] for row in _rows() if row["name"] == NODE_ROLE))


def bootstrap_policy() -> list[tuple[Resource, Object]]:
    """Every default role and binding, roles first: Kubernetes' own, then what our processes need besides."""
    rows = _rows()
    return [(RESOURCES[row["kind"]], _object(row)) for row in [*rows, *_own_rows()]]


def _own_rows() -> list[dict[str, Any]]:
    """What our processes need beside Kubernetes' policy.

    Controllers that Kubernetes does not have get accounts of their own. A kubelet process that hosts many nodes may do what any node may
    (one that hosts one node is told apart by the Node authorizer). The proxy is the DNS and the load balancer too.
    """
    events = {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]}
    proxy = [
        {"apiGroups": [""], "resources": ["namespaces", "services", "nodes", "pods"], "verbs": READ},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch", "update"]},
        events,
    ]
    tokens = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch"]}]
    volumes = [
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["create", "get"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["update"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["create"]},
        events,
    ]
    nodes = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["create", "delete", "patch"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        events,
    ]
    config = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "update"]}]
    protection = _account("volume-protection")
    return [
        *_granted("kubecosm:controller-manager", tokens, {"apiGroup": GROUP, "kind": "User", "name": CONTROLLER_MANAGER}),
        *_granted("kubecosm:controller:volume-provisioner", volumes, _account("volume-provisioner")),
        *_granted("kubecosm:controller:cluster-autoscaler", nodes, _account("cluster-autoscaler")),
        *_granted("kubecosm:controller:cluster-autoscaler", config, _account("cluster-autoscaler"), NAMESPACE_SYSTEM),
        _binding("kubecosm:controller:persistentvolume-protection", "system:controller:pv-protection-controller", protection),
        _binding("kubecosm:controller:persistentvolumeclaim-protection", "system:controller:pvc-protection-controller", protection),
        *_granted("kubecosm:proxy", proxy, {"apiGroup": GROUP, "kind": "User", "name": "system:kube-proxy"}),
        *_granted("kubecosm:node-host", node_rules(), {"apiGroup": GROUP, "kind": "Group", "name": GROUP_NODE_HOSTS}),
    ]


def _account(name: str) -> Object:
    return {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE_SYSTEM}


def _granted(name: str, rules: Sequence[Object], subject: Object, namespace: str = "") -> list[dict[str, Any]]:
    """A role of these rules, and a binding of the same name; in a namespace, or everywhere."""
    role: dict[str, Any] = {"kind": "Role" if namespace else "ClusterRole", "name": name, "rules": list(rules)}
    return [role | ({"namespace": namespace} if namespace else {}), _binding(name, name, subject, namespace)]


def _binding(name: str, role: str, subject: Object, namespace: str = "") -> dict[str, Any]:
    ref = {"apiGroup": GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role}
    binding = {"kind": "RoleBinding" if namespace else "ClusterRoleBinding", "name": name, "roleRef": ref, "subjects": [subject]}
    return binding | ({"namespace": namespace} if namespace else {})


def _object(row: dict[str, Any]) -> Object:
    meta: Object = {"name": row["name"], "labels": BOOTSTRAPPING | row.get("labels", {}), "annotations": {AUTOUPDATE: "true"}}
    if "namespace" in row:
        meta["namespace"] = row["namespace"]
    content: Object = {field: row[field] for field in ("rules", "aggregationRule", "subjects", "roleRef") if field in row}
    return {"apiVersion": f"{GROUP}/v1", "kind": row["kind"], "metadata": meta, **content}


def reconciled(existing: Object, default: Object) -> Object | None:
    """The object to write so that `existing` has all that `default` has; None if it has already, or wants to be left alone."""
    if (existing["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false":
        return None
    changed = dict(existing)
    meta = existing["metadata"]
    merged = {field: {**default["metadata"][field], **(meta.get(field) or {})} for field in ("labels", "annotations")}
    changed["metadata"] = {**meta, **merged}
    for field in ("rules", "subjects"):
        has = existing.get(field) or []
        if has == default.get(field):
            continue
        missing = [entry for entry in default.get(field, ()) if not _contains(has, entry, field)]
        if missing and not default.get("aggregationRule"):
            changed[field] = [*has, *missing]
    if "aggregationRule" in default and "aggregationRule" not in existing:
        changed["aggregationRule"] = default["aggregationRule"]
    return changed if changed != existing else None


def _contains(entries: list[Object], wanted: Object, field: str) -> bool:
    if field == "subjects":
        return any(all(entry.get(k) == wanted.get(k) for k in ("kind", "name", "namespace")) for entry in entries)
    return any(_covers(entry, wanted) for entry in entries)


def _covers(rule: Object, wanted: Object) -> bool:
    """Whether one rule grants all that another does."""
    same_names = (rule.get("resourceNames") or []) == (wanted.get("resourceNames") or [])
    lists = ("verbs", "apiGroups", "resources", "nonResourceURLs")
    return same_names and all(set(wanted.get(name) or ()) <= set(rule.get(name) or ()) for name in lists)

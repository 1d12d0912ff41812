"""The FlowSchemas and priority levels that every cluster has, as data. Imitates apiserver/pkg/apis/flowcontrol/bootstrap.

The mandatory ones may not be changed; the suggested ones follow this table while their annotation says so.
"""

from __future__ import annotations

from kubecosm.api.names import ANNOTATION_APF_AUTOUPDATE, NAMESPACE_SYSTEM
from kubecosm.api.resources import Object

from ..authn.user import GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_UNAUTHENTICATED

GROUP_VERSION = "flowcontrol.apiserver.k8s.io/v1"
EXEMPT, CATCH_ALL = "exempt", "catch-all"
MANDATORY = frozenset((EXEMPT, CATCH_ALL))
GROUP_SERVICE_ACCOUNTS = "system:serviceaccounts"
CONTROLLER_MANAGER, SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
EVERYBODY = (GROUP_UNAUTHENTICATED, GROUP_AUTHENTICATED)
WRITES = ("get", "create", "update")

_LEVELS: dict[str, tuple[int, int, int, int]] = {
    "global-default": (20, 50, 128, 6), "leader-election": (10, 0, 16, 4), "node-high": (40, 25, 64, 6), "system": (30, 33, 64, 6),
    "workload-high": (40, 50, 128, 6), "workload-low": (100, 90, 128, 6),
}  # fmt: skip
"""Suggested level → (nominal concurrency shares, lendable percent, queues, hand size)."""
QUEUE_LENGTH_LIMIT = 50
CATCH_ALL_SHARES = 5


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _accounts(*names: str) -> list[Object]:
    """ServiceAccounts of the system's namespace."""
    return [{"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": NAMESPACE_SYSTEM}} for name in names]


def _resources(verbs: tuple[str, ...], group: str, resources: tuple[str, ...], *, cluster: bool = False) -> Object:
    rule: Object = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources), "namespaces": ["*"]}
    return {**rule, "clusterScope": True} if cluster else rule


_EVERYTHING: Object = {
    "resourceRules": [_resources(("*",), "*", ("*",), cluster=True)], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}  # fmt: skip
_LEASES = _resources(WRITES, "coordination.k8s.io", ("leases",))
_PROBES: Object = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
_NODE_HIGH: Object = {
    "resourceRules": [
        _resources(("*",), "", ("nodes", "nodes/status"), cluster=True), _resources(("*",), "coordination.k8s.io", ("leases",)),
    ],
}  # fmt: skip

_SCHEMAS: tuple[tuple[str, str, int, str, list[Object], Object], ...] = (
    (EXEMPT, EXEMPT, 1, "", _groups(GROUP_MASTERS), _EVERYTHING),
    ("probes", EXEMPT, 2, "", _groups(*EVERYBODY), _PROBES),
    ("system-leader-election", "leader-election", 100, "ByUser", _users(CONTROLLER_MANAGER, SCHEDULER) + _accounts("*"),
     {"resourceRules": [_LEASES]}),
    ("endpoint-controller", "workload-high", 150, "ByUser",
     _users(CONTROLLER_MANAGER) + _accounts("endpoint-controller", "endpointslicemirroring-controller"),
     {"resourceRules": [_resources(WRITES, "", ("endpoints",))]}),
    ("workload-leader-election", "leader-election", 200, "ByUser", _accounts("*"),
     {"resourceRules": [_resources(WRITES, "", ("endpoints", "configmaps")), _LEASES]}),
    ("system-node-high", "node-high", 400, "ByUser", _groups(GROUP_NODES), _NODE_HIGH),
    ("system-nodes", "system", 500, "ByUser", _groups(GROUP_NODES), _EVERYTHING),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", _users(CONTROLLER_MANAGER), _EVERYTHING),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", _users(SCHEDULER), _EVERYTHING),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _accounts("*"), _EVERYTHING),
    ("service-accounts", "workload-low", 9000, "ByUser", _groups(GROUP_SERVICE_ACCOUNTS), _EVERYTHING),
    ("global-default", "global-default", 9900, "ByUser", _groups(*EVERYBODY), _EVERYTHING),
    (CATCH_ALL, CATCH_ALL, 10000, "ByUser", _groups(*EVERYBODY), _EVERYTHING),
)  # fmt: skip
"""(name, level, matching precedence, distinguisher, subjects, rules)."""


def _object(kind: str, name: str, spec: Object) -> Object:
    meta = {"name": name, "annotations": {ANNOTATION_APF_AUTOUPDATE: "true"}}
    return {"apiVersion": GROUP_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def default_levels() -> list[Object]:
    """The PriorityLevelConfigurations, the mandatory ones first."""
    exempt: Object = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    reject: Object = {"nominalConcurrencyShares": CATCH_ALL_SHARES, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}
    found = [
        _object("PriorityLevelConfiguration", EXEMPT, exempt),
        _object("PriorityLevelConfiguration", CATCH_ALL, {"type": "Limited", "limited": reject}),
    ]
    for name, (shares, lendable, queues, hand) in _LEVELS.items():
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH_LIMIT}
        response = {"type": "Queue", "queuing": queuing}
        limited: Object = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
        found.append(_object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited}))
    return found


def default_schemas() -> list[Object]:
    """The FlowSchemas in the order in which they are matched."""
    found = []
    for name, level, precedence, distinguisher, subjects, rules in _SCHEMAS:
        spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
        if distinguisher:
            spec["distinguisherMethod"] = {"type": distinguisher}
        spec["rules"] = [{"subjects": subjects, **rules}]
        found.append(_object("FlowSchema", name, spec))
    return found

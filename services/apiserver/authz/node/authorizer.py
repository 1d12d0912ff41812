"""The Node authorizer: a kubelet may read what the pods on its node need, and write its own node, lease and pods' status.

Refusals are in Kubernetes' words. What a write says about *which* node or pod is checked by the NodeRestriction admission plugin.
Imitates plugin/pkg/auth/authorizer/node/node_authorizer.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Protocol

from kubecosm.api.field import go_quote
from kubecosm.api.names import NAMESPACE_NODE_LEASE
from kubecosm.api.resources import Object

from ...authn.user import User
from ..attributes import Attributes, Decision, IncompleteRules, Verdict
from ..rules import rule_allows_path, rule_covers
from .edges import Vertex
from .identity import node_of

RULES_REMEMBERED_MAX = 512
ALLOW: Verdict = (Decision.ALLOW, "")
NO_OPINION: Verdict = (Decision.NO_OPINION, "")
OWN_OBJECT_VERBS = ("get", "create", "update", "patch", "delete")


WHATEVER_NAME: Mapping[tuple[str, str, str], tuple[str, ...]] = {
    ("", "pods", ""): ("create", "delete"), ("", "pods", "status"): ("update", "patch"), ("", "pods", "eviction"): ("create",),
    ("", "nodes", ""): ("create", "update", "patch"), ("", "nodes", "status"): ("update", "patch"),
}  # fmt: skip
"""What every node may do by (group, plural, subresource); of which object, the admission plugin NodeRestriction looks at."""


class Needs(Protocol):
    """Who needs what."""

    def reaches(self, start: Vertex, node: str) -> bool: ...


def no(why: str) -> Verdict:
    return Decision.NO_OPINION, why


class NodeAuthorizer:
    """Has an opinion about nodes only."""

    def __init__(self, needs: Needs, node_rules: Callable[[], Iterable[Object]]) -> None:
        """`node_rules`: those of the ClusterRole system:node, asked for when the first node comes."""
        self._needs = needs
        self._node_rules = node_rules
        self._by_rule = lru_cache(RULES_REMEMBERED_MAX)(self._allowed_by_rule)
        self._divided: Mapping[tuple[str, str], Callable[[str, Attributes], Verdict]] = {
            ("", "secrets"): self._read, ("", "configmaps"): self._read, ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get, ("resource.k8s.io", "resourceclaims"): self._get,
            ("storage.k8s.io", "volumeattachments"): self._get, ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _lease, ("storage.k8s.io", "csinodes"): _csi_node,
            ("resource.k8s.io", "resourceslices"): self._slice, ("", "nodes"): _node, ("", "pods"): self._pod,
        }  # fmt: skip

    version = 0

    def of_any_name(self, attributes: Attributes) -> Verdict | None:
        """None where it depends on the name, or on what the node's pods need."""
        node = node_of(attributes.user)
        if node is None:
            return NO_OPINION
        where = (attributes.group, attributes.resource)
        if node and attributes.is_resource and where in self._divided:
            return ALLOW if attributes.verb in WHATEVER_NAME.get((*where, attributes.subresource), ()) else None
        return self.authorize(attributes)

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Raises IncompleteRules for a node: what it may do depends on its pods."""
        if node_of(user) is not None:
            raise IncompleteRules("node authorizer does not support user rule resolution")
        return []

    def authorize(self, attributes: Attributes) -> Verdict:
        node = node_of(attributes.user)
        if node is None:
            return NO_OPINION
        if not node:
            return no(f"unknown node for user {go_quote(attributes.user.name)}")
        divided = self._divided.get((attributes.group, attributes.resource)) if attributes.is_resource else None
        if divided is not None:
            return divided(node, attributes)
        resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
        path = "" if attributes.is_resource else attributes.path
        return ALLOW if self._by_rule(attributes.verb, attributes.group, resource, path) else NO_OPINION

    def _allowed_by_rule(self, verb: str, group: str, resource: str, path: str) -> bool:
        if path:
            return any(rule_allows_path(rule, verb, path) for rule in self._node_rules())
        return any(rule_covers(rule, verb, group, resource) for rule in self._node_rules())

    def _related(self, node: str, attributes: Attributes) -> Verdict:
        if not attributes.name:
            return no("No Object name found")
        if self._needs.reaches(Vertex(attributes.resource, attributes.namespace, attributes.name), node):
            return ALLOW
        return no(f"no relationship found between node '{node}' and this object")

    def _get(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.verb != "get":
            return no("can only get individual resources of this type")
        if attributes.subresource:
            return no("cannot get subresource")
        return self._related(node, attributes)

    def _read(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.verb not in ("get", "list", "watch"):
            return no("can only read resources of this type")
        if attributes.subresource:
            return no("cannot read subresource")
        if not attributes.namespace:
            return no("can only read namespaced object of this type")
        return self._related(node, attributes)

    def _claim(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.subresource != "status":
            return self._get(node, attributes)
        if attributes.verb not in ("update", "patch"):
            return no("can only get/update/patch this type")
        return self._related(node, attributes)

    def _account(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.verb == "get" and not attributes.subresource:
            return self._related(node, attributes)
        if attributes.verb != "create" or not attributes.name:
            return no("can only create tokens for individual service accounts")
        if attributes.subresource != "token":
            return no("can only create token subresource of serviceaccount")
        return self._related(node, attributes)

    def _slice(self, node: str, attributes: Attributes) -> Verdict:
        if attributes.subresource:
            return no("cannot authorize ResourceSlice subresources")
        if attributes.verb == "create":
            return ALLOW
        if attributes.verb in ("get", "update", "patch", "delete"):
            return self._related(node, attributes)
        if attributes.verb in ("watch", "list", "deletecollection"):
            if _selects(attributes, "spec.nodeName", node):
                return ALLOW
            return no("can only list/watch/deletecollection resourceslices with nodeName field selector")
        verbs = "get, watch, list, create, update, patch, delete, deletecollection"
        return no(f"only the following verbs are allowed for a ResourceSlice: {verbs}")

    def _pod(self, node: str, attributes: Attributes) -> Verdict:
        verb, subresource = attributes.verb, attributes.subresource
        if not subresource and verb == "get":
            return self._get(node, attributes)
        if not subresource and verb in ("list", "watch"):
            if _selects(attributes, "spec.nodeName", node):
                return ALLOW
            if attributes.name:
                return self._related(node, attributes)
            return no("can only list/watch pods with spec.nodeName field selector")
        return ALLOW if verb in WHATEVER_NAME.get(("", "pods", subresource), ()) else NO_OPINION


def _selects(attributes: Attributes, field: str, value: str) -> bool:
    return attributes.fields is not None and attributes.fields.exact_value(field) == value


def _lease(node: str, attributes: Attributes) -> Verdict:
    if attributes.verb not in OWN_OBJECT_VERBS:
        return no("can only get, create, update, patch, or delete a node lease")
    if attributes.namespace != NAMESPACE_NODE_LEASE:
        return no(f"can only access leases in the {go_quote(NAMESPACE_NODE_LEASE)} system namespace")
    if attributes.verb != "create" and attributes.name != node:
        return no("can only access node lease with the same name as the requesting node")
    return ALLOW


def _csi_node(node: str, attributes: Attributes) -> Verdict:
    if attributes.verb not in OWN_OBJECT_VERBS:
        return no("can only get, create, update, patch, or delete a CSINode")
    if attributes.subresource:
        return no("cannot authorize CSINode subresources")
    if attributes.verb != "create" and attributes.name != node:
        return no("can only access CSINode with the same name as the requesting node")
    return ALLOW


def _node(node: str, attributes: Attributes) -> Verdict:
    verb = attributes.verb
    if verb in WHATEVER_NAME.get(("", "nodes", attributes.subresource), ()):
        return ALLOW
    if attributes.subresource:
        return NO_OPINION
    if verb not in ("get", "list", "watch"):
        return NO_OPINION
    if attributes.name == node:
        return ALLOW
    what = f"'{attributes.name}'" if attributes.name else "all nodes"
    return no(f"node '{node}' cannot read {what}, only its own Node object")

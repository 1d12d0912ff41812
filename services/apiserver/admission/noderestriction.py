"""NodeRestriction: a kubelet may change only its own Node, what belongs to it, and the pods bound to it.

Says nothing about anybody who is no node (`authz.node.identity`). Imitates plugin/pkg/admission/noderestriction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kubecosm.api import errors, names
from kubecosm.api.certificates import RequestError, decode_request
from kubecosm.api.field import go_quote
from kubecosm.api.meta import annotations_of, labels_of, uid_of
from kubecosm.api.resources import (
    CERTIFICATESIGNINGREQUESTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICEACCOUNTS,
    Object,
    Resource,
    builtin,
)

from ..authz.node.identity import node_of
from ..cache.resource import ResourceCache
from .apireferences import api_object_reference
from .chain import CREATE, DELETE, UPDATE, Attributes, Plugin
from .refusal import refuse
from .tokenaudiences import CSIDRIVERS, Audiences

if TYPE_CHECKING:
    from .plugins import Parts

CSINODES = builtin("storage.k8s.io", "v1", "csinodes")
RESOURCESLICES = builtin("resource.k8s.io", "v1", "resourceslices")
CLAIM_STATUS_OF_NODES = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, pods: ResourceCache, nodes: ResourceCache, audiences: Audiences) -> None:
        self._pods = pods
        self._nodes = nodes
        self._audiences = audiences
        self._rules: dict[Resource, Callable[[Attributes, str], str | Awaitable[str]]] = {
            PODS: self._pod,
            NODES: self._node,
            PERSISTENTVOLUMECLAIMS: self._claim,
            SERVICEACCOUNTS: self._token,
            LEASES: self._lease,
            CSINODES: self._csi_node,
            RESOURCESLICES: self._slice,
            CERTIFICATESIGNINGREQUESTS: self._signing_request,
        }

    def handles(self, resource: Resource, subresource: str) -> bool:
        return resource in self._rules

    def admit(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises Forbidden, NotFound."""
        node = node_of(attributes.user)
        if node is None:
            return None
        if not node:
            raise refuse(attributes, f"could not determine node from user {go_quote(attributes.user.name)}")
        complaint = self._rules[attributes.resource](attributes, node)
        if not isinstance(complaint, str):
            return self._wait(complaint, attributes)
        if complaint:
            raise refuse(attributes, complaint)
        return None

    async def _wait(self, pending: Awaitable[str], attributes: Attributes) -> None:
        complaint = await pending
        if complaint:
            raise refuse(attributes, complaint)

    # Each rule answers what is wrong; empty if nothing is.

    def _pod(self, attributes: Attributes, node: str) -> str:
        subresource, operation = attributes.subresource, attributes.operation
        if subresource == "eviction" and operation == CREATE:
            own = self._is_bound(attributes, node)
            return "" if own else f"node {node} can only evict pods with spec.nodeName set to itself"
        if subresource == "status" and operation == UPDATE:
            return _pod_status(attributes, node)
        if subresource == "eviction":
            return f"unexpected operation {operation}"
        if subresource == "status":
            return f"unexpected operation {go_quote(operation)}"
        if subresource:
            return f"unexpected pod subresource {go_quote(subresource)}, only 'status' and 'eviction' are allowed"
        if operation == CREATE:
            return self._mirror_pod(attributes.obj or {}, node)
        if operation == DELETE:
            own = self._is_bound(attributes, node)
            return "" if own else f"node {go_quote(node)} can only delete pods with spec.nodeName set to itself"
        return f"unexpected operation {go_quote(operation)}, node {go_quote(node)} can only create and delete mirror pods"

    def _is_bound(self, attributes: Attributes, node: str) -> bool:
        """Raises NotFound."""
        return bool(self._find_pod(attributes.namespace, attributes.name)["spec"].get("nodeName") == node)

    def _find_pod(self, namespace: str, name: str) -> Object:
        entry = self._pods.get(f"{namespace}/{name}")
        if entry is None:
            raise errors.not_found(PODS, name)
        return entry.decode()

    def _mirror_pod(self, pod: Object, node: str) -> str:
        quoted, spec = go_quote(node), pod["spec"]
        if names.ANNOTATION_CONFIG_MIRROR not in annotations_of(pod):
            annotation = go_quote(names.ANNOTATION_CONFIG_MIRROR)
            return f"pod does not have {annotation} annotation, node {quoted} can only create mirror pods"
        if spec.get("nodeName") != node:
            return f"node {quoted} can only create pods with spec.nodeName set to itself"
        complaint = self._owner(pod["metadata"].get("ownerReferences") or [], node)
        if complaint:
            return complaint
        found = api_object_reference(pod)
        return f"node {quoted} can not create pods that reference {found}" if found else ""

    def _owner(self, owners: list[Object], node: str) -> str:
        """A mirror pod belongs to its node and to nobody else."""
        quoted = go_quote(node)
        if len(owners) > 1:
            return f"node {quoted} can only create pods with a single owner reference set to itself"
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            return f"node {quoted} can only create pods with an owner reference set to itself"
        if not owner.get("controller"):
            return f"node {quoted} can only create pods with a controller owner reference set to itself"
        if owner.get("blockOwnerDeletion"):
            return f"node {quoted} must not set blockOwnerDeletion on an owner reference"
        entry = self._nodes.get(node)
        if entry is None:
            raise errors.not_found(NODES, node)
        uid = uid_of(entry.decode())
        return "" if owner.get("uid") == uid else f"node {node} UID mismatch: expected {owner.get('uid', '')} got {uid}"

    def _node(self, attributes: Attributes, node: str) -> str:
        quoted, obj, old = go_quote(node), attributes.obj or {}, attributes.old or {}
        named = attributes.name or (obj.get("metadata") or {}).get("name", "")
        if named != node:
            return f"node {quoted} is not allowed to modify node {go_quote(named)}"
        source = (obj.get("spec") or {}).get("configSource")
        if attributes.operation == CREATE:
            if source is not None:  # what a node may see depends on it
                return f"node {quoted} is not allowed to create pods with a non-nil configSource"
            forbidden = _forbidden_labels(labels_of(obj), {})
            return f"node {quoted} is not allowed to set the following labels: {', '.join(forbidden)}" if forbidden else ""
        if attributes.operation == UPDATE:
            if source is not None and source != (old.get("spec") or {}).get("configSource"):
                return f"node {quoted} is not allowed to update configSource to a new non-nil configSource"
            if ((obj.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
                return f"node {quoted} is not allowed to modify taints"
            if _owners(obj) != _owners(old):  # by one that does not exist, a node could have itself deleted and come back otherwise
                return f"node {quoted} is not allowed to modify ownerReferences"
            forbidden = _forbidden_labels(labels_of(obj), labels_of(old))
            return f"is not allowed to modify labels: {', '.join(forbidden)}" if forbidden else ""
        return ""

    def _claim(self, attributes: Attributes, node: str) -> str:
        if attributes.subresource != "status":
            return "may only update PVC status"
        if attributes.operation != UPDATE or attributes.obj is None or attributes.old is None:
            return f"unexpected operation {go_quote(attributes.operation)}"
        if _without_what_nodes_write(attributes.obj) == _without_what_nodes_write(attributes.old):
            return ""
        return f"node {go_quote(node)} is not allowed to update fields other than status.capacity and status.conditions"

    def _token(self, attributes: Attributes, node: str) -> str | Awaitable[str]:
        if attributes.operation != CREATE or attributes.subresource != "token":
            return ""
        spec = (attributes.obj or {}).get("spec") or {}
        reference = spec.get("boundObjectRef") or {}
        if (reference.get("apiVersion"), reference.get("kind")) != ("v1", "Pod") or not reference.get("name"):
            return "node requested token not bound to a pod"
        if not reference.get("uid"):
            return "node requested token with a pod binding without a uid"
        pod = self._find_pod(attributes.namespace, reference["name"])
        if reference["uid"] != uid_of(pod):
            wrong = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record"
            return f"{wrong}. The object might have been deleted and then recreated"
        if pod["spec"].get("nodeName") != node:
            return "node requested token bound to a pod scheduled on a different node"
        return self._audiences.complaint(attributes, spec.get("audiences") or [], pod)

    def _lease(self, attributes: Attributes, node: str) -> str:
        if attributes.namespace != names.NAMESPACE_NODE_LEASE:
            return f"can only access leases in the {go_quote(names.NAMESPACE_NODE_LEASE)} system namespace"
        own = _named(attributes) == node
        return "" if own else "can only access node lease with the same name as the requesting node"

    def _csi_node(self, attributes: Attributes, node: str) -> str:
        return "" if _named(attributes) == node else "can only access CSINode with the same name as the requesting node"

    def _slice(self, attributes: Attributes, node: str) -> str:
        wrong = {
            CREATE: "can only create ResourceSlice with the same NodeName as the requesting node",
            DELETE: "can only delete ResourceSlice with the same NodeName as the requesting node",
        }.get(attributes.operation, "")
        concerned = attributes.obj if attributes.operation == CREATE else attributes.old
        return wrong if ((concerned or {}).get("spec") or {}).get("nodeName") != node else ""

    def _signing_request(self, attributes: Attributes, node: str) -> str:
        spec = (attributes.obj or {}).get("spec") or {}
        if attributes.operation != CREATE or attributes.subresource:
            return ""
        if spec.get("signerName") not in (names.SIGNER_KUBELET_CLIENT, names.SIGNER_KUBELET_SERVING):
            return ""
        try:
            request = decode_request(spec.get("request") or "")
        except RequestError as error:
            return f"unable to parse csr: {error}"
        own = request.common_name == attributes.user.name
        return "" if own else f"can only create a node CSR with CN={attributes.user.name}"


def _named(attributes: Attributes) -> str:
    """The name in the object on CREATE, else in the path."""
    if attributes.operation == CREATE:
        return str(((attributes.obj or {}).get("metadata") or {}).get("name", ""))
    return attributes.name


def _pod_status(attributes: Attributes, node: str) -> str:
    pod, old = attributes.obj or {}, attributes.old or {}
    quoted = go_quote(node)
    if old["spec"].get("nodeName") != node:
        return f"node {quoted} can only update pod status for pods with spec.nodeName set to itself"
    if labels_of(pod) != labels_of(old):
        return f"node {quoted} cannot update labels through pod status"
    if _claim_statuses(pod) != _claim_statuses(old):
        return f"node {quoted} cannot update resource claim statues"
    if _extended_claim(pod) != _extended_claim(old):
        return f"node {quoted} cannot update extended resource claim status"
    return ""


def _claim_statuses(pod: Object) -> list[tuple[str | None, str | None]]:
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    return [(status.get("name"), status.get("resourceClaimName")) for status in statuses]


def _extended_claim(pod: Object) -> Object | None:
    found: Object | None = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    return found


def _owners(node: Object) -> list[Object]:
    return (node.get("metadata") or {}).get("ownerReferences") or []


def _without_what_nodes_write(claim: Object) -> Object:
    meta = {key: value for key, value in claim["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in CLAIM_STATUS_OF_NODES}
    return {**claim, "metadata": meta, "status": status}


def _forbidden_labels(now: dict[str, str], before: dict[str, str]) -> list[str]:
    """Labels that steer workloads to a node are not for the node to change."""
    changed = {key for key in now.keys() | before.keys() if now.get(key) != before.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _is_forbidden(label: str) -> bool:
    domain = label.partition("/")[0] if "/" in label else ""
    if f".{domain}".endswith(f".{names.LABEL_DOMAIN_NODE_RESTRICTION}"):
        return True
    ours = f".{domain}".endswith((f".{names.DOMAIN}", ".k8s.io"))
    if not ours or label in names.KUBELET_LABELS:
        return False
    return not f".{domain}".endswith(names.KUBELET_LABEL_DOMAINS)


def build(parts: Parts) -> NodeRestriction:
    claims, volumes, drivers = (parts.cache(row) for row in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, CSIDRIVERS))
    return NodeRestriction(parts.cache(PODS), parts.cache(NODES), Audiences(claims, volumes, drivers, parts.state))

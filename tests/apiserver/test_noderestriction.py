"""NodeRestriction: what kubelets may write, and that nobody else is concerned."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubecosm.api import names
from kubecosm.api.errors import Forbidden, NotFound
from kubecosm.api.resources import LEASES, NODES, PERSISTENTVOLUMECLAIMS, PODS, SERVICEACCOUNTS, Object, Resource
from kubecosm.services.apiserver.admission.chain import CREATE, DELETE, UPDATE, AdmissionChain, Attributes
from kubecosm.services.apiserver.admission.noderestriction import CSINODES, RESOURCESLICES, NodeRestriction
from kubecosm.services.apiserver.admission.tokenaudiences import Audiences
from kubecosm.services.apiserver.authn.user import GROUP_NODES, User
from kubecosm.services.apiserver.authz.attributes import Attributes as Asked
from kubecosm.services.apiserver.authz.attributes import Decision
from kubecosm.services.apiserver.state import State

from .test_admission import cache

KUBELET = User("system:node:n1", (GROUP_NODES,))
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": True}
MIRROR = {"name": "m", "annotations": {names.ANNOTATION_CONFIG_MIRROR: "x"}, "ownerReferences": [OWNER]}


VOLUMES = [
    {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}},
    {"name": "inline", "csi": {"driver": "inline.example.com"}},
    {"name": "claimed", "persistentVolumeClaim": {"claimName": "c"}},
]
CLAIMS = [{"metadata": {"name": "c", "namespace": "n"}, "spec": {"volumeName": "v"}}]
PERSISTENT = [{"metadata": {"name": "v"}, "spec": {"csi": {"driver": "disk.example.com"}}}]
DRIVERS = [
    {"metadata": {"name": f"{name}.example.com"}, "spec": {"tokenRequests": [{"audience": name}]}} for name in ("inline", "disk")
]


class Grants:
    """An authorizer that lets nodes ask for tokens for `granted`."""

    def authorize(self, attributes: Asked) -> tuple[Decision, str]:
        granted = (attributes.verb, attributes.resource) == ("request-serviceaccounts-token-audience", "granted")
        return (Decision.ALLOW if granted else Decision.NO_OPINION), ""


def pod(name: str = "p", node: str = "n1", **fields: Any) -> Object:
    meta = {"name": name, "namespace": "n", "uid": f"{name}-uid", **fields.pop("metadata", {})}
    return {"metadata": meta, "spec": {"nodeName": node, **fields}}


def node(name: str = "n1", labels: dict[str, str] | None = None, taints: list[Object] | None = None) -> Object:
    return {"metadata": {"name": name, "uid": "u1", "labels": labels or {}}, "spec": {"taints": taints} if taints else {}}


def ask(
    operation: str, resource: Resource, obj: Object | None = None, old: Object | None = None, *, subresource: str = "",
    user: User = KUBELET, namespace: str = "n", name: str = "",
) -> str:  # fmt: skip
    """The refusal's words behind `forbidden: `; empty if there is none."""
    pods = cache(pod(volumes=VOLUMES), pod("other", "n2"), namespaced=True)
    state = cast(State, SimpleNamespace(authorizer=Grants()))
    audiences = Audiences(cache(*CLAIMS, namespaced=True), cache(*PERSISTENT), cache(*DRIVERS), state)
    plugin = NodeRestriction(pods, cache(node()), audiences)
    named = name or ((obj or old or {}).get("metadata") or {}).get("name", "")
    attributes = Attributes(operation, resource, subresource, namespace, named, obj, old, user)
    try:
        asyncio.run(AdmissionChain([plugin]).ask(attributes))
    except NotFound as error:
        return error.message
    except Forbidden as error:
        return error.message.partition(" is forbidden: ")[2]
    return ""


def test_only_nodes_are_restricted() -> None:
    for user in (User("jane"), User("system:node:n1"), User("kubecosm:node-host", ("kubecosm:node-hosts",))):
        assert ask(DELETE, NODES, old=node("n2"), user=user) == ""
    assert ask(DELETE, NODES, old=node("n2")) == 'node "n1" is not allowed to modify node "n2"'
    nameless = User("system:node:", (GROUP_NODES,))
    assert ask(DELETE, NODES, old=node(), user=nameless) == 'could not determine node from user "system:node:"'


def test_a_node_changes_itself_but_neither_its_taints_nor_labels_that_attract_pods() -> None:
    assert ask(CREATE, NODES, node(labels={"kubernetes.io/hostname": "n1", "example.com/rack": "7", "node.kubernetes.io/x": "y"})) == ""
    attracting = {"node-restriction.kubernetes.io/fips": "true", "node-role.kubernetes.io/control-plane": ""}
    told = "node-restriction.kubernetes.io/fips, node-role.kubernetes.io/control-plane"
    assert ask(CREATE, NODES, node(labels=attracting)) == f'node "n1" is not allowed to set the following labels: {told}'
    assert ask(UPDATE, NODES, node(), node(labels=attracting)) == f"is not allowed to modify labels: {told}"
    assert ask(UPDATE, NODES, node(labels=attracting), node(labels=attracting), subresource="status") == ""
    taint = [{"key": "k", "effect": "NoSchedule"}]
    assert ask(UPDATE, NODES, node(), node(taints=taint)) == 'node "n1" is not allowed to modify taints'
    owned = node()
    owned["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "x"}]
    assert ask(UPDATE, NODES, owned, node()) == 'node "n1" is not allowed to modify ownerReferences'


MIRROR_CASES = {
    "an own mirror pod": (pod(metadata=MIRROR), ""),
    "no annotation": (pod(), 'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods'),
    "another node": (pod(node="n2", metadata=MIRROR), 'node "n1" can only create pods with spec.nodeName set to itself'),
    "no owner": (
        pod(metadata={**MIRROR, "ownerReferences": []}), 'node "n1" can only create pods with an owner reference set to itself'
    ),
    "another uid": (
        pod(metadata={**MIRROR, "ownerReferences": [{**OWNER, "uid": "u9"}]}),
        "node n1 UID mismatch: expected u9 got u1",
    ),
    "an account": (pod(metadata=MIRROR, serviceAccountName="a"), 'node "n1" can not create pods that reference serviceaccounts'),
    "a secret": (
        pod(metadata=MIRROR, containers=[{"envFrom": [{"secretRef": {"name": "s"}}]}]),
        'node "n1" can not create pods that reference secrets',
    ),
    "a config map": (
        pod(metadata=MIRROR, volumes=[{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]),
        'node "n1" can not create pods that reference configmaps',
    ),
    "a device": (
        pod(metadata=MIRROR, resourceClaims=[{"name": "gpu", "resourceClaimName": "c"}]),
        'node "n1" can not create pods that reference resourceclaims',
    ),
    "a token": (
        pod(metadata=MIRROR, volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
        'node "n1" can not create pods that reference serviceaccounts (via projected volumes)',
    ),
    "a CSI volume": (
        pod(metadata=MIRROR, volumes=[{"name": "v", "csi": {"driver": "d"}}]),
        'node "n1" can not create pods that reference csidrivers (via CSI volumes)',
    ),
    "a directory": (pod(metadata=MIRROR, volumes=[{"name": "v", "hostPath": {"path": "/"}}]), ""),
    "a claim": (
        pod(metadata=MIRROR, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
        'node "n1" can not create pods that reference persistentvolumeclaims',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("obj", "words"), MIRROR_CASES.values(), ids=MIRROR_CASES.keys())
def test_a_node_creates_mirror_pods_of_its_own_and_nothing_else(obj: Object, words: str) -> None:
    assert ask(CREATE, PODS, obj) == words


def test_a_node_touches_only_the_pods_that_run_on_it() -> None:
    assert ask(DELETE, PODS, name="p") == ""
    assert ask(DELETE, PODS, name="other") == 'node "n1" can only delete pods with spec.nodeName set to itself'
    assert ask(DELETE, PODS, name="gone") == 'pods "gone" not found'
    assert ask(UPDATE, PODS, pod(), pod()) == 'unexpected operation "UPDATE", node "n1" can only create and delete mirror pods'
    assert ask(CREATE, PODS, {"metadata": {}}, subresource="eviction", name="p") == ""
    evicted = ask(CREATE, PODS, {"metadata": {}}, subresource="eviction", name="other")
    assert evicted == "node n1 can only evict pods with spec.nodeName set to itself"
    assert ask(UPDATE, PODS, pod(), pod(), subresource="status") == ""
    status = ask(UPDATE, PODS, pod("other", "n2"), pod("other", "n2"), subresource="status")
    assert status == 'node "n1" can only update pod status for pods with spec.nodeName set to itself'
    labelled = pod(metadata={"labels": {"a": "b"}})
    assert ask(UPDATE, PODS, labelled, pod(), subresource="status") == 'node "n1" cannot update labels through pod status'
    devices = {**pod(), "status": {"extendedResourceClaimStatus": {"resourceClaimName": "x"}}}
    assert ask(UPDATE, PODS, devices, pod(), subresource="status") == 'node "n1" cannot update extended resource claim status'
    only = "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed"
    assert ask(CREATE, PODS, {"metadata": {}}, subresource="binding", name="p") == only


def test_a_node_gets_tokens_only_for_its_pods_and_their_audiences() -> None:
    def token(audiences: list[str] | None = None, **bound: str) -> str:
        reference = {"apiVersion": "v1", "kind": "Pod", **bound} if bound else None
        obj = {"metadata": {}, "spec": {"audiences": audiences or [], "boundObjectRef": reference}}
        return ask(CREATE, SERVICEACCOUNTS, obj, subresource="token", name="a")

    assert token() == "node requested token not bound to a pod"
    assert token(name="p") == "node requested token with a pod binding without a uid"
    assert "does not match the UID in record" in token(name="p", uid="x")
    assert token(name="other", uid="other-uid") == "node requested token bound to a pod scheduled on a different node"
    not_granted = "not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"
    assert token(name="p", uid="p-uid") == f'audience "" {not_granted}'
    assert token(["other"], name="p", uid="p-uid") == f'audience "other" {not_granted}'
    assert token(["vault", "disk"], name="p", uid="p-uid") == "node may only request 0 or 1 audiences"
    assert [token([known], name="p", uid="p-uid") for known in ("vault", "inline", "disk", "granted")] == [""] * 4


def test_a_node_has_one_lease_one_csi_node_and_its_own_slices() -> None:
    lease = {"metadata": {"name": "n1"}}
    assert ask(CREATE, LEASES, lease, namespace=names.NAMESPACE_NODE_LEASE) == ""
    assert ask(UPDATE, LEASES, lease, lease) == 'can only access leases in the "kube-node-lease" system namespace'
    wrong = ask(DELETE, LEASES, old={"metadata": {"name": "n2"}}, namespace=names.NAMESPACE_NODE_LEASE)
    assert wrong == "can only access node lease with the same name as the requesting node"
    assert ask(CREATE, CSINODES, {"metadata": {"name": "n1"}}, namespace="") == ""
    assert ask(CREATE, CSINODES, {"metadata": {"name": "n2"}}) == "can only access CSINode with the same name as the requesting node"
    slices = {"metadata": {"name": "s"}, "spec": {"nodeName": "n2"}}
    assert ask(CREATE, RESOURCESLICES, slices) == "can only create ResourceSlice with the same NodeName as the requesting node"


def test_of_a_claim_a_node_writes_what_it_knows_of() -> None:
    claim = {"metadata": {"name": "c"}, "spec": {}, "status": {"phase": "Bound"}}
    grown = {**claim, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}, "conditions": []}}
    assert ask(UPDATE, PERSISTENTVOLUMECLAIMS, grown, claim, subresource="status") == ""
    lost = {**claim, "status": {"phase": "Lost"}}
    assert ask(UPDATE, PERSISTENTVOLUMECLAIMS, lost, claim, subresource="status").startswith(
        'node "n1" is not allowed to update fields other than status.capacity and status.conditions'
    )
    assert ask(UPDATE, PERSISTENTVOLUMECLAIMS, grown, claim) == "may only update PVC status"

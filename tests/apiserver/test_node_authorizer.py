"""What the kubelet of one node may do, and in which words it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.api.selectors import parse_fields
from kubecosm.services.apiserver.authn.user import User
from kubecosm.services.apiserver.authz.attributes import Attributes, Decision
from kubecosm.services.apiserver.authz.bootstrap import node_rules
from kubecosm.services.apiserver.authz.node.authorizer import NodeAuthorizer
from kubecosm.services.apiserver.authz.node.edges import Vertex, pod_edges, volume_edges
from kubecosm.services.apiserver.authz.node.graph import Graph
from kubecosm.services.apiserver.authz.node.identity import node_of

from .harness import ACCOUNT, ACCOUNTS, NODE_TOKEN, Api, pod, with_api

NODE = User("system:node:node-0", ("system:nodes", "system:authenticated"))
OTHER = "no relationship found between node 'node-0' and this object"
POD: Object = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "nodeName": "node-0", "serviceAccountName": "bot", "imagePullSecrets": [{"name": "pull"}],
        "containers": [{
            "name": "c", "envFrom": [{"configMapRef": {"name": "settings"}}],
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "password", "key": "k"}}}],
        }],
        "volumes": [
            {"name": "a", "secret": {"secretName": "mounted"}}, {"name": "b", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "d", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}}, {"name": "e", "ephemeral": {}},
        ],
        "resourceClaims": [{"name": "gpu"}],
    },
    "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "web-gpu-x"}]},
}  # fmt: skip
VOLUME: Object = {
    "metadata": {"name": "pv-1"},
    "spec": {
        "claimRef": {"namespace": "shop", "name": "data"}, "csi": {"nodeStageSecretRef": {"name": "stage", "namespace": "storage"}},
    },
}  # fmt: skip


def graph() -> Graph:
    found = Graph()
    found.set(("pods", "shop/web"), pod_edges(POD))
    found.set(("persistentvolumes", "pv-1"), volume_edges(VOLUME))
    return found


def test_what_is_allowed_whatever_the_name_is_allowed_for_every_name() -> None:
    authorizer = NodeAuthorizer(graph(), node_rules)
    allowed = set()
    targets = [
        ("", "pods", ""), ("", "pods", "status"), ("", "pods", "eviction"), ("", "nodes", ""), ("", "nodes", "status"), ("", "secrets", ""),
        ("coordination.k8s.io", "leases", ""), ("", "events", ""), ("", "services", ""), ("storage.k8s.io", "csinodes", ""),
        ("resource.k8s.io", "resourceslices", ""), ("", "serviceaccounts", "token"),
    ]  # fmt: skip
    for group, resource, subresource in targets:
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"):
            about = [Attributes(NODE, verb, "shop", group, "v1", resource, subresource, name) for name in ("node-0", "other", "web", "")]
            verdict = authorizer.of_any_name(about[0])
            if verdict is not None and verdict[0] is Decision.ALLOW:
                assert {authorizer.authorize(one)[0] for one in about} == {Decision.ALLOW}
                allowed.add((verb, resource, subresource))
    assert {("patch", "pods", "status"), ("patch", "nodes", "status"), ("create", "events", "")} < allowed
    assert ("update", "leases", "") not in allowed
    nobody = Attributes(User("system:node:", NODE.groups), "create", "", "", "v1", "events")
    assert authorizer.of_any_name(nobody) == authorizer.authorize(nobody) != (Decision.ALLOW, "")


def asked(**attributes: Any) -> tuple[bool, str]:
    decision, reason = NodeAuthorizer(graph(), node_rules).authorize(Attributes(NODE, **attributes))
    return decision is Decision.ALLOW, reason


@pytest.mark.parametrize(
    ("resource", "namespace", "name"),
    [
        ("secrets", "shop", "pull"), ("secrets", "shop", "password"), ("secrets", "shop", "mounted"), ("secrets", "storage", "stage"),
        ("configmaps", "shop", "settings"), ("configmaps", "shop", "kube-root-ca.crt"), ("persistentvolumeclaims", "shop", "data"),
        ("persistentvolumeclaims", "shop", "web-e"), ("persistentvolumes", "", "pv-1"), ("pods", "shop", "web"),
    ],
)  # fmt: skip
def test_a_node_reads_what_its_pods_need(resource: str, namespace: str, name: str) -> None:
    assert asked(verb="get", resource=resource, namespace=namespace, name=name) == (True, "")
    assert asked(verb="get", resource=resource, namespace=namespace, name="another") == (False, OTHER)


def test_a_node_reads_the_claims_for_devices_of_its_pods() -> None:
    assert asked(verb="get", group="resource.k8s.io", resource="resourceclaims", namespace="shop", name="web-gpu-x") == (True, "")


def test_what_a_pod_needed_is_closed_to_its_node_when_it_is_gone() -> None:
    left = graph()
    left.set(("pods", "shop/web"), ())
    assert not left.reaches(Vertex("secrets", "shop", "mounted"), "node-0")


def test_mirror_pods_open_nothing() -> None:
    mirrored = {**POD, "metadata": {**POD["metadata"], "annotations": {"kubernetes.io/config.mirror": "x"}}}
    assert [lower.resource for lower, _ in pod_edges(mirrored)] == ["pods"]


LEASE = {"group": "coordination.k8s.io", "resource": "leases"}
CSI_NODE = {"group": "storage.k8s.io", "resource": "csinodes"}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"verb": "list", "resource": "secrets"}, "can only read namespaced object of this type"),
        ({"verb": "list", "resource": "secrets", "namespace": "shop"}, "No Object name found"),
        ({"verb": "update", "resource": "configmaps", "namespace": "shop", "name": "settings"}, "can only read resources of this type"),
        ({"verb": "list", "resource": "persistentvolumes"}, "can only get individual resources of this type"),
        ({"verb": "list", "resource": "nodes"}, "node 'node-0' cannot read all nodes, only its own Node object"),
        ({"verb": "get", "resource": "nodes", "name": "n"}, "node 'node-0' cannot read 'n', only its own Node object"),
        ({"verb": "list", "resource": "pods"}, "can only list/watch pods with spec.nodeName field selector"),
        (
            {"verb": "create", "resource": "serviceaccounts", "subresource": "token", "namespace": "shop", "name": "root"}, OTHER,
        ),
        ({"verb": "delete", "resource": "serviceaccounts"}, "can only create tokens for individual service accounts"),
        ({**LEASE, "verb": "list"}, "can only get, create, update, patch, or delete a node lease"),
        ({**LEASE, "verb": "get", "namespace": "x"}, 'can only access leases in the "kube-node-lease" system namespace'),
        (
            {**LEASE, "verb": "get", "namespace": "kube-node-lease", "name": "node-1"},
            "can only access node lease with the same name as the requesting node",
        ),
        ({**CSI_NODE, "verb": "get", "name": "node-1"}, "can only access CSINode with the same name as the requesting node"),
        ({"verb": "delete", "group": "apps", "resource": "deployments", "namespace": "shop", "name": "x"}, ""),
    ],
)  # fmt: skip
def test_a_node_is_told_why_it_may_not(attributes: dict[str, Any], reason: str) -> None:
    assert asked(**attributes) == (False, reason)


@pytest.mark.parametrize(
    "attributes",
    [
        {"verb": "watch", "resource": "pods", "fields": parse_fields("spec.nodeName=node-0")},
        {"verb": "get", "resource": "nodes", "name": "node-0"}, {"verb": "patch", "resource": "nodes", "subresource": "status"},
        {**LEASE, "verb": "update", "namespace": "kube-node-lease", "name": "node-0"},
        {"verb": "create", "resource": "events", "namespace": "shop"}, {"verb": "list", "resource": "services"},
        {"verb": "create", "resource": "serviceaccounts", "subresource": "token", "namespace": "shop", "name": "bot"},
    ],
)  # fmt: skip
def test_a_node_may_do_its_work(attributes: dict[str, Any]) -> None:
    assert asked(**attributes) == (True, "")


def test_only_the_group_of_nodes_makes_a_node() -> None:
    assert node_of(NODE) == "node-0"
    assert node_of(User("system:node:node-0", ("system:authenticated",))) is None
    assert node_of(User("jane", ("system:nodes",))) is None


SECRETS = "/api/v1/namespaces/default/secrets"


def test_a_server_lets_a_node_see_a_secret_as_long_as_a_pod_of_it_needs_it(tmp_path: Path) -> None:
    def secret(name: str) -> Object:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}

    async def test(api: Api) -> None:
        await api.create(SECRETS, secret("mine"))
        await api.create(SECRETS, secret("theirs"))
        await api.create(ACCOUNTS, ACCOUNT)
        path = f"{SECRETS}/mine"
        status, refusal = await api.call("GET", path, token=NODE_TOKEN)
        why = 'User "system:node:node-0" cannot get resource "secrets" in API group "" in the namespace "default"'
        assert (status, refusal["message"]) == (403, f'secrets "mine" is forbidden: {why}: {OTHER}')
        volumes = [{"name": "v", "secret": {"secretName": "mine"}}]
        await api.create("/api/v1/namespaces/default/pods", pod("web", nodeName="node-0", volumes=volumes))
        assert (await api.call("GET", path, token=NODE_TOKEN))[0] == 200
        one = f"{SECRETS}?fieldSelector=metadata.name%3D"
        assert (await api.call("GET", one + "mine", token=NODE_TOKEN))[0] == 200
        assert (await api.call("GET", one + "theirs", token=NODE_TOKEN))[0] == 403
        await api.delete("/api/v1/namespaces/default/pods/web", {"gracePeriodSeconds": 0})
        assert (await api.call("GET", path, token=NODE_TOKEN))[0] == 403

    with_api(tmp_path, test, authorization_mode=("Node", "RBAC"))

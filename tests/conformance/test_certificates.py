"""CertificateSigningRequests: the API, and what becomes of a request that is approved or denied."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from kubecosm.client.config import ClientConfig
from tests.conformance.wire import JSON_PATCH, Wire
from tests.conftest import ClusterUnderTest, wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

GROUP = "/apis/certificates.k8s.io"
PATH = f"{GROUP}/v1/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client"


def as_user(config: ClientConfig, **credentials: Any) -> ClientConfig:
    """The same server with other credentials."""
    return dataclasses.replace(config, client_certificate_data=b"", client_key_data=b"", **credentials)


def with_certificate(config: ClientConfig, certificate: bytes, key: rsa.RSAPrivateKey) -> ClientConfig:
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return dataclasses.replace(config, client_certificate_data=certificate, client_key_data=private)


def ask(config: ClientConfig, method: str, path: str, content: Any, token: str = "") -> tuple[int, Any]:
    """(status, answer) for whoever the credentials stand for."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib3.PoolManager(ssl_context=config.ssl_context()) as pool:
        answer = pool.request(method, config.server + path, json=content, headers=headers)
        return answer.status, answer.json()


def who_am_i(config: ClientConfig) -> Any:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    return ask(config, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)[1]["status"]["userInfo"]


def wait_issued(wire: Wire, name: str) -> bytes:
    """The certificate of a request."""
    wait_for(lambda: wire.get(f"{PATH}/{name}")["status"].get("certificate"), "the certificate is issued")
    return base64.b64decode(wire.get(f"{PATH}/{name}")["status"]["certificate"])


def signing_request(name: str, organization: str) -> tuple[str, rsa.RSAPrivateKey]:
    """spec.request and its key, as openssl would make them."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(), key


def body(text: str, **labels: str) -> dict[str, Any]:
    spec = {"request": text, "signerName": SIGNER, "expirationSeconds": 3600, "usages": ["digital signature", "client auth"]}
    return {"metadata": {"generateName": "test-", "labels": labels}, "spec": spec}


def decision(kind: str) -> list[dict[str, Any]]:
    return [{"type": kind, "status": "True", "reason": "Test", "message": "by a test"}]


@promise("Certificates API [Privileged:ClusterAdmin] should support CSR API operations")
def test_requests_have_all_verbs_and_two_subresources(wire: Wire, namespace: str) -> None:
    assert any(group["name"] == "certificates.k8s.io" for group in wire.get("/apis")["groups"])
    assert "certificates.k8s.io/v1" in [version["groupVersion"] for version in wire.get(GROUP)["versions"]]
    verbs = {resource["name"]: set(resource["verbs"]) for resource in wire.get(f"{GROUP}/v1")["resources"]}
    assert verbs["certificatesigningrequests"] == {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    for subresource in ("approval", "status"):
        assert verbs[f"certificatesigningrequests/{subresource}"] == {"get", "patch", "update"}
    selector = f"test={namespace}"
    text, _ = signing_request("e2e-example", "tests")
    names = [wire.create(PATH, body(text, test=namespace))["metadata"]["name"] for _ in range(3)]
    own = f"{PATH}/{names[0]}"
    assert wire.get(own)["spec"]["username"] == "kubernetes-admin"
    listed = wire.get(PATH, labelSelector=selector)
    assert {item["metadata"]["name"] for item in listed["items"]} == set(names)
    with wire.watch(PATH, labelSelector=selector, resourceVersion=listed["metadata"]["resourceVersion"]) as watching:
        assert wire.patch(own, {"metadata": {"annotations": {"patched": "true"}}})["metadata"]["annotations"] == {"patched": "true"}
        updated = wire.get(own)
        updated["metadata"]["annotations"]["updated"] = "true"
        assert wire.put(own, updated)["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert watching.take(2) == [("MODIFIED", names[0])] * 2
    for subresource, kind in (("approval", "Denied"), ("status", "Special")):
        wire.get(f"{own}/{subresource}")
        patched = wire.patch(f"{own}/{subresource}", {"metadata": {"annotations": {f"patched{subresource}": "true"}}})
        assert patched["metadata"]["annotations"][f"patched{subresource}"] == "true"
        present = wire.get(own)
        conditions = present["status"].get("conditions") or []
        changed = wire.put(f"{own}/{subresource}", present | {"status": {"conditions": [*conditions, *decision(kind)]}})
        assert [condition["type"] for condition in changed["status"]["conditions"]][-1] == kind
    wire.delete(own)
    assert not wire.exists(own)
    wire.delete(PATH, labelSelector=selector)
    wait_for(lambda: wire.get(PATH, labelSelector=selector)["items"] == [], "the collection is gone")


def test_an_approved_request_becomes_a_certificate_that_the_server_knows(
    wire: Wire, cluster: ClusterUnderTest, namespace: str
) -> None:
    text, key = signing_request(f"jane-{namespace}", "developers")
    name = wire.create(PATH, body(text))["metadata"]["name"]
    approve = [{"op": "add", "path": "/status/conditions", "value": decision("Approved")}]
    wire.patch(f"{PATH}/{name}/approval", approve, kind=JSON_PATCH)
    jane = with_certificate(ClientConfig.from_kubeconfig(cluster.kubeconfig), wait_issued(wire, name), key)
    assert who_am_i(jane) | {"extra": None} == {
        "username": f"jane-{namespace}", "groups": ["developers", "system:authenticated"], "extra": None
    }  # fmt: skip
    wire.delete(f"{PATH}/{name}")


def test_nobody_asks_for_a_certificate_of_the_masters(wire: Wire) -> None:
    text, _ = signing_request("evil", "system:masters")
    refused = wire.expect(403, "POST", PATH, body(text))
    assert refused["message"].endswith(f"use of {SIGNER} signer with system:masters group is not allowed")


def test_a_kubelet_gets_its_certificate_with_a_bootstrap_token(wire: Wire, cluster: ClusterUnderTest, namespace: str) -> None:
    """As kubeadm sets it up: the token's group may ask, a review says that it may be approved, and the node is then restricted."""
    token_id, secret = namespace[-6:].rjust(6, "0"), "0123456789abcdef"
    group, node = f"system:bootstrappers:{namespace}", f"node-of-{namespace}"
    data = {"token-id": token_id, "token-secret": secret, "usage-bootstrap-authentication": "true", "auth-extra-groups": group}
    meta = {"name": f"bootstrap-token-{token_id}"}
    wire.create("/api/v1/namespaces/kube-system/secrets", {"metadata": meta, "type": "bootstrap.kubernetes.io/token", "stringData": data})
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    roles = ("system:node-bootstrapper", "system:certificates.k8s.io:certificatesigningrequests:nodeclient")
    for index, role in enumerate(roles):
        subject = {"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        wire.create(bindings, {"metadata": {"name": f"{namespace}-{index}"}, "subjects": [subject], "roleRef": reference})
    config = ClientConfig.from_kubeconfig(cluster.kubeconfig)
    text, key = signing_request(f"system:node:{node}", "system:nodes")
    asked = body(text)
    asked["spec"]["signerName"] = "kubernetes.io/kube-apiserver-client-kubelet"
    status, made = ask(as_user(config), "POST", PATH, asked, f"{token_id}.{secret}")
    assert status == 201, made
    kubelet = with_certificate(config, wait_issued(wire, made["metadata"]["name"]), key)
    assert who_am_i(kubelet)["username"] == f"system:node:{node}"
    for name, labels, code in ((node, {}, 201), ("another", {}, 403), (node, {"node-role.kubernetes.io/master": ""}, 403)):
        told = ask(kubelet, "POST", "/api/v1/nodes?dryRun=All", {"metadata": {"name": name, "labels": labels}})
        assert told[0] == code, told
    wire.delete(f"/api/v1/namespaces/kube-system/secrets/{meta['name']}")
    for index in range(len(roles)):
        wire.delete(f"{bindings}/{namespace}-{index}")

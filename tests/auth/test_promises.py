"""The sig-auth conformance promises about ServiceAccounts and reviews, kept on a real cluster with kubectl."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from kubecosm.services.apiserver.authn.jwt import parse_jwt
from kubecosm.services.apiserver.authn.keys import key_of_jwk
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def get(cluster: Any, namespace: str, *what: str) -> Any:
    return json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json"))


def apply(cluster: Any, namespace: str, *objects: Any) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def post(cluster: Any, path: str, obj: Any, *flags: str) -> Any:
    """Create what is answered and not stored."""
    return json.loads(cluster.kubectl("create", "--raw", path, "-f", "-", *flags, stdin=json.dumps(obj)))


def pod(name: str, **spec: Any) -> Any:
    containers = [{"name": "main", "image": "busybox", "command": ["sleep", "3600"]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def account(name: str, **more: Any) -> Any:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, **more}


def running(cluster: Any, namespace: str, name: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")


@promise("ServiceAccounts should mount an API token into pods")
def test_pods_find_token_authority_and_namespace_where_clients_look(cluster, namespace: str) -> None:
    apply(cluster, namespace, account("mounted"), pod("p", serviceAccountName="mounted"))
    running(cluster, namespace, "p")

    def read(name: str) -> str:
        text: str = cluster.kubectl("-n", namespace, "exec", "p", "--", "cat", f"{MOUNT}/{name}")
        return text

    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": read("token").strip()}}
    status = post(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:mounted"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert read("namespace") == namespace
    assert "BEGIN CERTIFICATE" in read("ca.crt")


@promise("ServiceAccounts should allow opting out of API token automount")
@pytest.mark.parametrize(("of_account", "of_pod", "expected"), [
    (None, None, True), (True, None, True), (False, None, False), (None, True, True), (False, True, True), (True, False, False),
    (None, False, False),
])  # fmt: skip
def test_who_wants_no_token_gets_none(cluster, namespace: str, of_account: bool | None, of_pod: bool | None, expected: bool) -> None:
    name = f"a-{uuid.uuid4().hex[:6]}"
    wish = {} if of_account is None else {"automountServiceAccountToken": of_account}
    own = {} if of_pod is None else {"automountServiceAccountToken": of_pod}
    apply(cluster, namespace, account(name, **wish))
    apply(cluster, namespace, pod(name, serviceAccountName=name, **own))
    mounts = get(cluster, namespace, "pod", name)["spec"]["containers"][0].get("volumeMounts", [])
    assert any(mount["mountPath"] == MOUNT for mount in mounts) is expected


@promise("ServiceAccounts should mount projected service account token")
def test_a_projected_token_lies_where_the_pod_wants_it(cluster, namespace: str) -> None:
    projection = {"serviceAccountToken": {"path": "mine", "expirationSeconds": 7200, "audience": "vault"}}
    spec = pod("p", volumes=[{"name": "t", "projected": {"sources": [projection]}}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "t", "mountPath": "/tokens"}]
    apply(cluster, namespace, spec)
    running(cluster, namespace, "p")
    token = cluster.kubectl("-n", namespace, "exec", "p", "--", "cat", "/tokens/mine").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": ["vault", "other"]}}
    status = post(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert (status["authenticated"], status["audiences"]) == (True, ["vault"])
    assert not post(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", review | {"spec": {"token": token}})["status"].get(
        "authenticated"
    )


@promise("ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer")
def test_anybody_with_a_token_can_check_tokens(cluster, namespace: str) -> None:
    token = cluster.kubectl("-n", namespace, "create", "token", "default").strip()
    as_account = ("--as", f"system:serviceaccount:{namespace}:default", "--as-group", "system:serviceaccounts")
    document = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration", *as_account))
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks", *as_account))["keys"]
    assert (document["issuer"], document["jwks_uri"]) == (ISSUER, f"{ISSUER}/openid/v1/jwks")
    parsed = parse_jwt(token)
    assert parsed is not None
    signing = key_of_jwk(next(key for key in keys if key["kid"] == parsed.header["kid"]))
    assert signing is not None
    assert signing.verify(parsed.signed, parsed.signature)
    assert (parsed.claims["sub"], parsed.claims["aud"]) == (f"system:serviceaccount:{namespace}:default", [ISSUER])


@promise("ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview")
def test_a_requested_token_is_reviewed_as_its_account(cluster, namespace: str) -> None:
    apply(cluster, namespace, account("bot"))
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    made = post(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts/bot/token", request)["status"]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": made["token"]}}
    status = post(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert (status["authenticated"], status["audiences"], "error" in status) == (True, [ISSUER], False)
    assert status["user"]["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]


@promise("ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace")
def test_the_authority_is_published_again_and_again(cluster, namespace: str) -> None:
    def published() -> Any:
        answer = cluster.run_kubectl("-n", namespace, "get", "configmap", "kube-root-ca.crt", "-o", "json")
        return json.loads(answer.stdout)["data"] if answer.returncode == 0 else None

    wait_for(published, "the authority is published")
    authority = published()
    cluster.kubectl("-n", namespace, "delete", "configmap", "kube-root-ca.crt")
    wait_for(lambda: published() == authority, "it is there again")
    cluster.kubectl("-n", namespace, "patch", "configmap", "kube-root-ca.crt", "-p", '{"data":{"ca.crt":""}}')
    wait_for(lambda: published() == authority, "it is as it was")


@promise("ServiceAccounts should run through the lifecycle of a ServiceAccount")
@promise("ServiceAccounts should update a ServiceAccount")
def test_accounts_are_created_patched_updated_listed_and_deleted(cluster, namespace: str) -> None:
    made = account("one") | {"metadata": {"name": "one", "labels": {"kind": "lifecycle"}}}
    apply(cluster, namespace, made)
    cluster.kubectl("-n", namespace, "patch", "serviceaccount", "one", "-p", '{"automountServiceAccountToken":false}')
    found = get(cluster, "", "serviceaccounts", "-A", "-l", "kind=lifecycle")["items"]
    assert [(one["metadata"]["namespace"], one["automountServiceAccountToken"]) for one in found] == [(namespace, False)]
    updated = found[0] | {"automountServiceAccountToken": True}
    cluster.kubectl("-n", namespace, "replace", "-f", "-", stdin=json.dumps(updated))
    assert get(cluster, namespace, "serviceaccount", "one")["automountServiceAccountToken"] is True
    cluster.kubectl("-n", namespace, "delete", "serviceaccount", "one")
    assert cluster.run_kubectl("-n", namespace, "get", "serviceaccount", "one").returncode == 1


@promise("SubjectReview should support SubjectReview API operations")
def test_reviews_say_what_really_happens(cluster, namespace: str) -> None:
    apply(cluster, namespace, account("bot"))
    cluster.kubectl("-n", namespace, "create", "rolebinding", "viewer", "--clusterrole=view", f"--serviceaccount={namespace}:bot")
    user = f"system:serviceaccount:{namespace}:bot"
    for resource, allowed in (("configmaps", True), ("secrets", False)):
        spec = {"user": user, "resourceAttributes": {"verb": "list", "resource": resource, "namespace": namespace}}
        kinds = {"SubjectAccessReview": "", "LocalSubjectAccessReview": f"namespaces/{namespace}/"}
        for kind, where in kinds.items():
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": kind,
                "metadata": {"namespace": namespace if where else ""},
                "spec": spec,
            }
            answer = post(cluster, f"/apis/authorization.k8s.io/v1/{where}{kind.lower()}s", review)
            assert answer["status"]["allowed"] is allowed, kind
        tried = cluster.run_kubectl("-n", namespace, "get", resource, "--as", user)
        assert (tried.returncode == 0) is allowed, tried.stderr

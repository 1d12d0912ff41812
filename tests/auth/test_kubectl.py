"""kubectl's commands about rights, old and new versions, against a cluster with RBAC."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
FOLDER = Path("/usr/lib/google-cloud-sdk/bin")
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["1.27", "1.33"])
def kubectl(request: pytest.FixtureRequest, cluster, namespace: str) -> Kubectl:
    """A kubectl of one version, in the test's namespace."""
    binary = FOLDER / f"kubectl.{request.param}"
    if not binary.exists():
        pytest.skip(f"no {binary} on this machine")

    def run(*arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(binary), f"--kubeconfig={cluster.kubeconfig}", "-n", namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


def test_can_i_tells_what_others_may_do(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,pods/log")
    kubectl("create", "rolebinding", "jane", "--role=reader", "--user=jane")
    assert kubectl("auth", "can-i", "get", "pods", "--as=jane").stdout.strip() == "yes"
    assert kubectl("auth", "can-i", "get", "pods/log", "--as=jane").stdout.strip() == "yes"
    refused = kubectl("auth", "can-i", "delete", "pods", "--as=jane", check=False)
    assert (refused.returncode, refused.stdout.strip()) == (1, "no")
    assert kubectl("auth", "can-i", "create", "deployments", "--as=jane", "--as-group=system:masters").stdout.strip() == "yes"
    listed = kubectl("auth", "can-i", "--list", "--as=jane").stdout
    rows = {line.split()[0]: line for line in listed.splitlines()[1:]}
    assert "[get list]" in rows["pods"]
    assert "[create]" in rows["selfsubjectaccessreviews.authorization.k8s.io"]
    assert "[/version]" in listed


def test_forbidden_is_said_in_kubernetes_words(kubectl: Kubectl, namespace: str) -> None:
    done = kubectl("get", "secrets", "--as=jane", check=False)
    where = f'in API group "" in the namespace "{namespace}"'
    assert done.stderr.strip() == f'Error from server (Forbidden): secrets is forbidden: User "jane" cannot list resource "secrets" {where}'
    done = kubectl("get", "nodes", "--as=jane", check=False)
    assert done.stderr.strip().endswith('User "jane" cannot list resource "nodes" in API group "" at the cluster scope')


def test_only_who_may_impersonate_does(kubectl: Kubectl, namespace: str, cluster, tmp_path: Path) -> None:
    token = kubectl("create", "token", "default", "--duration=10m").stdout.strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "account.kubeconfig"
    path.write_text(json.dumps(config))
    done = kubectl(f"--kubeconfig={path}", "get", "pods", "--as=jane", check=False)
    who, where = f'User "system:serviceaccount:{namespace}:default"', f'in API group "" in the namespace "{namespace}"'
    why = f'{who} cannot impersonate-on:user-info:list resource "pods" {where}'
    assert done.stderr.strip() == f"Error from server (Forbidden): pods is forbidden: {why}"


def test_whoami_tells_the_name_groups_and_credential(kubectl: Kubectl) -> None:
    done = kubectl("auth", "whoami", "-o", "json", check=False)
    if "v1beta1" in done.stderr or "not enabled" in done.stderr:
        pytest.skip("this kubectl asks a beta version of the review, which Kubernetes 1.36 does not serve either")
    user = json.loads(done.stdout)["status"]["userInfo"]
    assert (user["username"], user["groups"]) == ("kubernetes-admin", ["system:masters", "system:authenticated"])
    assert user["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    other = ("--as=jane", "--as-group=devs", "--as-uid=7")
    impersonated = json.loads(kubectl("auth", "whoami", "-o", "json", *other).stdout)["status"]["userInfo"]
    assert impersonated == {"username": "jane", "uid": "7", "groups": ["devs", "system:authenticated"]}


def rbac(kind: str, namespace: str, **content: Any) -> Any:
    meta = {"name": "reconciled", "namespace": namespace}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta, **content}


def test_reconcile_adds_what_is_missing_and_replaces_a_changed_role_reference(kubectl: Kubectl, namespace: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    subjects = [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]

    def bound(role: str) -> str:
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        items = [rbac("Role", namespace, rules=rules), rbac("RoleBinding", namespace, roleRef=ref, subjects=subjects)]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    kubectl("auth", "reconcile", "-f", "-", stdin=bound("reconciled"))
    rules[0]["verbs"].append("list")
    done = kubectl("auth", "reconcile", "-f", "-", stdin=bound("another"))
    assert "reconciled" in done.stdout
    found = json.loads(kubectl("get", "role,rolebinding", "reconciled", "-o", "json").stdout)["items"]
    assert sorted(verb for rule in found[0]["rules"] for verb in rule["verbs"]) in (["get", "get", "list"], ["get", "list"])
    assert found[1]["roleRef"]["name"] == "another"


def test_a_user_cannot_give_what_he_has_not(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "rolebinding", "admin", "--clusterrole=admin", "--user=boss")
    kubectl("create", "role", "ok", "--verb=get", "--resource=pods", "--as=boss")
    csr = "--resource=certificatesigningrequests.certificates.k8s.io"
    done = kubectl("create", "role", "greedy", "--verb=get", csr, "--as=boss", check=False)
    expected = (
        'roles.rbac.authorization.k8s.io "greedy" is forbidden: user "boss" (groups=["system:authenticated"]) '
        "is attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:["certificates.k8s.io"], Resources:["certificatesigningrequests"], Verbs:["get"]}'
    )
    assert done.stderr.strip().endswith(expected)


def test_aggregated_roles_hold_what_is_labelled_for_them(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl("auth", "can-i", "get", "pods", f"--as=system:serviceaccount:{namespace}:default", check=False).stdout.strip() == "no"
    kubectl("create", "rolebinding", "viewer", "--clusterrole=view", f"--serviceaccount={namespace}:default")
    assert kubectl("auth", "can-i", "get", "pods", f"--as=system:serviceaccount:{namespace}:default").stdout.strip() == "yes"
    assert kubectl("auth", "can-i", "get", "secrets", f"--as=system:serviceaccount:{namespace}:default", check=False).stdout.strip() == "no"


def test_a_monitoring_account_scrapes_a_kubelet_with_its_token(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "serviceaccount", "scraper")
    token = kubectl("create", "token", "scraper").stdout.strip()
    node = json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"][0]["status"]
    address = next(entry["address"] for entry in node["addresses"] if entry["type"] == "InternalIP")
    port = node["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def status(path: str, **headers: str) -> int:
        connection = http.client.HTTPSConnection(address, port, context=context, timeout=10)
        connection.request("GET", path, headers=headers)
        code = connection.getresponse().status
        connection.close()
        return code

    bearer = {"Authorization": f"Bearer {token}"}
    assert status("/metrics") == 401
    assert status("/stats/summary", **bearer) == 403
    binding = f"monitoring-{namespace}"
    kubectl("create", "clusterrolebinding", binding, "--clusterrole=system:monitoring", f"--serviceaccount={namespace}:scraper")
    assert status("/metrics", **bearer) == 200
    kubectl("delete", "clusterrolebinding", binding)

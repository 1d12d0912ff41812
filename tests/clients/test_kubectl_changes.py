"""kubectl changes what is there: set, label, patch, scale, rollout, wait, delete, certificates, nodes."""

from __future__ import annotations

import base64
import json
import threading

import pytest

from .conftest import Kubectl

pytestmark = pytest.mark.process


@pytest.fixture
def deployed(kubectl: Kubectl) -> Kubectl:
    """kubectl in a namespace with a Deployment `web` of two pods, all available."""
    kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    return kubectl


def test_wait_ends_with_the_condition_the_path_or_the_end(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("create", "deployment", "web", "--image=nginx")
    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=1", "deployment/web", "--timeout=30s")
    assert "timed out waiting for the condition" in kubectl.refused("wait", "--for=condition=Nope", "deployment/web", "--timeout=1s")
    remover = threading.Timer(0.5, kubectl, ["delete", "deployment", "web"])
    remover.start()
    kubectl("wait", "--for=delete", "deployment/web", "--timeout=30s")
    remover.join()
    assert kubectl("get", "deployments", "-o", "name") == ""


def test_set_changes_what_it_names(deployed: Kubectl) -> None:
    for words, path, value in (
        ("image deployment/web nginx=nginx:2", "{.spec.template.spec.containers[0].image}", "nginx:2"),
        ("env deployment/web A=b", "{.spec.template.spec.containers[0].env[0].value}", "b"),
        ("resources deployment/web --requests=cpu=10m", "{.spec.template.spec.containers[0].resources.requests.cpu}", "10m"),
        ("serviceaccount deployment/web other", "{.spec.template.spec.serviceAccountName}", "other"),
    ):
        deployed("set", *words.split())
        assert deployed.path(path, "deployment", "web") == value
    deployed("expose", "deployment/web", "--port=80")
    deployed("set", "selector", "service/web", "app=other")
    assert deployed.path("{.spec.selector.app}", "service", "web") == "other"
    deployed("create", "rolebinding", "b", "--clusterrole=view", "--user=jane")
    deployed("set", "subject", "rolebinding/b", "--user=joe", "--group=g", f"--serviceaccount={deployed.namespace}:default")
    assert deployed.path("{.subjects[*].name}", "rolebinding", "b") == "jane joe g default"


def test_labels_and_annotations_are_not_overwritten_unasked(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("create", "configmap", "a")
    for verb, field in (("label", "labels"), ("annotate", "annotations")):
        kubectl(verb, "configmap/a", "x=1")
        assert "--overwrite is false" in kubectl.refused(verb, "configmap/a", "x=2")
        kubectl(verb, "configmap/a", "x=2", "--overwrite")
        assert kubectl.path(f"{{.metadata.{field}.x}}", "configmap", "a") == "2"
        kubectl(verb, "configmap/a", "x-")
        assert "Conflict" in kubectl.refused(verb, "configmap/a", "x=3", "--resource-version=1")
    assert not kubectl.get("configmap", "a")["metadata"].get("labels")


def test_patches_of_every_type(deployed: Kubectl) -> None:
    scale = ("--subresource=scale", "--type=merge")
    for options, patch, replicas in (
        ((), {"spec": {"replicas": 3}}, "3"), (("--type=merge",), {"spec": {"replicas": 1}}, "1"),
        (("--type=json",), [{"op": "replace", "path": "/spec/replicas", "value": 2}], "2"), (scale, {"spec": {"replicas": 3}}, "3"),
    ):  # fmt: skip
        deployed("patch", "deployment/web", *options, "-p", json.dumps(patch))
        assert deployed.path("{.spec.replicas}", "deployment", "web") == replicas
    status = json.dumps({"status": {"observedGeneration": 1}, "spec": {"replicas": 9}})
    deployed("patch", "deployment/web", "--subresource=status", "--type=merge", "-p", status)
    assert deployed.path("{.spec.replicas}", "deployment", "web") == "3"
    assert "(no change)" in deployed("patch", "deployment/web", "-p", '{"spec": {"replicas": 3}}')
    dry = deployed("patch", "deployment/web", "--dry-run=server", "-p", '{"spec": {"replicas": 7}}', "-o", "jsonpath={.spec.replicas}")
    assert (dry, deployed.path("{.spec.replicas}", "deployment", "web")) == ("7", "3")


def test_scale_keeps_to_its_preconditions(deployed: Kubectl) -> None:
    assert "Expected replicas to be 5, was 2" in deployed.refused("scale", "deployment/web", "--replicas=3", "--current-replicas=5")
    assert "Expected resource version to be 1" in deployed.refused("scale", "deployment/web", "--replicas=3", "--resource-version=1")
    deployed("scale", "deployment/web", "--replicas=3", "--current-replicas=2", "--timeout=30s")
    deployed("autoscale", "deployment", "web", "--min=1", "--max=3")
    assert deployed.path("{.spec.scaleTargetRef.name} {.spec.maxReplicas}", "hpa", "web") == "web 3"


def test_rollouts_are_paused_resumed_restarted_and_undone(deployed: Kubectl) -> None:
    deployed("rollout", "pause", "deployment/web")
    deployed("set", "image", "deployment/web", "nginx=nginx:2")
    assert "paused" in deployed.refused("rollout", "restart", "deployment/web")
    assert deployed.path("{.status.updatedReplicas}", "deployment", "web") != "2"
    deployed("rollout", "resume", "deployment/web")
    deployed("rollout", "status", "deployment/web", "--timeout=30s")
    deployed("annotate", "deployment/web", "kubernetes.io/change-cause=second")
    deployed("rollout", "restart", "deployment/web")
    deployed("rollout", "status", "deployment/web", "--timeout=30s")
    assert [line.split()[0] for line in deployed("rollout", "history", "deployment/web").splitlines()[2:] if line] == ["1", "2", "3"]
    assert "nginx:1" in deployed("rollout", "history", "deployment/web", "--revision=1")
    deployed("rollout", "undo", "deployment/web", "--to-revision=1")
    assert deployed.path("{.spec.template.spec.containers[0].image}", "deployment", "web") == "nginx:1"
    assert "unable to find specified revision 9" in deployed.refused("rollout", "undo", "deployment/web", "--to-revision=9")


def test_deletes_cascade_as_asked(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    for mode, left in (("orphan", 1), ("foreground", 0), ("background", 0)):
        kubectl("create", "deployment", mode, "--image=nginx")
        kubectl("rollout", "status", f"deployment/{mode}", "--timeout=30s")
        kubectl("delete", "deployment", mode, f"--cascade={mode}", "--timeout=30s")
        if not left:
            kubectl("wait", "--for=delete", "replicaset", "-l", f"app={mode}", "--timeout=30s")
        assert len(kubectl.get("replicasets", "-l", f"app={mode}")["items"]) == left
    assert "(server dry run)" in kubectl("delete", "replicasets", "--all", "--dry-run=server")
    kubectl("delete", "replicasets", "--all", "--timeout=30s")
    assert kubectl("delete", "replicaset", "nope", "--ignore-not-found") == ""


def signing_request(name: str) -> dict[str, object]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    text = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "request": text}
    return {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec}


def test_certificates_are_approved_and_denied(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    good, bad = f"good-{kubectl.namespace}", f"bad-{kubectl.namespace}"
    kubectl("create", "-f", "-", stdin=[signing_request(good), signing_request(bad)])
    kubectl("certificate", "approve", good)
    kubectl("certificate", "deny", bad)
    kubectl("wait", "--for=jsonpath={.status.conditions[0].type}=Approved", f"csr/{good}", "--timeout=30s")
    assert "Denied" in kubectl("get", "csr", bad)
    assert "Common Name:    alice" in kubectl("describe", "csr", bad)
    kubectl("delete", "csr", good, bad)


def test_rights_are_reconciled(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl

    where = {"name": "r", "namespace": kubectl.namespace}

    def role(*verbs: str) -> dict[str, object]:
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": where, "rules": [rule]}

    assert "reconciled" in kubectl("auth", "reconcile", "-f", "-", stdin=role("get"))
    kubectl("auth", "reconcile", "-f", "-", stdin=role("list"))
    assert kubectl.path("{.rules[*].verbs[*]}", "role", "r") == "get list"
    kubectl("auth", "reconcile", "-f", "-", "--remove-extra-permissions", stdin=role("list"))
    assert kubectl.path("{.rules[*].verbs[*]}", "role", "r") == "list"


def test_tokens_are_bound_to_what_exists(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "a")
    bound = ("--bound-object-kind=Secret", "--bound-object-name=s")
    assert 'secrets "s" not found' in kubectl.refused("create", "token", "a", *bound)
    kubectl("create", "secret", "generic", "s")
    token = kubectl("create", "token", "a", *bound, "--audience=me", "--duration=10m")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (claims["aud"], claims["kubernetes.io"]["secret"]["name"], claims["exp"] - claims["iat"]) == (["me"], "s", 600)


def test_taints_are_kept_apart_by_key_and_effect(kubectl: Kubectl) -> None:
    key = f"{kubectl.namespace}.example/k"
    try:
        kubectl("taint", "node", "node-2", f"{key}=v:PreferNoSchedule")
        assert "--overwrite is false" in kubectl.refused("taint", "node", "node-2", f"{key}=w:PreferNoSchedule")
        kubectl("taint", "node", "node-2", f"{key}=w:PreferNoSchedule", "--overwrite")
        assert "w" in kubectl.path("{.spec.taints[*].value}", "node", "node-2").split()
    finally:
        kubectl("taint", "node", "node-2", f"{key}-")


def test_a_drain_waits_for_what_a_budget_protects(kubectl: Kubectl) -> None:
    """On a node of its own, so that no other test's pods are moved."""
    name = f"n-{kubectl.namespace}"
    labels = {"own": kubectl.namespace, "kubecosm.dev/simulated": "true"}
    taint = {"key": "own", "value": kubectl.namespace, "effect": "NoSchedule"}
    try:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": [taint]}}
        kubectl("create", "-f", "-", stdin=node)
        kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=30s")
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}},
            "spec": {"nodeSelector": labels, "tolerations": [taint], "containers": [{"name": "c", "image": "nginx"}]},
        }  # fmt: skip
        kubectl("create", "-f", "-", stdin=pod)
        kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
        kubectl("create", "poddisruptionbudget", "b", "--selector=app=p", "--min-available=1")
        kubectl("wait", "--for=jsonpath={.status.currentHealthy}=1", "pdb/b", "--timeout=30s")
        assert "cannot delete" in kubectl.refused("drain", name)
        stuck = kubectl.refused("drain", name, "--force", "--timeout=1s")
        assert "Cannot evict pod as it would violate the pod's disruption budget." in stuck
        kubectl("delete", "pdb", "b")
        assert f"node/{name} drained" in kubectl("drain", name, "--force", "--timeout=30s")
        assert "SchedulingDisabled" in kubectl("get", "node", name)
        kubectl("uncordon", name)
        assert "SchedulingDisabled" not in kubectl("get", "node", name)
    finally:
        kubectl("delete", "node", name, "--ignore-not-found")

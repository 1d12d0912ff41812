"""kubectl writes what files say: apply on both sides with pruning, diff, edit, replace, kustomize, and every `kubectl create`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from .conftest import Kubectl

pytestmark = pytest.mark.process


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "x"}}, "data": data}


def test_apply_prunes_what_the_files_no_longer_have(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl("apply", "-f", "-", stdin=[configmap("a", k="1"), configmap("b", k="1")])
    kubectl("create", "configmap", "never-applied")
    kubectl("label", "configmap", "never-applied", "set=x")
    done = kubectl("apply", "-f", "-", "--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap", stdin=[configmap("a", k="1")])
    assert done.split() == ["configmap/a", "unchanged", "configmap/b", "pruned"]
    assert "never-applied" in kubectl("get", "configmaps", "-o", "name")


def test_an_applyset_remembers_its_members(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    apply = ("apply", "-f", "-", "--prune", "--applyset=mine")
    kubectl(*apply, stdin=[configmap("a"), configmap("b")], KUBECTL_APPLYSET="true")
    done = kubectl(*apply, stdin=[configmap("b")], KUBECTL_APPLYSET="true")
    assert "configmap/a pruned" in done
    parent = kubectl.get("secret", "mine")["metadata"]
    member = kubectl.get("configmap", "b")["metadata"]
    assert parent["labels"]["applyset.kubernetes.io/id"] == member["labels"]["applyset.kubernetes.io/part-of"]


def test_server_side_apply_tells_of_conflicts_and_may_force_them(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl("apply", "--server-side", "-f", "-", stdin=configmap("a", k="1"))
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .data.k' in kubectl.refused(*other, stdin=configmap("a", k="2"))
    assert kubectl(*other, "--force-conflicts", stdin=configmap("a", k="2")).strip() == "configmap/a serverside-applied"
    assert 'conflict with "other": .data.k' in kubectl.refused("apply", "--server-side", "-f", "-", stdin=configmap("a", k="1"))


def test_client_side_apply_becomes_server_side_without_losing_what_was_applied(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("apply", "-f", "-", stdin=configmap("a", old="1", kept="1"))
    kubectl("apply", "--server-side", "-f", "-", stdin=configmap("a", kept="2"))
    assert kubectl.get("configmap", "a")["data"] == {"kept": "2"}


def test_diff_finds_changes_on_both_sides(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("apply", "-f", "-", stdin=configmap("a", k="1"))
    assert kubectl("diff", "-f", "-", stdin=configmap("a", k="1")) == ""
    for options in ([], ["--server-side", "--force-conflicts"]):
        found = kubectl.run("diff", *options, "-f", "-", stdin=configmap("a", k="2"))
        assert found.returncode == 1, found.stderr
        assert '-  k: "1"' in found.stdout
        assert '+  k: "2"' in found.stdout
    assert kubectl.path("{.data.k}", "configmap", "a") == "1"


def test_unknown_fields_are_refused_warned_of_or_dropped(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    wrong = configmap("a") | {"daata": {}}
    assert 'unknown field "daata"' in kubectl.refused("apply", "-f", "-", stdin=wrong)
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=wrong)
    assert (warned.returncode, warned.stderr.strip()) == (0, 'Warning: unknown field "daata"')
    assert kubectl.run("apply", "--validate=ignore", "-f", "-", stdin=wrong).stderr == ""


def test_edit_saves_what_the_editor_changed(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("apply", "-f", "-", stdin=configmap("a", k="1"))
    change = kubectl.script("change", """sed -i 's/k: "1"/k: "2"/' "$1" """)
    assert kubectl("edit", "configmap/a", EDITOR=change).strip() == "configmap/a edited"
    assert kubectl.path("{.data.k}", "configmap", "a") == "2"
    assert "no changes made" in kubectl.run("edit", "configmap/a", EDITOR="true").stderr
    assert 'k: "1"' in kubectl("apply", "view-last-applied", "configmap/a")
    kubectl("apply", "edit-last-applied", "configmap/a", EDITOR=change)
    assert 'k: "2"' in kubectl("apply", "view-last-applied", "configmap/a")


def test_edit_opens_again_with_the_reason_when_the_server_refuses(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    kubectl("create", "deployment", "web", "--image=nginx")
    notes = kubectl.folder / "notes"
    editor = kubectl.script("editor", f"""
        if [ -e {notes} ]; then grep '^#' "$1" >> {notes}; sed -i 's/replicas: .*/replicas: 0/' "$1"
        else touch {notes}; sed -i 's/replicas: .*/replicas: -1/' "$1"; fi""")  # fmt: skip
    done = kubectl.run("edit", "deployment/web", EDITOR=editor)
    assert (done.returncode, done.stdout.strip()) == (0, "deployment.apps/web edited")
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in notes.read_text()
    assert kubectl.path("{.spec.replicas}", "deployment", "web") == "0"


def test_edit_of_a_subresource_changes_the_status_alone(kubectl: Kubectl) -> None:
    kubectl("create", "quota", "q", "--hard=pods=1")
    editor = kubectl.script("editor", """sed -i 's/pods: "1"/pods: "7"/' "$1" """)
    kubectl("edit", "quota/q", "--subresource=status", EDITOR=editor)
    assert kubectl.path("{.spec.hard.pods}", "quota", "q") == "1"


def test_replace_wants_the_object_and_may_make_it_anew(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=configmap("a", k="1"))
    uid = kubectl.path("{.metadata.uid}", "configmap", "a")
    assert "AlreadyExists" in kubectl.refused("create", "-f", "-", stdin=configmap("a"))
    assert "NotFound" in kubectl.refused("replace", "-f", "-", stdin=configmap("other"))
    kubectl("replace", "-f", "-", stdin=configmap("a", k="2"))
    assert kubectl.path("{.metadata.uid}", "configmap", "a") == uid
    kubectl("replace", "--force", "-f", "-", stdin=configmap("a", k="3"))
    assert kubectl.path("{.metadata.uid}", "configmap", "a") != uid


def test_a_kustomization_is_applied_and_taken_away(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("""
resources: [base.yaml]
namePrefix: my-
configMapGenerator: [{name: settings, literals: [a=b]}]
replicas: [{name: web, count: 2}]
""")
    base = kubectl("create", "deployment", "web", "--image=nginx", "--dry-run=client", "-o", "yaml")
    (tmp_path / "base.yaml").write_text(base)
    done = kubectl("apply", "-k", str(tmp_path))
    assert "deployment.apps/my-web created" in done
    assert "configmap/my-settings-" in done
    kubectl("rollout", "status", "deployment/my-web", "--timeout=30s")
    assert kubectl("diff", "-k", str(tmp_path)) == ""
    kubectl("delete", "-k", str(tmp_path), "--timeout=30s")


def test_every_generator_makes_its_object(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    unique = kubectl.namespace
    for words in (
        f"configmap a --from-literal=a=b '--from-file={tmp_path}/file'", "secret generic a --from-literal=a=b",
        "secret docker-registry r --docker-server=x --docker-username=u --docker-password=p", "serviceaccount a",
        "role a --verb=get --resource=pods,deployments.apps --resource-name=x", "rolebinding a --role=a --user=jane",
        f"clusterrole {unique} --verb=get --non-resource-url=/x", f"clusterrolebinding {unique} --clusterrole=view --group=g",
        "quota a --hard=pods=20,services=9", f"priorityclass {unique} --value=10", "poddisruptionbudget a --selector=a=b --min-available=1",
        "ingress a --rule=a.example/x*=svc:80,tls=t --class=nginx", "service clusterip a --tcp=80:8080", "service nodeport b --tcp=80",
        "service loadbalancer c --tcp=80", "service externalname d --external-name=a.example", "deployment a --image=nginx --port=80",
        "job a --image=busybox -- true", "cronjob a --image=busybox '--schedule=*/5 * * * *' -- true", "job b --from=cronjob/a",
    ):  # fmt: skip
        assert " created" in kubectl("create", *shlex.split(words))
    kubectl("wait", "--for=condition=Complete", "job/a", "job/b", "--timeout=30s")
    kubectl("wait", "--for=condition=Available", "deployment/a", "--timeout=30s")
    assert kubectl.path("{.spec.rules[0].http.paths[0].pathType}", "ingress", "a") == "Prefix"
    kubectl("delete", "clusterrole,clusterrolebinding,priorityclass", unique)

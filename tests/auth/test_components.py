"""Every component acts with an identity of its own: what one lacks is told in one line, and comes back when the API server restarts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecosm.cluster.launch import Options
from tests.conftest import ClusterUnderTest, wait_for

pytestmark = pytest.mark.process


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterUnderTest]:
    """A cluster that nobody else uses."""
    with ClusterUnderTest.start(Options(name="own", nodes=1), environ=os.environ | {"KUBECOSM_HOME": str(tmp_path)}) as running:
        running.wait_ready()
        yield running


def refusals(cluster: ClusterUnderTest, component: str) -> list[str]:
    """What the component's log says about rights it lacks."""
    lines = [json.loads(line) for line in cluster.paths.log_of(component).read_text().splitlines()]
    return [line["error"] for line in lines if "forbidden" in line.get("error", "")]


def ready_replicas(cluster: ClusterUnderTest) -> str:
    return cluster.kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")


def test_a_controller_without_its_right_says_so_and_has_it_again_after_a_restart(own_cluster: ClusterUnderTest) -> None:
    binding = "system:controller:replicaset-controller"
    own_cluster.kubectl("delete", "clusterrolebinding", binding)
    own_cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    who = 'User "system:serviceaccount:kube-system:replicaset-controller" cannot'
    lacking = f'{who} update resource "replicasets/status" in API group "apps" in the namespace "default"'
    wait_for(lambda: any(lacking in line for line in refusals(own_cluster, "controller")), "the refusal is logged")
    assert all(who in line for line in refusals(own_cluster, "controller"))
    assert ready_replicas(own_cluster) == ""
    own_cluster.request("restart", "apiserver")
    wait_for(lambda: own_cluster.run_kubectl("get", "clusterrolebinding", binding).returncode == 0, "the default binding is back")
    wait_for(lambda: ready_replicas(own_cluster) == "2", "the pods run")


def test_a_role_that_wants_to_be_left_alone_is(own_cluster: ClusterUnderTest) -> None:
    annotation = "rbac.authorization.kubernetes.io/autoupdate"
    own_cluster.kubectl("annotate", "--overwrite", "clusterrole", "system:node-proxier", f"{annotation}=false")
    own_cluster.kubectl("patch", "clusterrole", "system:node-proxier", "--type=merge", "-p", '{"rules":[]}')
    own_cluster.kubectl("patch", "clusterrole", "system:kube-scheduler", "--type=merge", "-p", '{"rules":[]}')
    own_cluster.request("restart", "apiserver")

    def rules(name: str) -> str:
        return own_cluster.run_kubectl("get", "clusterrole", name, "-o", "jsonpath={.rules}").stdout

    wait_for(lambda: len(rules("system:kube-scheduler")) > 100, "the other role has its rules again")
    assert rules("system:node-proxier") in ("", "[]", "null")

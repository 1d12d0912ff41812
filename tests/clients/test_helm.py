"""Helm's own code (its SDK as a shared library) installs, upgrades, tests, rolls back and removes a chart with hooks and a definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest

pytestmark = pytest.mark.process
CHART = str(Path(__file__).parent / "chart")
SECONDS_MAX = 60


def test_a_release_lives_from_install_to_uninstall(cluster: ClusterUnderTest, namespace: str) -> None:
    helm = pytest.importorskip("helm_python", reason="no Helm: pip install 'kubecosm[clients]'")

    def kubectl(*arguments: str) -> str:
        return cluster.kubectl("-n", namespace, *arguments)

    def shown() -> str:
        return kubectl("exec", "deployment/demo", "--", "wget", "-qO-", "http://demo")

    def revisions() -> list[Any]:
        return [(entry["revision"], entry["status"]) for entry in releases.history("demo")]

    kubectl("create", "configmap", "opening-hours")
    with helm.Config(kubeconfig_path=str(cluster.kubeconfig), namespace=namespace) as releases:
        wait = {"wait": "watcher", "timeout": SECONDS_MAX}
        installed = releases.install(CHART, "demo", {"replicas": 2}, **wait)
        assert installed["status"] == "deployed"
        assert shown() == "hello 1 on v1.36.0"
        assert kubectl("get", "till", "demo", "-o", "jsonpath={.spec.drawers}") == "2"
        assert kubectl("get", "deployment", "demo", "-o", "jsonpath={.status.readyReplicas}") == "2"
        assert "demo-found-opening-hours" in kubectl("get", "configmaps", "-o", "name")
        assert kubectl("logs", "job/demo-prepare") == "prepared 1\n"

        releases.upgrade(CHART, "demo", {"replicas": 1, "message": "bye"}, **wait)
        assert kubectl("logs", "job/demo-prepare") == "prepared 2\n"
        assert shown() == "bye 2 on v1.36.0"
        releases.test("demo")
        assert kubectl("get", "pod", "demo-visit", "-o", "jsonpath={.status.phase}") == "Succeeded"

        releases.rollback("demo", version=1, **wait)
        assert kubectl("get", "deployment", "demo", "-o", "jsonpath={.spec.replicas}") == "2"
        with pytest.raises(helm.HelmError, match="rolled back"):
            releases.upgrade(CHART, "demo", {"image": "bad.invalid/x"}, wait="watcher", timeout=2, rollback_on_failure=True)
        assert revisions() == [(1, "superseded"), (2, "superseded"), (3, "superseded"), (4, "failed"), (5, "deployed")]
        assert [release["name"] for release in releases.list()] == ["demo"]

        releases.uninstall("demo")
        assert kubectl("get", "deployments,services,secrets", "-o", "name") == ""
        cluster.kubectl("delete", "crd", "tills.till.kubecosm.dev")

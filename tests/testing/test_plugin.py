"""The pytest plugin, as a project that installs kubecosm uses it: pytest runs in a process of its own on a test file of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:kubecosm", "-p", "kubecosm.testing.plugin", "-q", "-p", "no:cacheprovider")
"""Loads the plugin by its module, whether or not the installed package announces it by its entry point."""


USER_TESTS = '''
import asyncio
import pytest
from kubecosm.api.meta import is_condition_true
from kubecosm.api.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS
from kubecosm.client.http import ApiClient
from kubecosm.runtime.clock import RealClock
from kubecosm.testing.waiting import wait_for_condition

names = []

def deployment(name, replicas):
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}

def test_a_deployment_becomes_ready(kubecosm_config, kubecosm_namespace):
    async def main():
        async with ApiClient(kubecosm_config, clock=RealClock()) as client:
            assert len((await client.list(NODES))["items"]) == 2
            await client.create(DEPLOYMENTS, deployment("web", 3), kubecosm_namespace)
            await wait_for_condition(
                client, DEPLOYMENTS, "web", lambda o: o is not None and o.get("status", {}).get("readyReplicas") == 3, kubecosm_namespace
            )
    asyncio.run(main())

@pytest.mark.parametrize("who", ["One & only", "two"])
def test_namespaces_are_our_own(kubecosm_kubeconfig, kubecosm_config, kubecosm_namespace, who):
    assert kubecosm_kubeconfig.is_file()
    async def main():
        async with ApiClient(kubecosm_config, clock=RealClock()) as client:
            await client.create(CONFIGMAPS, {"metadata": {"name": "same-name"}}, kubecosm_namespace)
    asyncio.run(main())
    names.append(kubecosm_namespace)
    assert len(set(names)) == len(names)
    assert kubecosm_namespace.startswith("test-namespaces-are-our-own")

def test_the_cluster_survives_a_kill(kubecosm_cluster, kubecosm_namespace):
    kubecosm_cluster.request("kill", "controller")
'''


def test_users_get_a_cluster_and_namespaces_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USER_TESTS)
    done = subprocess.run(
        [*PYTEST, "--kubecosm-nodes=2", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_page_for_operators_tells_the_truth(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing-operators.md").read_text()
    (tmp_path / "test_mine.py").write_text(page.split("```python\n")[1].split("```")[0])
    done = subprocess.run([*PYTEST, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_setting_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_it(kubecosm_cluster): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nkubecosm_nodes = many\n")
    done = subprocess.run([*PYTEST, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "kubecosm_nodes: expected a whole number, not 'many'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_without_such_tests_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("import sys\ndef test_it(): assert 'kubecosm.cluster.launch' not in sys.modules\n")
    done = subprocess.run(
        [*PYTEST, str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

"""The pytest plugin: a real cluster for the tests of whoever installs kubecosm.

    def test_my_operator(kubecosm_config, kubecosm_namespace):
        ...

The cluster starts with the first test that asks for it (in about a second), is shared by the tests of one pytest process (each worker of
pytest-xdist has its own), stores nothing, and ends with the process, however it ends. Each test that asks gets a namespace of its own.
Leaves out: resetting cluster-scoped objects between tests.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubecosm.client.config import ClientConfig
    from kubecosm.cluster.running import RunningCluster

NODES_DEFAULT = 1
READY_SECONDS_MAX = 60.0
NAME_CHARACTERS_MAX = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    help_nodes = f"simulated nodes of the cluster that kubecosm starts for the tests (default: {NODES_DEFAULT})"
    parser.getgroup("kubecosm").addoption("--kubecosm-nodes", type=int, default=None, metavar="N", help=help_nodes)
    parser.addini("kubecosm_nodes", help_nodes, default=str(NODES_DEFAULT))


@pytest.fixture(scope="session")
def kubecosm_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A running cluster whose nodes are Ready: `.kubeconfig` is a path, `.request("kill", "apiserver")` and the like make trouble."""
    from kubecosm.cluster.launch import Options
    from kubecosm.cluster.running import RunningCluster

    nodes = request.config.getoption("--kubecosm-nodes")
    if nodes is None:
        nodes = _nodes_of(str(request.config.getini("kubecosm_nodes")))
    name = f"pytest-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    environ = {**os.environ, "KUBECOSM_HOME": str(tmp_path_factory.mktemp("kubecosm"))}
    with RunningCluster.start(Options(name=name, nodes=nodes, ephemeral=True), environ=environ) as cluster:
        cluster.wait_ready(READY_SECONDS_MAX)
        yield cluster


def _nodes_of(setting: str) -> int:
    if not setting.isdigit():
        pytest.exit(f"kubecosm_nodes: expected a whole number, not {setting!r}", returncode=pytest.ExitCode.USAGE_ERROR)
    return int(setting)


@pytest.fixture(scope="session")
def kubecosm_kubeconfig(kubecosm_cluster: RunningCluster) -> Path:
    """The kubeconfig of the cluster's administrator, for any client."""
    return kubecosm_cluster.kubeconfig


@pytest.fixture(scope="session")
def kubecosm_config(kubecosm_kubeconfig: Path) -> ClientConfig:
    """The same for kubecosm.client.ApiClient."""
    from kubecosm.client.config import ClientConfig

    return ClientConfig.from_kubeconfig(kubecosm_kubeconfig)


@pytest.fixture
def kubecosm_namespace(request: pytest.FixtureRequest, kubecosm_config: ClientConfig) -> Iterator[str]:
    """The name of a fresh namespace, called after the test; it is deleted afterwards, without waiting for the end."""
    from kubecosm.api.resources import NAMESPACES
    from kubecosm.client.http import ApiClient
    from kubecosm.runtime.clock import RealClock

    readable = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:NAME_CHARACTERS_MAX].strip("-")

    async def create() -> str:
        async with ApiClient(kubecosm_config, clock=RealClock(), user_agent="kubecosm-pytest") as client:
            created = await client.create(NAMESPACES, {"metadata": {"generateName": f"{readable or 'test'}-"}})
            return str(created["metadata"]["name"])

    async def delete(name: str) -> None:
        async with ApiClient(kubecosm_config, clock=RealClock(), user_agent="kubecosm-pytest") as client:
            await client.delete(NAMESPACES, name)

    name = asyncio.run(create())
    yield name
    asyncio.run(delete(name))

"""@kubernetes/client-node, unchanged, in one Node process: informer, deployment, exec, log, port-forward, objects by kind, metrics."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ClusterUnderTest

pytestmark = pytest.mark.process
SCRIPT = Path(__file__).parent / "client_node.cjs"
INSTALLED = Path(__file__).parents[2] / "build" / "node"
"""Where `npm install --prefix build/node @kubernetes/client-node` puts it; $NODE_PATH names another place."""
SECONDS_MAX = 100
KEPT = {
    "informer": ["add i", "update i", "delete i"],
    "deployment": 1,
    "exec": ["said\n", "aside\n", "3"],
    "log": True,
    "port-forward": True,
    "objects": ["2", 404],
    "top": True,
}


def modules() -> str:
    """The folder of Node's modules that has the client; skips the test where there is none."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    places = [*os.environ.get("NODE_PATH", "").split(":"), str(INSTALLED / "node_modules")]
    found = next((place for place in places if place and (Path(place) / "@kubernetes" / "client-node").is_dir()), None)
    if found is None:
        pytest.skip("no @kubernetes/client-node: npm install --prefix build/node @kubernetes/client-node@1.3.0 (2.0 needs Node 22)")
    return found


def test_the_javascript_client_watches_runs_commands_and_forwards_ports(cluster: ClusterUnderTest, namespace: str) -> None:
    environ = os.environ | {"NODE_PATH": modules()}
    command = ["node", str(SCRIPT), str(cluster.kubeconfig), namespace]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = {line["promise"]: line["found"] for line in map(json.loads, done.stdout.splitlines())}
    assert kept == KEPT

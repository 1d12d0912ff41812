"""kubectl in a namespace of the test's own: the newest at hand, or one of each version that talks to the server in its own way."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, find_kubectl

FOLDER = Path("/usr/lib/google-cloud-sdk/bin")
SECONDS_MAX = 60


class Kubectl:
    """One binary, one namespace, a discovery cache of its own."""

    def __init__(self, binary: str, cluster: ClusterUnderTest, namespace: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.command = [binary, f"--kubeconfig={cluster.kubeconfig}", "-n", namespace, f"--cache-dir={folder / 'cache'}"]

    def run(self, *arguments: str, stdin: Any = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """To its end; an object as `stdin` is given as JSON, several are given as a List."""
        if isinstance(stdin, list):
            stdin = {"apiVersion": "v1", "kind": "List", "items": stdin}
        text = stdin if isinstance(stdin, str) else json.dumps(stdin) if stdin is not None else ""
        whole = os.environ | environ
        command = [*self.command, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, env=whole)

    def __call__(self, *arguments: str, stdin: Any = None, **environ: str) -> str:
        """What it printed; it must succeed."""
        done = self.run(*arguments, stdin=stdin, **environ)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def refused(self, *arguments: str, stdin: Any = None, **environ: str) -> str:
        """What it complained of; it must fail."""
        done = self.run(*arguments, stdin=stdin, **environ)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} did succeed: {done.stdout}"
        return done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def path(self, jsonpath: str, *arguments: str) -> str:
        return self("get", *arguments, "-o", f"jsonpath={jsonpath}")

    def script(self, name: str, text: str) -> str:
        """A shell script as a file."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def kubectl(cluster: ClusterUnderTest, namespace: str, tmp_path: Path) -> Kubectl:
    """The newest kubectl of this machine."""
    return Kubectl(find_kubectl(), cluster, namespace, tmp_path)


def _of_version(version: str, cluster: ClusterUnderTest, namespace: str, folder: Path) -> Kubectl:
    binary = FOLDER / f"kubectl.{version}"
    if not binary.exists():
        pytest.skip(f"no {binary} on this machine")
    return Kubectl(str(binary), cluster, namespace, folder)


@pytest.fixture(params=["1.27", "1.30", "1.33"])
def each_kubectl(request: pytest.FixtureRequest, cluster: ClusterUnderTest, namespace: str, tmp_path: Path) -> Kubectl:
    """For what differs on the wire: kubectl 1.27 reads OpenAPI v2 and streams over SPDY, 1.30 reads v3, 1.33 streams over WebSockets."""
    return _of_version(request.param, cluster, namespace, tmp_path)


@pytest.fixture(params=["1.27", "1.33"])
def old_and_new_kubectl(request: pytest.FixtureRequest, cluster: ClusterUnderTest, namespace: str, tmp_path: Path) -> Kubectl:
    """For what may differ in their logic alone."""
    return _of_version(request.param, cluster, namespace, tmp_path)

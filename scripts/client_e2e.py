"""Runs the client projects' own end-to-end tests, out of their source distributions, against a cluster: `make client-e2e`.

    python scripts/client_e2e.py [--only kr8s,kopf,…]

Each project's tests come from PyPI in a pinned version, as they are, into build/client-e2e, with a virtual environment of their own. What
is left out, and why, stands in PROJECTS; what is replaced is what would start another cluster.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "client-e2e"
TEST_SECONDS_MAX = 120
NO_CONFIGURATION = ("-c", os.devnull, "--rootdir=.")
"""The distribution brings none: keep pytest from finding that of kubecosm around it."""
FLAGS = {"apiserver": {"enable-metrics-api": "false"}}
"""metrics.k8s.io has `pods` too; kr8s' tests expect one resource of the name."""
TOOLS = (
    "pytest", "pytest-asyncio", "pytest-timeout", "pytest-aiohttp", "pytest-mock", "freezegun", "looptime", "anyio", "trio", "pykube-ng",
    "pytest-rerunfailures",
)  # fmt: skip
OPTION = """
def pytest_addoption(parser):
    parser.addoption("--keep-cluster", action="store_true", default=True)
"""
KIND = """
import os, subprocess
from pathlib import Path

class KindCluster:
    name = "kubecosm"
    kubectl_path = "kubectl"

    def __init__(self, *args, **kwargs):
        self.kubeconfig_path = Path(os.environ["KUBECONFIG_OF_KUBECOSM"])

    def create(self): pass
    def delete(self): pass

    def kubectl(self, *args, **kwargs):
        return subprocess.check_output(["kubectl", *args], env=os.environ | {"KUBECONFIG": str(self.kubeconfig_path)}, encoding="utf-8")
"""
BASE = """
import asyncio, inspect
from {package} import client, config

def get_e2e_configuration():
    configuration = client.Configuration()
    loaded = config.load_kube_config(client_configuration=configuration)
    if inspect.isawaitable(loaded):
        asyncio.run(loaded)
    return configuration
"""


@dataclass(frozen=True)
class Project:
    """`skipped` maps a part of a test's name to why it is left out."""

    name: str
    version: str
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()
    support: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()


PROJECTS = (
    Project(
        "kr8s", "0.20.15", ("kr8s/tests",), ("-o", "addopts=", "-p", "no:looptime", "-p", "pytest_kind", "--reruns=3"),
        {"pytest_kind/__init__.py": OPTION, "pytest_kind/cluster.py": KIND},
        {
            "test_cast_to_from_kubernetes": "asks for names that kubernetes 37 no longer has",
            "test_pod_exec_error": "newer httpx-ws wraps the exception that it expects in a group",
            "test_pod_exec_to_file": "newer httpx-ws wraps the exception that it expects in a group",
            "test_pod_exec_not_ready": "expects that a pod takes longer than a request to be ready",
            "test_api_timeout": "expects that no server answers within 10 µs",
        },
        ("lightkube", "kubernetes", "kubernetes_asyncio", "kubernetes-validate"),
    ),
    Project(
        "kopf", "1.45.2", ("tests/e2e", "examples/09-testing", "examples/10-builtins", "examples/11-filtering-handlers"),
        ("-o", "addopts=", "--only-e2e", "-W", "default"), {},
        {"17-admission": "makes a certificate with a library that does not know OpenSSL 3"}, ("kubernetes", "cryptography"),
    ),
    Project(
        "kubernetes", "37.0.2",
        ("kubernetes/dynamic/test_client.py", "kubernetes/dynamic/test_discovery.py", "kubernetes/aio/dynamic", "kubernetes/leaderelection",
         "kubernetes/aio/leaderelection", "kubernetes/watch", "kubernetes/aio/watch", "kubernetes/stream"),
        (*NO_CONFIGURATION, "-o", "python_files=*_test.py test_*.py", "-p", "no:looptime"),
        {"kubernetes/e2e_test/__init__.py": "", "kubernetes/e2e_test/base.py": BASE.format(package="kubernetes"),
         "kubernetes/aio/e2e_test/__init__.py": "", "kubernetes/aio/e2e_test/base.py": BASE.format(package="kubernetes.aio")},
        {
            "TestDynamicClient and custom_resources and not aio": "asks for apiextensions.k8s.io/v1beta1, which Kubernetes 1.22 removed",
            "test_cache_decoder_resource_and_subresource": "compares two clients by identity",
            "test_server_side_apply_api and aio": "applies a Deployment to a Pod, which Kubernetes refuses since 1.27",
        },
    ),
    Project(
        "kubernetes_asyncio", "36.1.0",
        ("kubernetes_asyncio/dynamic", "kubernetes_asyncio/leaderelection", "kubernetes_asyncio/watch", "kubernetes_asyncio/stream"),
        (*NO_CONFIGURATION, "-o", "python_files=*_test.py", "-p", "no:looptime"),
        {"kubernetes_asyncio/e2e_test/__init__.py": "", "kubernetes_asyncio/e2e_test/base.py": BASE.format(package="kubernetes_asyncio")},
        {"test_server_side_apply_api": "applies a Deployment to a Pod, which Kubernetes refuses since 1.27"},
    ),
)  # fmt: skip


def kubectl() -> str:
    """The binary, also under its plain name in FOLDER/bin, where the tests look for it."""
    found = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if found is None:
        raise SystemExit("no kubectl on this machine: install it, or name it in $KUBECTL")
    link = FOLDER / "bin" / "kubectl"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(found)
    return str(link)


def python() -> str:
    """The interpreter of the environment for the projects' tests, made when first needed."""
    folder = FOLDER / "venv"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


def fetch(project: Project) -> Path:
    """The project's unpacked source distribution, installed with what its tests need."""
    pip = [python(), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    where = FOLDER / f"{project.name}-{project.version}"
    if not where.exists():
        pinned = f"{project.name}=={project.version}"
        subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(FOLDER), pinned], check=True)
        with tarfile.open(FOLDER / f"{where.name}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    for path, text in project.support.items():
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_text(text)
    subprocess.run([*pip, "install", *TOOLS, *project.requirements, f"{project.name}=={project.version}"], check=True)
    return where


def run(project: Project, cluster: RunningCluster, options: list[str]) -> int:
    """The exit code of the project's tests against a cluster."""
    where = fetch(project)
    for part, reason in project.skipped.items():
        print(f"{project.name}: without {part}: {reason}")
    kept = " and ".join(f"not ({part})" for part in project.skipped)
    command = [python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS_MAX}", *project.options, *options]
    config = str(cluster.kubeconfig)
    environ = os.environ | {"KUBECONFIG": config, "KUBECONFIG_OF_KUBECOSM": config, "PYTHONPATH": str(where)}
    environ["PATH"] = f"{FOLDER / 'bin'}:{environ['PATH']}"
    return subprocess.run([*command, "-k", kept, *project.tests], cwd=where, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = [project.name for project in PROJECTS]
    parser.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}")
    arguments, options = parser.parse_known_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    environ = os.environ | {"KUBECOSM_HOME": str(FOLDER / "home")}
    failed = []
    for project in PROJECTS:
        if project.name not in arguments.only.split(","):
            continue
        with RunningCluster.start(Options(name="client-e2e", nodes=3, ephemeral=True, flags=FLAGS), environ=environ) as cluster:
            cluster.wait_ready()
            # the clusters of these projects run their DNS as pods, and the tests look at them
            command = [kubectl(), f"--kubeconfig={cluster.kubeconfig}", "-n", "kube-system", "run", "coredns", "--image=coredns"]
            subprocess.run(command, check=True)
            if run(project, cluster, options):
                failed.append(project.name)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fixtures of all tests: a real cluster per worker, kubectl where there is one, the command line in a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster
from tests.promises import promises_of

KUBECTL_PLACES = ("/usr/lib/google-cloud-sdk/bin/kubectl.1.33", "/usr/local/bin/kubectl", "/usr/bin/kubectl")
COMMAND_SECONDS_MAX = 60.0
CONDITION_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.02
hypothesis.settings.register_profile("kubecosm", deadline=None)  # how long an example takes says more of the machine than of the code
hypothesis.settings.load_profile("kubecosm")


def pytest_addoption(parser: pytest.Parser) -> None:
    help_golden = "write what the code gives now into the golden files, to be reviewed as a diff"
    parser.addoption("--update-golden", action="store_true", help=help_golden)
    help_promise = "only tests that keep a conformance promise whose name contains the text"
    parser.addoption("--promise", default="", metavar="TEXT", help=help_promise)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what `--promise` does not ask for."""
    wanted = config.getoption("--promise").lower()
    if wanted:
        chosen = {item for item in items if any(wanted in name.lower() for name in promises_of(item))}
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: what tests start must still hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition: Callable[[], object], what: str, seconds_max: float = CONDITION_SECONDS_MAX) -> None:
    """Waits (in real time) until `condition()` is true; for what other processes do."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds_max} s: {what}"
        time.sleep(LOOK_SECONDS)


def find_kubectl() -> str:
    """The kubectl binary; a test that needs it is skipped where there is none, except in continuous integration."""
    found = os.environ.get("KUBECTL") or next((place for place in KUBECTL_PLACES if Path(place).exists()), None) or shutil.which("kubectl")
    if found is None:
        reason = "no kubectl on this machine: install it, or name it in $KUBECTL"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class ClusterUnderTest(RunningCluster):
    """A running cluster with kubectl at hand."""

    def run_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs kubectl as the cluster's administrator, to its end."""
        command = [find_kubectl(), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What a kubectl command printed; it must succeed."""
        done = self.run_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """A whole cluster with three nodes, shared by the tests of a worker: use a namespace of your own (`namespace`)."""
    name = f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    environ = os.environ | {"KUBECOSM_HOME": str(tmp_path_factory.mktemp("home"))}
    with ClusterUnderTest.start(Options(name=name, nodes=3, ephemeral=True), environ=environ) as running:
        running.wait_ready()
        yield running


Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def kube(cluster: ClusterUnderTest) -> Kubectl:
    """`kube("get", "pods", stdin="…", check=True)` runs kubectl against the shared cluster and answers all of the finished process."""

    def run(*arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = cluster.run_kubectl(*arguments, stdin=stdin)
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    return run



@pytest.fixture
def namespace(cluster: ClusterUnderTest) -> Iterator[str]:
    """A namespace of the test's own on the shared cluster."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


class CommandLine:
    """The `kubecosm` command with a home directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = os.environ | {"KUBECOSM_HOME": str(home)}

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end and checks its exit code."""
        done = subprocess.run(
            self._command(arguments), env=self.environ, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
        assert done.returncode == code, f"kubecosm {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What a kubectl command printed about the cluster `default`; it must succeed."""
        command = [find_kubectl(), f"--kubeconfig={self.home / 'default' / 'kubeconfig'}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command that stays."""
        return subprocess.Popen(self._command(arguments), env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "kubecosm.cli", *arguments]

    def processes(self) -> list[int]:
        """The pids of everything that was started with this home and still lives: they all inherit its environment."""
        mark = f"KUBECOSM_HOME={self.home}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def wait_no_processes(self, seconds_max: float = CONDITION_SECONDS_MAX) -> None:
        wait_for(lambda: not self.processes(), "no process is left", seconds_max)


@pytest.fixture
def kubecosm(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line; whatever a failing test leaves running is ended."""
    line = CommandLine(tmp_path / "home")
    yield line
    for pid in line.processes():
        os.kill(pid, signal.SIGKILL)
    line.wait_no_processes()

"""Components that die at moments from a seed, or are left alone without an API server: what tests of several components share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubecosm.cluster.launch import Options
from tests.conftest import ClusterUnderTest, CommandLine, wait_for

IDLE_SECONDS = 3.0
IDLE_CPU_SHARE_MAX = 0.05


@contextmanager
def cluster_to_hurt(home: Path, nodes: int) -> Iterator[ClusterUnderTest]:
    """A cluster whose components may be killed without other tests suffering."""
    environ = os.environ | {"KUBECOSM_HOME": str(home)}
    with ClusterUnderTest.start(Options(name="hurt", nodes=nodes, ephemeral=True), environ=environ) as running:
        running.wait_ready()
        yield running


def moments(component: str) -> random.Random:
    """A source of randomness whose seed is printed; $<COMPONENT>_SEED repeats a run."""
    variable = f"{component.upper()}_SEED"
    seed = int(os.environ.get(variable) or random.SystemRandom().randrange(1 << 32))
    print(f"repeat with {variable}={seed}")
    return random.Random(seed)


def kill_within(cluster: ClusterUnderTest, component: str, seconds: float) -> None:
    """kill -9 of a component after so many seconds; of the next one, if its supervisor is just starting it again."""
    moment = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= moment, "the chosen moment")

    def pid() -> int | None:
        found: int | None = next(c["pid"] for c in cluster.status()["components"] if c["name"] == component)
        return found

    wait_for(pid, f"there is a {component} to be killed")
    os.kill(pid() or 0, signal.SIGKILL)


@contextmanager
def component_alone(kubecosm: CommandLine, component: str) -> Iterator[subprocess.Popen[bytes]]:
    """A component started by hand beside a running API server; it must outlive the block and end cleanly."""
    copy = kubecosm.home / "copy.kubeconfig"
    copy.write_bytes(Path(kubecosm("kubeconfig", "--path").stdout.strip()).read_bytes())
    command = [sys.executable, "-m", f"kubecosm.services.{component}", f"--kubeconfig={copy}"]
    with subprocess.Popen(command, env=kubecosm.environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
            assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(10) == 0


def assert_idle(process: subprocess.Popen[bytes], cpu_share_max: float = IDLE_CPU_SHARE_MAX) -> None:
    """The process costs next to no processor time for a while."""
    before, until = cpu_seconds(process.pid), time.monotonic() + IDLE_SECONDS
    wait_for(lambda: time.monotonic() >= until, "some time has passed")
    used = cpu_seconds(process.pid) - before
    assert used < cpu_share_max * IDLE_SECONDS


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

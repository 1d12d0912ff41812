"""A run that cannot be, or that ends with a dead cluster, is told in words, and leaves nothing frozen."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kubecosm.chaos.faults import inject
from kubecosm.chaos.ledger import Ledger
from kubecosm.chaos.plan import Fault
from kubecosm.chaos.scenario import Report, Settings, judge
from kubecosm.client.config import ClientConfig
from kubecosm.client.http import ApiClient
from kubecosm.runtime.clock import RealClock


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--components=scheduler,etcd"], "there is no etcd: choose from apiserver"),
        (["--faults=-1"], "--faults must not be negative"),
        (["--writers=0"], "--writers be at least 1"),
        (["--name=nowhere"], "the cluster is not running"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    # A process of its own: it sets up the logs of the process that it is.
    command = [sys.executable, "-m", "kubecosm.chaos", *arguments]
    ended = subprocess.run(command, env={**os.environ, "KUBECOSM_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert complaint in line


def test_what_cannot_be_read_in_the_end_is_a_violation_and_the_rest_is_reported() -> None:
    async def main() -> Report:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            config = ClientConfig(f"http://127.0.0.1:{closed.getsockname()[1]}")
            ledger, report = Ledger(), Report(7, 1)
            ledger.begin("a", "1")
            ledger.confirm("a", "1")
            async with ApiClient(config, clock=RealClock()) as client:
                await judge(client, ledger, Settings(7, "run"), report)
            return report

    report = asyncio.run(main())
    assert not report.passed
    assert report.acknowledged == 1
    assert [violation.split(":")[0] for violation in report.violations] == ["what was written cannot be read"]


class Frozen:
    """A supervisor that notes who is paused."""

    def __init__(self) -> None:
        self.paused: set[str] = set()
        self.has_paused = asyncio.Event()

    def request(self, op: str, component: str) -> dict[str, object]:
        if op == "pause":
            self.paused.add(component)
            self.has_paused.set()
        else:
            self.paused.discard(component)
        return {}


def test_an_interrupted_run_leaves_nothing_frozen() -> None:
    supervisor = Frozen()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            faults = [Fault(0, "pause", "apiserver", 60.0), Fault(30, "kill", "proxy")]
            running = tasks.create_task(inject(supervisor, faults, RealClock()))  # type: ignore[arg-type]
            await supervisor.has_paused.wait()
            running.cancel()

    asyncio.run(main())
    assert not supervisor.paused

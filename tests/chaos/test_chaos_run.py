"""A real cluster under seeded failure keeps what it acknowledged and comes to rest."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubecosm.chaos.__main__ import Config, run
from kubecosm.chaos.plan import plan_faults
from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster
from kubecosm.cluster.spec import COMPONENTS
from kubecosm.runtime.clock import RealClock

pytestmark = pytest.mark.process

SEED = 20260
FAULTS = 10


@pytest.mark.timeout(110)
def test_nothing_acknowledged_is_lost_when_every_component_dies_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECOSM_HOME", str(tmp_path / "home"))
    name = f"chaos-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    config = Config(name=name, faults=FAULTS, gap=Config().gap, heal=Config().heal)
    with RunningCluster.start(Options(name=name, nodes=2, ephemeral=True), environ=os.environ) as cluster:
        cluster.wait_ready()
        report = asyncio.run(run(config, SEED, RealClock()))
    hit = {fault.component for fault in plan_faults(SEED, COMPONENTS, count=FAULTS, gap_seconds=1)}
    assert hit == set(COMPONENTS)
    assert report.passed, f"seed {SEED}: {report}"
    assert report.acknowledged > 100

"""Plugins of users: installed as entry points, enabled by a configuration file, explained like the others."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.scheduler.configuration import load
from kubecosm.services.scheduler.framework import registry
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.framework.status import Status
from kubecosm.services.scheduler.state.podinfo import compile_pod
from kubecosm.services.scheduler.waiting import WaitingPod
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from tests.conftest import ClusterUnderTest, CommandLine, find_kubectl, wait_for

from .helpers import Cluster, node, pod
from .test_on_a_cluster import Kube, k
from .test_on_a_cluster import pod as real_pod

__all__ = ["k"]

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "scheduler.md"
CONFIGURATION = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: {name}
  plugins:
    multiPoint:
      enabled: [{{name: FewestPods, weight: 50}}, {{name: NotOnMondays}}]
  pluginConfig:
  - name: NotOnMondays
    args: {{refused: [{refused}]}}
"""
REFUSER = '''
import numpy as np
from kubecosm.services.scheduler.framework.interface import Verdict
from kubecosm.services.scheduler.framework.status import unresolvable


class NotOnMondays:
    name = "NotOnMondays"

    def __init__(self, handle, args):
        if not isinstance(args.get("refused", []), list):
            raise ValueError("refused must be a list of node names")
        self.nodes = handle.cluster.nodes
        self.refused = args.get("refused", [])

    def filter(self, state, pod, rows):
        ok = np.array([name not in self.refused for name in self.nodes.names])
        return Verdict(ok[rows], [unresolvable("node(s) rest on Mondays")])
'''


def documented_plugin() -> str:
    """The example of the documentation, as a module."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    return next(block for block in blocks if "class FewestPods" in block)


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    """A folder with an installed distribution, as pip leaves it: modules and their entry points."""
    site = tmp_path / "site"
    metadata = site / "my_plugins-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugins\nVersion: 1.0\n")
    points = "[kubecosm.scheduler.plugins]\nFewestPods = my_fewest:FewestPods\nNotOnMondays = my_refuser:NotOnMondays\n"
    (metadata / "entry_points.txt").write_text(points)
    (site / "my_fewest.py").write_text(documented_plugin())
    (site / "my_refuser.py").write_text(REFUSER)
    yield site
    for module in ("my_fewest", "my_refuser"):
        sys.modules.pop(module, None)


def configuration(folder: Path, name: str, refused: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(CONFIGURATION.format(name=name, refused=refused))
    return path


def test_an_installed_plugin_takes_part_in_a_profile(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    settings = load(str(configuration(tmp_path, "default-scheduler", "c")), 100)
    cluster = Cluster(node("a", cpu="64"), node("b", cpu="2"), node("c"), profiles=settings.profiles)
    cluster.add(*(pod(f"there-{i}", node_name="a") for i in range(3)))
    assert cluster.schedule(pod("p", cpu="1")) == ["b"]
    decision = cluster.scheduler.decisions.get("default/p")
    assert decision is not None
    nodes = {told["node"]: told for told in decision.explain()["nodes"]}
    assert (nodes["b"]["scores"]["FewestPods"], nodes["a"]["scores"]["FewestPods"]) == (5000, 0)
    assert (nodes["c"]["plugin"], nodes["c"]["reasons"]) == ("NotOnMondays", ["node(s) rest on Mondays"])


def test_a_plugin_that_dislikes_its_arguments_says_so_at_start(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    path = configuration(tmp_path, "mine", "c")
    path.write_text(path.read_text().replace("[c]", "nobody"))
    settings = load(str(path), 100)
    with pytest.raises(StartupError, match="profile mine: plugin NotOnMondays cannot be used as configured: refused must be a list"):
        Cluster(profiles=settings.profiles)


@pytest.mark.process
def test_a_second_scheduler_with_a_plugin_of_ours_serves_its_own_pods(
    k: Kube, cluster: ClusterUnderTest, installed: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "kubecosm.services.scheduler", f"--kubeconfig={cluster.kubeconfig}",
        f"--config={configuration(tmp_path, 'mine', 'node-0, node-1')}",
    ]  # fmt: skip
    environ = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as second:
        try:
            k.apply(*(real_pod(f"mine-{i}", schedulerName="mine") for i in range(3)), real_pod("theirs"))
            placed = k.wait_scheduled("mine-0", "mine-1", "mine-2", "theirs")
            assert placed[:3] == ["node-2"] * 3
        finally:
            second.terminate()
        assert second.wait(10) == 0


@pytest.mark.process
def test_a_cluster_comes_up_with_a_scheduler_of_your_own_configuration(kubecosm: CommandLine, installed: Path, tmp_path: Path) -> None:
    kubecosm.environ["PYTHONPATH"] = f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    path = configuration(tmp_path, "default-scheduler", "node-0")
    kubecosm("up", "--nodes", "2", "--detach", "--set", f"scheduler.config={path}")
    administrator = [find_kubectl(), f"--kubeconfig={kubecosm('kubeconfig', '--path').stdout.strip()}"]

    def kubectl(*arguments: str, stdin: str = "") -> str:
        return subprocess.run([*administrator, *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=30).stdout

    kubectl("apply", "-f", "-", stdin=json.dumps(real_pod("web")))
    wait_for(lambda: kubectl("get", "pod", "web", "-o", "jsonpath={.spec.nodeName}") == "node-1", "the pod goes to node-1")
    told = json.loads(kubecosm("explain-scheduling", "web", "-o", "json").stdout)
    assert {"node": "node-0", "plugin": "NotOnMondays", "reasons": ["node(s) rest on Mondays"]}.items() <= told["nodes"][1].items()
    kubecosm("down")


@pytest.mark.process
def test_a_configuration_that_will_not_do_stops_the_start_with_the_reason(kubecosm: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(CONFIGURATION.format(name="x", refused="y").replace("weight: 50", "weight: heavy"))
    failed = kubecosm("up", "--nodes", "1", "--detach", "--timeout", "20", "--set", f"scheduler.config={path}", code=1)
    assert "cannot unmarshal string into Go struct field KubeSchedulerConfiguration.profiles[0]" in failed.stdout + failed.stderr


def test_the_configuration_of_the_page_is_valid(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    [text] = re.findall(r"```yaml\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    path = tmp_path / "page.yaml"
    path.write_text(text)
    [profile] = load(str(path), 100).profiles
    assert profile.plugins["FewestPods"] == 5
    assert Cluster(node("a"), profiles=(profile,)).schedule(pod("p")) == ["a"]


def test_a_permit_plugin_of_the_page_binds_a_group_together(monkeypatch: pytest.MonkeyPatch) -> None:
    [source] = [block for block in re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL) if "class AllOrNone" in block]
    names: dict[str, Any] = {}
    exec(source, names)
    monkeypatch.setattr(registry, "IN_TREE", {**registry.IN_TREE, "AllOrNone": names["AllOrNone"]})
    profile = ProfileConfig(plugins={**DEFAULT_PLUGINS, "AllOrNone": 1}, args={"AllOrNone": {"size": 3}})

    async def scenario() -> list[set[str]]:
        cluster = Cluster(node("a"), profiles=(profile,), clock=VirtualClock())
        bound = []
        async with asyncio.TaskGroup() as tasks:
            for index, group in enumerate(("x", "x", "", "x")):
                await cluster.scheduler.binding.slots.acquire()
                cluster.add(pod(f"p{index}", labels={"group": group} if group else {}))
                binding = cluster.begin_binding()
                tasks.create_task(binding)
                await asyncio.sleep(1)
                bound.append(set(cluster.api.bound))
        return bound

    alone = {"default/p2"}
    assert run_virtual(scenario()) == [set(), set(), alone, {"default/p0", "default/p1", "default/p2", "default/p3"}]


def test_each_plugin_that_holds_a_pod_has_its_own_time() -> None:
    async def scenario() -> tuple[Status | None, float]:
        clock = VirtualClock()
        held = WaitingPod(compile_pod(pod("p")), {"Quick": 5.0, "Slow": 60.0})
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(held.wait_decided(clock))
            await asyncio.sleep(2)
            held.allow("Quick")
        return waiting.result(), clock.monotonic()

    rejection, seconds = run_virtual(scenario())
    assert rejection is not None
    assert rejection.reasons == ("rejected due to timeout after waiting 1m0s at plugin Slow",)
    assert 60 <= seconds < 61

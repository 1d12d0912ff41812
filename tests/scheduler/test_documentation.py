"""docs/scheduler.md says what is so, and plugins of users are found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.scheduler.framework import registry
from kubecosm.services.scheduler.framework.defaults import ProfileConfig

from .helpers import Cluster, node, pod

PAGE = Path(__file__).parents[2] / "docs" / "scheduler.md"


class EntryPoint:
    """One object that an installed package offers."""

    def __init__(self, name: str, plugin: type) -> None:
        self.name, self._plugin = name, plugin

    def load(self) -> type:
        return self._plugin


@pytest.fixture
def documented_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin of the page, as if a package offered it."""
    match = re.search(r"```python\n(class FewestPods.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    namespace: dict[str, Any] = {}
    exec(match[1], namespace)

    def installed(group: str, name: str) -> list[EntryPoint]:
        assert group == "kubecosm.scheduler.plugins"
        return [EntryPoint(name, namespace[name])] if name in namespace else []

    monkeypatch.setattr(registry, "entry_points", installed)


@pytest.mark.usefixtures("documented_plugin")
def test_the_plugin_of_the_page_is_found_and_scores() -> None:
    cluster = Cluster(node("a"), node("b"), profiles=(ProfileConfig(points={"score": {"FewestPods": 1}}),))
    cluster.add(pod("x", node_name="a"))
    assert cluster.schedule(pod("p")) == ["b"]
    decision = cluster.scheduler.decisions.get("default/p")
    assert decision is not None
    assert [node["scores"] for node in decision.explain()["nodes"]] == [{"FewestPods": 100}, {"FewestPods": 0}]

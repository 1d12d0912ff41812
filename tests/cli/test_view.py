"""What `kubecosm up` says in the end can be copied into a shell, and warns of what an ordinary user would stumble over first."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kubecosm.cli import view
from kubecosm.cluster.paths import ClusterPaths
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec


def said(capsys: pytest.CaptureFixture[str], spec: ClusterSpec, root: str = "/home/me") -> list[str]:
    view.PlainView().ready(spec, ClusterPaths(Path(root)), 0.5, detached=True)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("allowed", "components", "told"),
    [
        pytest.param(True, ("apiserver", "proxy"), False, id="allowed"),
        pytest.param(False, ("apiserver", "proxy"), True, id="refused"),
        pytest.param(False, ("apiserver",), False, id="no-services"),
    ],
)
def test_who_may_not_listen_on_low_ports_learns_where_they_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, allowed: bool, components: tuple[str, ...], told: bool
) -> None:
    monkeypatch.setattr(view, "may_use_low_ports", lambda: allowed)
    lines = said(capsys, ClusterSpec("default", 6443, Slots(0, 1), components=components))
    assert any("80 at 10080" in line for line in lines) == told


def test_the_way_to_the_kubeconfig_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in said(capsys, ClusterSpec("default", 6443, Slots(0, 1)), "/home/me and you") if line.startswith("Use it:")]
    assert shlex.split(line)[2:] == ["export", "KUBECONFIG=/home/me and you/kubeconfig"]

"""KubeSchedulerConfiguration files, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.scheduler.algorithm import nodes_to_find
from kubecosm.services.scheduler.configuration import from_document, load
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, POINTS, ProfileConfig
from kubecosm.services.scheduler.framework.interface import EXTENSION_POINTS

from .helpers import Cluster, node, pod

HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def profile(**fields: Any) -> ProfileConfig:
    return from_document({**HEAD, "profiles": [fields]}, 100).profiles[0]


def test_without_a_file_there_is_the_default_profile() -> None:
    [only] = load("", 100).profiles
    assert only.scheduler_name == "default-scheduler"
    assert only.plugins == DEFAULT_PLUGINS


def test_disabling_at_one_point_leaves_the_others() -> None:
    chosen = profile(plugins={"score": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "NodeAffinity", "weight": 7}]}})
    assert "ImageLocality" not in chosen.points["score"]
    assert chosen.points["score"]["NodeAffinity"] == 7
    assert chosen.plugins == DEFAULT_PLUGINS


def test_a_star_disables_all_that_is_not_enabled() -> None:
    chosen = profile(plugins={"preScore": {"disabled": [{"name": "*"}]}, "score": {"disabled": [{"name": "*"}]}})
    cluster = Cluster(node("a", cpu="1"), node("b", cpu="64"), profiles=(chosen,), seed=3)
    placed = cluster.schedule(*(pod(f"p{i}") for i in range(12)))
    assert set(placed) == {"a", "b"}


def test_filters_can_be_switched_off() -> None:
    chosen = profile(plugins={"multiPoint": {"disabled": [{"name": "TaintToleration"}]}})
    cluster = Cluster(node("a", taints=[{"key": "k", "effect": "NoSchedule"}]), profiles=(chosen,))
    assert cluster.schedule(pod("p")) == ["a"]


def test_arguments_reach_their_plugin() -> None:
    chosen = profile(schedulerName="x", pluginConfig=[{"name": "NodeResourcesFit", "args": {"ignoredResources": ["a/b"]}}])
    assert (chosen.scheduler_name, chosen.args) == ("x", {"NodeResourcesFit": {"ignoredResources": ["a/b"]}})


def test_default_constraints_can_be_listed() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    args = {"defaultConstraints": [constraint], "defaultingType": "List"}
    chosen = profile(pluginConfig=[{"name": "PodTopologySpread", "args": args}])
    cluster = Cluster(node("a"), node("b", unschedulable=True), profiles=(chosen,))
    service = {"metadata": {"namespace": "default", "name": "s"}, "spec": {"selector": {"app": "x"}}}
    cluster.scheduler.handle.workloads.set_service(service)
    assert cluster.schedule(pod("p", labels={"app": "x"}), pod("q", labels={"app": "x"})) == ["a", ""]
    assert "1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable." in cluster.message("default/q")


@pytest.mark.parametrize("point", ["queueSort", "bind"])
def test_no_profile_can_do_without_order_or_binding(point: str) -> None:
    with pytest.raises(StartupError, match=f"{point} plugin is needed"):
        Cluster(profiles=(profile(plugins={point: {"disabled": [{"name": "*"}]}}),))


def test_extension_points_have_the_names_of_the_configuration_file() -> None:
    assert tuple(EXTENSION_POINTS) == POINTS


def test_back_offs_are_read() -> None:
    settings = from_document({**HEAD, "podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 60}, 100)
    assert (settings.pod_initial_backoff_seconds, settings.pod_max_backoff_seconds) == (2, 60)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "expected a document with apiVersion: kubescheduler.config.k8s.io/v1"),
        ({**HEAD, "profiles": [{"plugins": {"sort": {}}}]}, "'sort' is no extension point"),
        ({**HEAD, "profiles": [{}, {}]}, "schedulerName 'default-scheduler' appears twice"),
        ({**HEAD, "podMaxBackoffSeconds": 0.5}, "podMaxBackoffSeconds must not be smaller"),
    ],
    ids=["kind", "point", "twice", "backoff"],
)
def test_bad_configurations_are_refused_with_the_reason(document: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_document(document, 100)


def test_unknown_plugins_are_named() -> None:
    with pytest.raises(StartupError, match="no scheduler plugin is called 'Magic'"):
        Cluster(profiles=(profile(plugins={"filter": {"enabled": [{"name": "Magic"}]}}),))


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"scoringStrategy": {"type": "Magic"}}, "scoring strategy Magic is not supported"),
        ({"scoringStrategy": {"resources": [{}]}}, "KeyError 'name'"),
    ],
    ids=["strategy", "resource"],
)
def test_arguments_that_a_plugin_refuses_are_told(args: Any, why: str) -> None:
    chosen = profile(pluginConfig=[{"name": "NodeResourcesFit", "args": args}])
    with pytest.raises(StartupError, match=f"profile default-scheduler: plugin NodeResourcesFit cannot be used as configured: {why}"):
        Cluster(profiles=(chosen,))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file"), ("a: [", "is not YAML"), ("- 1", "is not valid"),
        ("{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, profiles: 3}", "wrong type"),
    ],
    ids=["missing", "not yaml", "a list", "wrong type"],
)  # fmt: skip
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "scheduler.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StartupError, match=why) as raised:
        load(str(path), 100)
    assert str(path) in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("percentage", "nodes", "expected"), [(100, 5000, 5000), (0, 50, 50), (0, 1000, 420), (0, 5000, 500), (10, 500, 100)]
)
def test_how_many_nodes_are_enough(percentage: int, nodes: int, expected: int) -> None:
    assert nodes_to_find(percentage, nodes) == expected


def test_sampling_goes_round_all_nodes() -> None:
    chosen = from_document({**HEAD, "percentageOfNodesToScore": 5}, 100).profiles[0]
    cluster = Cluster(*(node(f"n{i:03}", cpu="4") for i in range(300)), profiles=(chosen,))
    placed = cluster.schedule(*(pod(f"p{i}", cpu="3") for i in range(300)))
    assert sorted(placed) == [f"n{i:03}" for i in range(300)]

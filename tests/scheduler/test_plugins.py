"""Each plugin's verdicts and scores, case by case."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.framework.interface import CycleState
from kubecosm.services.scheduler.framework.status import Code, Status
from kubecosm.services.scheduler.plugins.helpers import distinct
from kubecosm.services.scheduler.plugins.imagelocality import normalized_name
from kubecosm.services.scheduler.plugins.noderesources import ratio_scorer
from kubecosm.services.scheduler.state.columns import ALL
from kubecosm.services.scheduler.state.podinfo import compile_pod
from kubecosm.services.scheduler.watched import slim

from .helpers import GIB, Cluster, node, pod

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
ZONE = "topology.kubernetes.io/zone"


def refusals(cluster: Cluster, wanted: Object, plugin: str) -> dict[str, tuple[str, ...]]:
    """Node → reasons of one Filter plugin alone; nodes that pass are left out."""
    profile = cluster.scheduler.profiles["default-scheduler"]
    info, state = compile_pod(wanted), CycleState()
    instance: Any = profile.plugins[plugin]
    names = cluster.scheduler.cluster.nodes.names
    if hasattr(instance, "pre_filter"):
        answer = instance.pre_filter(state, info)
        if isinstance(answer, Status):
            return {} if answer.code is Code.SKIP else dict.fromkeys(names, answer.reasons)
    verdict = instance.filter(state, info, ALL) if hasattr(instance, "filter") else None
    if verdict is None:
        return {}
    codes = np.zeros(len(names), int) if verdict.codes is None else verdict.codes
    return {name: verdict.statuses[codes[row]].reasons for row, name in enumerate(names) if not verdict.ok[row]}


def scores(cluster: Cluster, wanted: Object, plugin: str) -> list[int] | None:
    """Normalised scores of one plugin per node, None if it skips."""
    profile = cluster.scheduler.profiles["default-scheduler"]
    info, state = compile_pod(wanted), CycleState()
    instance: Any = profile.plugins[plugin]
    if hasattr(instance, "pre_score") and instance.pre_score(state, info, ALL) is not None:
        return None
    raw = instance.score(state, info, ALL)
    if isinstance(raw, int):
        return [raw] * cluster.scheduler.cluster.nodes.size
    if hasattr(instance, "normalize_score"):
        raw = instance.normalize_score(state, info, raw)
    return [int(score) for score in raw]


# ---- NodeName, NodeUnschedulable, TaintToleration


def test_pods_that_need_a_feature_of_the_kubelet_go_where_it_is_declared() -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]
    containers = [{"name": "c", "image": "pause", "restartPolicy": "Never", "restartPolicyRules": rules}]
    wanting = pod("p", containers=containers)
    old, new = node("old"), node("new")
    cluster = Cluster(old)
    assert cluster.schedule(wanting) == [""]
    assert cluster.message("default/p").startswith(
        "0/1 nodes are available: 1 node declared features check failed - unsatisfied requirements: RestartAllContainersOnContainerExits."
    )
    cluster.handlers.node_updated(old, {**old, "status": {**old["status"], "declaredFeatures": ["SomethingElse"]}})
    assert not len(cluster.scheduler.queue.active)
    new["status"]["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
    cluster.handlers.node_added(new)
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == "new"
    assert cluster.schedule(pod("any")) != [""]


def test_a_pod_that_names_a_node_fits_there_only() -> None:
    cluster = Cluster(node("a"), node("b"))
    assert refusals(cluster, pod("p", node_name="b"), "NodeName") == {"a": ("node(s) didn't match the requested node name",)}


def test_a_cordoned_node_takes_only_who_tolerates_it() -> None:
    cluster = Cluster(node("a", unschedulable=True), node("b"))
    assert refusals(cluster, pod("p"), "NodeUnschedulable") == {"a": ("node(s) were unschedulable",)}
    tolerant = pod("p", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
    assert refusals(cluster, tolerant, "NodeUnschedulable") == {}


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Equal", "value": "other"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
    ids=["equal", "default operator", "exists", "everything", "other value", "other effect", "other key"],
)
def test_taints_keep_away_who_does_not_tolerate_them(toleration: Object, fits: bool) -> None:
    cluster = Cluster(node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]))
    assert (refusals(cluster, pod("p", tolerations=[toleration]), "TaintToleration") == {}) is fits


def test_prefer_no_schedule_refuses_nobody_but_scores_lower() -> None:
    soft = {"key": "k", "value": "v", "effect": "PreferNoSchedule"}
    cluster = Cluster(node("a", taints=[soft, {**soft, "key": "l"}]), node("b", taints=[soft]), node("c"))
    assert refusals(cluster, pod("p"), "TaintToleration") == {}
    assert scores(cluster, pod("p"), "TaintToleration") == [0, 50, 100]
    tolerant = pod("p", tolerations=[{"key": "k", "operator": "Exists"}])
    assert scores(cluster, tolerant, "TaintToleration") == [0, 100, 100]


def test_taint_verdicts_follow_the_node() -> None:
    cluster = Cluster(node("a"))
    assert refusals(cluster, pod("p"), "TaintToleration") == {}
    tainted = node("a", taints=[{"key": "k", "effect": "NoExecute"}])
    cluster.handlers.node_updated(node("a"), tainted)
    assert refusals(cluster, pod("p"), "TaintToleration") == {"a": ("node(s) had untolerated taint(s)",)}
    cluster.handlers.node_updated(tainted, node("a"))
    assert refusals(cluster, pod("p"), "TaintToleration") == {}


# ---- NodeAffinity


def node_affinity(*expressions: Object, fields: tuple[Object, ...] = ()) -> Object:
    term: Object = {"matchExpressions": list(expressions)} if expressions else {}
    if fields:
        term["matchFields"] = list(fields)
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}


@pytest.mark.parametrize(
    ("expression", "fitting"),
    [
        ({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}, {"a"}),
        ({"key": "disk", "operator": "NotIn", "values": ["ssd"]}, {"b", "c"}),
        ({"key": "disk", "operator": "Exists"}, {"a", "b"}),
        ({"key": "disk", "operator": "DoesNotExist"}, {"c"}),
        ({"key": "cores", "operator": "Gt", "values": ["8"]}, {"b"}),
        ({"key": "cores", "operator": "Lt", "values": ["9"]}, {"a"}),
        ({"key": "cores", "operator": "Gt", "values": ["many"]}, set()),
    ],
    ids=["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "not a number"],
)
def test_node_affinity_operators(expression: Object, fitting: set[str]) -> None:
    cluster = Cluster(
        node("a", labels={"disk": "ssd", "cores": "8"}), node("b", labels={"disk": "hdd", "cores": "16"}), node("c", labels={"cores": "x"})
    )
    refused = refusals(cluster, pod("p", affinity=node_affinity(expression)), "NodeAffinity")
    assert {"a", "b", "c"} - refused.keys() == fitting
    assert set(refused.values()) <= {("node(s) didn't match Pod's node affinity/selector",)}


def test_node_selector_and_affinity_must_both_hold() -> None:
    cluster = Cluster(node("a", labels={"x": "1"}), node("b", labels={"x": "1", "y": "1"}))
    wanted = pod("p", nodeSelector={"x": "1"}, affinity=node_affinity({"key": "y", "operator": "Exists"}))
    assert list(refusals(cluster, wanted, "NodeAffinity")) == ["a"]


def test_an_empty_term_matches_nothing() -> None:
    cluster = Cluster(node("a"))
    assert list(refusals(cluster, pod("p", affinity=node_affinity()), "NodeAffinity")) == ["a"]


def test_names_that_cannot_both_be_true_conflict() -> None:
    fields = tuple({"key": "metadata.name", "operator": "In", "values": [name]} for name in ("a", "b"))
    cluster = Cluster(node("a"), node("b"))
    refused = refusals(cluster, pod("p", affinity=node_affinity(fields=fields)), "NodeAffinity")
    assert refused == dict.fromkeys(("a", "b"), ("pod affinity terms conflict",))


def test_preferred_node_affinity_adds_up_and_is_scaled() -> None:
    def preference(weight: int, key: str) -> Object:
        return {"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "Exists"}]}}

    cluster = Cluster(node("a", labels={"x": ""}), node("b", labels={"x": "", "y": ""}), node("c"))
    wanted = pod("p", affinity={"nodeAffinity": {PREFERRED: [preference(30, "x"), preference(10, "y")]}})
    assert scores(cluster, wanted, "NodeAffinity") == [75, 100, 0]
    assert scores(cluster, pod("p"), "NodeAffinity") is None


def test_affinity_added_by_the_configuration_is_enforced() -> None:
    added = {"addedAffinity": node_affinity({"key": "pool", "operator": "In", "values": ["x"]})["nodeAffinity"]}
    profile = ProfileConfig(args={"NodeAffinity": added})
    cluster = Cluster(node("a", labels={"pool": "x"}), node("b"), profiles=(profile,))
    cluster.schedule(pod("p", nodeSelector={"no": "where"}))
    assert cluster.message("default/p").startswith(
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) didn't match scheduler-enforced node affinity."
    )


# ---- NodePorts


@pytest.mark.parametrize(
    ("used", "wanted", "conflicts"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, True),
        ({"hostPort": 80}, {"hostPort": 81}, False),
        ({"hostPort": 80, "protocol": "UDP"}, {"hostPort": 80}, False),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80}, True),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "127.0.0.2"}, False),
        ({"hostPort": 80}, {"hostPort": 80, "hostIP": "127.0.0.2"}, True),
    ],
    ids=["same", "other port", "other protocol", "any over one", "two addresses", "one over any"],
)
def test_host_ports(used: Object, wanted: Object, conflicts: bool) -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.add(pod("used", ports=[used], node_name="a"))
    expected = {"a": ("node(s) didn't have free ports for the requested pod ports",)} if conflicts else {}
    assert refusals(cluster, pod("p", ports=[wanted]), "NodePorts") == expected
    cluster.handlers.pod_deleted(pod("used", ports=[used], node_name="a"))
    assert refusals(cluster, pod("p", ports=[wanted]), "NodePorts") == {}


# ---- NodeResourcesFit


def test_what_pods_request_is_taken_from_the_node() -> None:
    cluster = Cluster(node("a", cpu="2", memory="4Gi"))
    cluster.add(pod("x", cpu="1500m", memory="1Gi", node_name="a"))
    assert refusals(cluster, pod("p", cpu="500m", memory="3Gi"), "NodeResourcesFit") == {}
    assert refusals(cluster, pod("p", cpu="501m"), "NodeResourcesFit") == {"a": ("Insufficient cpu",)}
    assert refusals(cluster, pod("p", memory="3073Mi"), "NodeResourcesFit") == {"a": ("Insufficient memory",)}


def test_a_request_larger_than_the_node_cannot_be_helped() -> None:
    cluster = Cluster(node("a", cpu="2"), node("b", cpu="8"))
    cluster.add(pod("x", cpu="8", node_name="b"))
    profile = cluster.scheduler.profiles["default-scheduler"]
    info = compile_pod(pod("p", cpu="4"))
    assert [status.code for row in (0, 1) if (status := profile.fits(info, row))] == [
        Code.UNSCHEDULABLE_AND_UNRESOLVABLE, Code.UNSCHEDULABLE,
    ]  # fmt: skip


def test_ignored_resources_are_not_checked() -> None:
    profile = ProfileConfig(args={"NodeResourcesFit": {"ignoredResourceGroups": ["example.com"]}})
    cluster = Cluster(node("a"), profiles=(profile,))
    assert cluster.schedule(pod("p", requests={"example.com/gpu": "1"})) == ["a"]


def test_least_allocated_prefers_the_emptier_node() -> None:
    cluster = Cluster(node("a", cpu="4", memory="8Gi"), node("b", cpu="4", memory="8Gi"))
    cluster.add(pod("x", cpu="3", memory="4Gi", node_name="a"))
    # a: cpu 0 %, memory (8-4-2)/8 = 25 %; b: cpu 75 %, memory 75 %
    assert scores(cluster, pod("p", cpu="1", memory="2Gi"), "NodeResourcesFit") == [12, 75]


def test_a_pod_without_requests_counts_a_little_in_scores() -> None:
    cluster = Cluster(node("a", cpu="1", memory=str(GIB)))
    # 100m of 1 cpu, 200 MiB of 1 GiB: (90 + 80) / 2
    assert scores(cluster, pod("p"), "NodeResourcesFit") == [85]


@pytest.mark.parametrize(("strategy", "expected"), [("MostAllocated", [87, 25]), ("RequestedToCapacityRatio", [88, 25])])
def test_packing_strategies_prefer_the_fuller_node(strategy: str, expected: list[int]) -> None:
    scoring: Object = {"type": strategy, "resources": [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]}
    if strategy == "RequestedToCapacityRatio":
        scoring["requestedToCapacityRatio"] = {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}
    profile = ProfileConfig(args={"NodeResourcesFit": {"scoringStrategy": scoring}})
    cluster = Cluster(node("a", cpu="4", memory="8Gi"), node("b", cpu="4", memory="8Gi"), profiles=(profile,))
    cluster.add(pod("x", cpu="3", memory="4Gi", node_name="a"))
    assert scores(cluster, pod("p", cpu="1", memory="2Gi"), "NodeResourcesFit") == expected


def test_a_broken_line_is_followed_point_by_point() -> None:
    scorer = ratio_scorer([(20, 0), (60, 10), (80, 4)])
    used = np.array([10.0, 20.0, 40.0, 60.0, 70.0, 80.0, 100.0, 120.0])
    assert scorer(used, np.full(8, 100.0)).tolist() == [0, 0, 50, 100, 70, 40, 40, 40]


def test_balanced_allocation_scores_the_change() -> None:
    cluster = Cluster(node("a", cpu="4", memory=str(4 * GIB)), node("b", cpu="4", memory=str(4 * GIB)))
    cluster.add(pod("x", cpu="2", memory="0", node_name="a"))
    # a goes from an imbalance of 50 % (score 75) to none (100), b from none to 50 %
    assert scores(cluster, pod("p", memory="2Gi"), "NodeResourcesBalancedAllocation") == [87, 62]
    assert scores(cluster, pod("p", cpu="1", memory="1Gi"), "NodeResourcesBalancedAllocation") == [75, 75]
    assert scores(cluster, pod("p"), "NodeResourcesBalancedAllocation") is None


# ---- ImageLocality


def test_nodes_that_hold_the_image_score_by_its_size() -> None:
    image = {"names": ["registry/web:1"], "sizeBytes": 500 * 1024 * 1024}
    cluster = Cluster(node("a", images=[image]), node("b"))
    # 250 MiB (500 on half of the nodes) between the thresholds of 23 and 1000 MiB
    assert scores(cluster, pod("p", image="registry/web:1"), "ImageLocality") == [23, 0]
    volume = {"name": "model", "image": {"reference": "registry/web:1"}}
    assert scores(cluster, pod("p", volumes=[volume]), "ImageLocality") == [11, 0], "image volumes count, among two images"
    cluster.handlers.node_updated(node("a", images=[image]), node("a"))
    assert scores(cluster, pod("p", image="registry/web:1"), "ImageLocality") == [0, 0]


def test_the_default_tag_is_latest() -> None:
    assert normalized_name("web") == "web:latest"
    assert normalized_name("host:5000/web") == "host:5000/web:latest"
    assert normalized_name("host:5000/web:1") == "host:5000/web:1"


# ---- registry


def test_default_plugins_have_their_real_names_and_weights() -> None:
    assert {name: weight for name, weight in DEFAULT_PLUGINS.items() if weight} == {
        "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "PodTopologySpread": 2, "InterPodAffinity": 2,
        "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1, "DynamicResources": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("infeasible", "cpu"), [(False, 4000), (True, 3000)], ids=["wished for", "refused"])
def test_a_resize_of_a_whole_pod_counts_as_the_largest_of_wish_promise_and_fact(infeasible: bool, cpu: int) -> None:
    resize = {"type": "PodResizePending", "status": "True", "reason": "Infeasible" if infeasible else "Deferred"}
    status = {"allocatedResources": {"cpu": "3"}, "resources": {"requests": {"cpu": "2"}}, "conditions": [resize]}
    placed = slim(pod("p", cpu="1", node_name="a", resources={"requests": {"cpu": "4"}}, status=status))
    cluster = Cluster(node("a", cpu="8"))
    cluster.add(placed)
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == [cpu]
    settled = {**placed, "status": {"phase": "Running", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}}}
    settled["spec"] = {**placed["spec"], "resources": {"requests": {"cpu": "1"}}}
    cluster.handlers.pod_updated(placed, settled)
    assert cluster.scheduler.cluster.nodes.requested("cpu").tolist() == [1000]


def test_an_infeasible_resize_counts_what_the_pod_has() -> None:
    resize = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
    statuses = [{"name": "c", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}}]
    wishing = pod("p", cpu="64", node_name="a", status={"containerStatuses": statuses})
    refused = pod("p", cpu="64", node_name="a", status={"containerStatuses": statuses, "conditions": [resize]})
    assert [compile_pod(one).requests["cpu"] for one in (wishing, refused)] == [64_000, 1000]


@pytest.mark.parametrize("values", [[], [0], [3, 1, 3, 0, 7], [1 << 40, 5, 1 << 40, 0]])
def test_distinct_values_and_their_places(values: list[int]) -> None:
    found, places = distinct(np.array(values, np.int64))
    assert found == sorted(set(values))
    assert [found[place] for place in places.tolist()] == values


@pytest.mark.process
def test_deciding_loads_no_more_of_numpy_than_it_needs() -> None:
    program = (
        "import sys; from tests.scheduler.helpers import Cluster, node, pod\n"
        "cluster = Cluster(node('a', cpu='1'), node('b', taints=[{'key': 'k', 'effect': 'NoSchedule'}]))\n"
        "cluster.add(pod('low', cpu='1', node_name='a'))\n"
        "cluster.schedule(pod('large', cpu='8'), pod('high', cpu='1', priority=10), pod('p'))\n"
        "print(*(name for name in ('numpy.ma', 'numpy.random', 'numpy.fft', 'numpy.polynomial') if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_siblings_share_one_selector_until_services_change() -> None:
    workloads = Cluster(node("a")).scheduler.handle.workloads
    meta = {"namespace": "default", "name": "s"}
    workloads.set_service({"metadata": meta, "spec": {"selector": {"app": "x"}}})
    one, other = (compile_pod(pod(name, labels={"app": "x", "tier": "web"})) for name in "pq")
    first = workloads.selector_of(one)
    assert first is not None
    assert first is workloads.selector_of(other)
    workloads.set_service({"metadata": meta, "spec": {"selector": {"tier": "web"}}})
    changed = workloads.selector_of(one)
    assert str(changed) != str(first)
    workloads.remove_service({"metadata": meta})
    assert workloads.selector_of(one) is None

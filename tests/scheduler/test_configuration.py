"""KubeSchedulerConfiguration files, and what is said of bad ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.scheduler.algorithm import nodes_to_find
from kubecosm.services.scheduler.configuration import from_document, load
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, POINTS, ProfileConfig
from kubecosm.services.scheduler.framework.interface import EXTENSION_POINTS
from kubecosm.services.scheduler.state.nodeorder import NodeOrder

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


@pytest.mark.parametrize(("connection", "expected"), [
    ({}, (0.0, 100)), ({"qps": 50}, (50.0, 100)), ({"qps": 20, "burst": 30}, (20.0, 30)), ({"qps": -1}, (0.0, 100)),
])  # fmt: skip
def test_the_rate_of_requests_is_read(connection: Any, expected: tuple[float, int]) -> None:
    settings = from_document({**HEAD, "clientConnection": connection}, 0)
    assert (settings.requests_per_second, settings.requests_burst) == expected


def test_back_offs_are_read() -> None:
    settings = from_document({**HEAD, "podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 60}, 100)
    assert (settings.pod_initial_backoff_seconds, settings.pod_max_backoff_seconds) == (2, 60)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "Object 'Kind' is missing"),
        ({**HEAD, "kind": "Pod"}, 'no kind "Pod" is registered for version "kubescheduler.config.k8s.io/v1"'),
        ({**HEAD, "apiVersion": "kubescheduler.config.k8s.io/v1beta3"}, 'no kind "KubeSchedulerConfiguration" is registered for version '),
        ({**HEAD, "profiles": [{"plugins": {"sort": {}}}], "x": 1},
         'strict decoding error: unknown field "profiles[0].plugins.sort", unknown field "x"'),
        ({**HEAD, "parallelism": "many"},
         "json: cannot unmarshal string into Go struct field KubeSchedulerConfiguration.parallelism of type int32"),
        ({**HEAD, "podMaxBackoffSeconds": 0.5}, "json: cannot unmarshal number into Go struct field"),
        ({**HEAD, "leaderElection": {"leaseDuration": "soon"}}, 'time: invalid duration "soon"'),
        ({**HEAD, "parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ({**HEAD, "profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]},
         'profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"'),
        ({**HEAD, "profiles": [{"schedulerName": "a"}, {}]}, "profiles[1].schedulerName: Required value"),
        ({**HEAD, "profiles": [{"percentageOfNodesToScore": 101}]},
         "profiles[0].percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        ({**HEAD, "profiles": [{"schedulerName": "a"}, {"schedulerName": "b", "plugins": {"queueSort": {"disabled": [{"name": "*"}]}}}]},
         "profiles[1].plugins.queueSort: Invalid value"),
        ({**HEAD, "profiles": [{"plugins": {"queueSort": {"enabled": [{"name": "PrioritySort"}, {"name": "Mine"}]}}}]},
         "profiles[0].plugins.queueSort.Enabled: Invalid value: 2: only one queue sort plugin can be enabled"),
        ({**HEAD, "profiles": [{"plugins": {"filter": {"enabled": [{"name": "GCEPDLimits"}]}}}]},
         'profiles[0].plugins.filter.enabled[0]: Invalid value: "GCEPDLimits": was invalid in version "v1"'),
        ({**HEAD, "podInitialBackoffSeconds": 0}, "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
        ({**HEAD, "podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 2},
         "podMaxBackoffSeconds: Invalid value: 2: must be greater than or equal to PodInitialBackoffSeconds"),
        ({**HEAD, "leaderElection": {"leaderElect": True, "leaseDuration": "5s", "renewDeadline": "10s"}},
         'leaderElection.leaseDuration: Invalid value: "10s": LeaseDuration must be greater than RenewDeadline'),
        ({**HEAD, "leaderElection": {"resourceLock": "endpoints"}},
         'leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"'),
        ({**HEAD, "clientConnection": {"burst": -1}}, "clientConnection.burst: Invalid value: -1: must be non-negative"),
        ({**HEAD, "extenders": [{"urlPrefix": "http://x", "prioritizeVerb": "p"}]},
         "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"),
        ({**HEAD, "extenders": [{"bindVerb": "b"}, {"bindVerb": "b"}]},
         'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind'),
        ({**HEAD, "extenders": [{"managedResources": [{"name": "cpu"}]}]},
         'extenders[0].managedResources[0].name: Invalid value: "cpu": is an invalid extended resource name'),
    ],
)  # fmt: skip
def test_bad_configurations_are_refused_with_the_reason(document: Any, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        from_document(document, 100)


def added(*terms: Any) -> Any:
    """NodeAffinity's args that keep all pods to such nodes."""
    return {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}



@pytest.mark.parametrize(
    ("plugin", "args", "why"),
    [
        ("NodeResourcesFit", {"scoringStrategy": {"kind": 1}}, 'strict decoding error: unknown field "scoringStrategy.kind"'),
        ("DynamicResources", {"bindingTimeout": "500ms"}, 'args.bindingTimeout: Invalid value: "500ms": must be at least 1 second'),
        ("NodeResourcesFit", {"kind": "InterPodAffinityArgs"}, "args for plugin NodeResourcesFit were not of type NodeResourcesFitArgs"),
        ("NodeResourcesFit", {"ignoredResourceGroups": ["a/b"]},
         """args.ignoredResourceGroups[0]: Invalid value: "a/b": resource group name can't contain '/'"""),
        ("NodeResourcesFit", {"scoringStrategy": {"resources": [{"name": "cpu", "weight": 101}]}},
         "args.scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]"),
        ("NodeResourcesFit", {"scoringStrategy": {"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": [
            {"utilization": 50, "score": 1}, {"utilization": 50, "score": 11}]}}},
         "scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: 50: values must be sorted in increasing order, "),
        ("NodeResourcesFit", {"scoringStrategy": {"type": "Magic"}},
         'type: Unsupported value: "Magic": supported values: "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"'),
        ("NodeResourcesFit", {"scoringStrategy": {"type": "RequestedToCapacityRatio"}},
         "scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"),
        ("NodeResourcesFit", {"scoringStrategy": {"requestedToCapacityRatio": {}}},
         "scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio"),
        ("EBSLimits", {}, "pluginConfig[0]: Invalid value: \"EBSLimits\": was invalid in version \"v1\" (KubeSchedulerConfiguration is "),
        ("DefaultPreemption", {"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 0},
         "minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage]"),
        ("NodeResourcesBalancedAllocation", {"resources": [{"name": "cpu", "weight": 2}]},
         "args.resources[0].weight: Invalid value: 2: must be 1"),
        ("InterPodAffinity", {"hardPodAffinityWeight": 101}, "args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"),
        ("DefaultPreemption", {"minCandidateNodesAbsolute": -1},
         "args.minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)"),
        ("VolumeBinding", {"bindTimeoutSeconds": -1},
         "args.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"),
        ("PodTopologySpread", {"defaultConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]},
         'args.defaultingType: Invalid value: "System": when .defaultConstraints are not empty'),
        ("PodTopologySpread", {"defaultingType": "Mine"},
         'args.defaultingType: Unsupported value: "Mine": supported values: "List", "System"'),
        ("PodTopologySpread", {"defaultingType": "List", "defaultConstraints": [{"maxSkew": 0, "labelSelector": {}}]},
         "[profiles[0].pluginConfig[0].args.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf), "),
        ("NodeAffinity", {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
         "must have at least one node selector term"),
        ("NodeAffinity", added({"matchExpressions": [{"key": "zone", "operator": "Near", "values": ["a"]}]}),
         'nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: "Near": supported values: "DoesNotExist", "Exists", "Gt"'),
        ("NodeAffinity", added({"matchExpressions": [{"key": "zone", "operator": "In"}]}),
         "matchExpressions[0].values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
        ("NodeAffinity", added({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]}),
         'matchFields[0].operator: Unsupported value: "Exists": supported values: "In", "NotIn"'),
        ("NodeAffinity", added({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}),
         'matchFields[0].values: Invalid value: ["a","b"]: must have one element'),
        ("NodeAffinity", {"addedAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["many"]}]}}]}},
         'IgnoredDuringExecution[0].matchExpressions[0].values[0]: Invalid value: "many": for \'Gt\', \'Lt\' operators, the value'),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_as_kube_scheduler_does(plugin: str, args: Any, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        profile(pluginConfig=[{"name": plugin, "args": args}])


def test_a_full_configuration_is_understood() -> None:
    settings = from_document({
        **HEAD, "parallelism": 16, "percentageOfNodesToScore": 50, "enableProfiling": True, "delayCacheUntilActive": False,
        "clientConnection": {"kubeconfig": "/k", "qps": 50, "burst": 100, "contentType": "application/json"},
        "leaderElection": {"leaderElect": True, "leaseDuration": "30s", "renewDeadline": "20s", "resourceName": "mine"},
        "profiles": [{"schedulerName": "a", "percentageOfNodesToScore": 10}, {"schedulerName": "b"}],
        "extenders": [{
            "urlPrefix": "http://x/", "filterVerb": "f", "httpTimeout": "250ms", "ignorable": True,
            "managedResources": [{"name": "example.com/a", "ignoredByScheduler": True}, {"name": "example.com/b"}],
        }],
    }, 100)  # fmt: skip
    assert [(p.scheduler_name, p.percentage_of_nodes_to_score) for p in settings.profiles] == [("a", 10), ("b", 50)]
    assert settings.profiles[0].args["NodeResourcesFit"]["ignoredResources"] == ["example.com/a"]
    assert (settings.kubeconfig, settings.leader_election.leader_elect) == ("/k", True)
    assert (settings.leader_election.lease_duration_seconds, settings.leader_election.resource_name) == (30, "mine")
    [extender] = settings.extenders
    assert (extender.http_timeout_seconds, extender.managed_resources) == (0.25, ("example.com/a", "example.com/b"))


def test_plugins_come_in_kube_schedulers_order() -> None:
    chosen = profile(plugins={
        "multiPoint": {"enabled": [{"name": "ImageLocality", "weight": 9}, {"name": "Mine"}], "disabled": [{"name": "NodeAffinity"}]},
        "filter": {"enabled": [{"name": "Only"}, {"name": "NodePorts"}, {"name": "NodeName"}], "disabled": [{"name": "VolumeZone"}]},
    })  # fmt: skip
    everywhere = list(chosen.plugins)
    assert everywhere.index("ImageLocality") == [n for n in DEFAULT_PLUGINS if n != "NodeAffinity"].index("ImageLocality")
    assert (chosen.plugins["ImageLocality"], everywhere[-1], "NodeAffinity" in everywhere) == (9, "Mine", False)
    at_filter = list(chosen.points["filter"])
    assert at_filter[:3] == ["NodePorts", "NodeName", "SchedulingGates"]
    assert (at_filter[-1], "VolumeZone" in at_filter) == ("Only", False)


def test_a_plugin_must_extend_the_point_it_is_enabled_at() -> None:
    with pytest.raises(StartupError, match='plugin "NodeName" does not extend ScorePlugin plugin'):
        Cluster(profiles=(profile(plugins={"score": {"enabled": [{"name": "NodeName"}]}}),))


def test_unknown_plugins_are_named() -> None:
    with pytest.raises(StartupError, match="no scheduler plugin is called 'Magic'"):
        Cluster(profiles=(profile(plugins={"filter": {"enabled": [{"name": "Magic"}]}}),))


@pytest.mark.parametrize(("args", "why"), [({"scoringStrategy": {"resources": [{}]}}, "KeyError 'name'")], ids=["resource"])
def test_arguments_that_a_plugin_refuses_are_told(args: Any, why: str) -> None:
    chosen = profile(pluginConfig=[{"name": "NodeResourcesFit", "args": args}])
    with pytest.raises(StartupError, match=f"profile default-scheduler: plugin NodeResourcesFit cannot be used as configured: {why}"):
        Cluster(profiles=(chosen,))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file"), ("a: [", "is not YAML"), ("- 1", "is not valid"),
        ("{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, profiles: 3}",
         "cannot unmarshal number into Go struct field KubeSchedulerConfiguration.profiles"),
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


def test_a_share_of_the_nodes_has_nodes_of_every_zone() -> None:
    zones = [{"topology.kubernetes.io/zone": f"zone-{index // 100}"} for index in range(300)]
    cluster = Cluster(*(node(f"n{index:03}", labels=zones[index]) for index in range(300)))
    cluster.schedule(pod("p"), pod("q"))
    seen = []
    for key in ("default/p", "default/q"):
        decision = cluster.scheduler.decisions.get(key)
        assert decision is not None
        seen.append(decision.feasible.tolist())
        assert [sum(row // 100 == zone for row in seen[-1]) for zone in range(3)] == [48, 48, 48]
    assert not set(seen[0]) & set(seen[1]), "the next search begins where the last one ended"


def test_nodes_take_turns_zone_by_zone() -> None:
    def order_of(*labels: dict[str, str]) -> list[str] | None:
        nodes = Cluster(*(node(f"n{index}", labels=one) for index, one in enumerate(labels))).scheduler.cluster.nodes
        rows = NodeOrder(nodes).rows()
        return None if rows is None else [nodes.names[row] for row in rows.tolist()]

    new, old, region = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/region"
    assert order_of({new: "a"}, {new: "a"}, {new: "a"}, {new: "b"}, {old: "b"}, {new: "c"}) == ["n0", "n3", "n5", "n1", "n4", "n2"]
    assert order_of({new: "a"}, {new: "a"}) is None
    assert order_of({}, {}) is None
    assert order_of({new: "a", region: "x"}, {new: "a", region: "x"}, {new: "a", region: "y"}) == ["n0", "n2", "n1"]


def test_the_share_is_taken_of_the_nodes_that_the_pod_names() -> None:
    cluster = Cluster(*(node(f"n{index:03}") for index in range(300)))
    names = [f"n{index:03}" for index in range(250)]
    field = {"key": "metadata.name", "operator": "In", "values": names}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]}}
    cluster.schedule(pod("p", affinity={"nodeAffinity": required}), pod("q"))
    found = [cluster.scheduler.decisions.get(key) for key in ("default/p", "default/q")]
    assert [len(decision.feasible) for decision in found if decision is not None] == [250 * 48 // 100, 300 * 48 // 100]


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


def test_without_scores_the_first_nodes_that_fit_are_taken_in_turn() -> None:
    chosen = profile(plugins={"multiPoint": {"disabled": [{"name": name} for name, weight in DEFAULT_PLUGINS.items() if weight]}})
    cluster = Cluster(*(node(name) for name in "abc"), profiles=(chosen,))
    assert cluster.schedule(*(pod(f"p{index}") for index in range(5))) == ["a", "b", "c", "a", "b"]

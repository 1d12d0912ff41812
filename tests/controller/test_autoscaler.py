"""The cluster autoscaler: its decisions as pure functions, and a cluster that grows and shrinks."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from kubecosm.api.names import ANNOTATION_SAFE_TO_EVICT, ANNOTATION_SAFE_TO_EVICT_VOLUMES, ANNOTATION_SCALE_DOWN_DISABLED
from kubecosm.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, Object
from kubecosm.services.controller.cluster.autoscaler.backoff import BackoffLimits, GroupBackoff, late_nodes
from kubecosm.services.controller.cluster.autoscaler.balance import are_alike, spread
from kubecosm.services.controller.cluster.autoscaler.budgets import Budgets
from kubecosm.services.controller.cluster.autoscaler.drainability import DrainRules, Unremovable
from kubecosm.services.controller.cluster.autoscaler.expander import Chooser, PrioritiesError, plan_priorities
from kubecosm.services.controller.cluster.autoscaler.groups import GroupsError, NodeGroup, plan_groups
from kubecosm.services.controller.cluster.autoscaler.price import preferred_cpus
from kubecosm.services.controller.cluster.autoscaler.scale_down import Judgement, Rules, plan_unneeded
from kubecosm.services.controller.cluster.autoscaler.scale_up import Limits, Option, ScaleUp, plan_scale_up, told_reasons
from kubecosm.services.controller.cluster.autoscaler.simulation import ask_of, room_of
from kubecosm.services.controller.cluster.autoscaler.status import PARTS, plan_status, timed
from kubecosm.services.controller.cluster.autoscaler.volumes import volume_needs
from kubecosm.services.controller.cluster.autoscaler.world import World
from tests.conftest import CommandLine, wait_for


def a_group(name: str = "small", cpu: str = "4", memory: str = "8Gi", low: int = 0, high: int = 10, **spec: Any) -> NodeGroup:
    template = {"metadata": {"labels": {"pool": name}}, "spec": spec, "status": {"capacity": {"cpu": cpu, "memory": memory}}}
    return NodeGroup(name, low, high, template)


def a_pod(name: str = "p", cpu: str = "1", memory: str = "1Gi", owner: str = "ReplicaSet", **spec: Any) -> Object:
    owners = [{"kind": owner, "name": "o", "uid": "u", "controller": True}] if owner else []
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}, "ownerReferences": owners},
        "spec": {"containers": [container], **spec},
    }  # fmt: skip


NO_LIMITS, DRAIN = Limits(), DrainRules()


def planned(
    groups: list[NodeGroup], pods: list[Object], sizes: dict[str, int] | None = None, rooms: Any = (), *,
    chain: Sequence[str] = ("least-waste",), priorities: Any = None, limits: Limits = NO_LIMITS,
) -> ScaleUp:  # fmt: skip
    chosen = Chooser(chain, Random(1), priorities, len(rooms))
    return plan_scale_up(groups, sizes or {}, [ask_of(pod) for pod in pods], list(rooms), chosen, limits)


def increases(
    groups: list[NodeGroup], pods: list[Object], sizes: dict[str, int] | None = None, rooms: Any = (), **more: Any
) -> dict[str, int]:
    return {increase.group.name: increase.nodes for increase in planned(groups, pods, sizes, rooms, **more).increases}


def test_pods_are_packed_into_as_few_nodes_as_they_fit_in() -> None:
    assert increases([a_group()], [a_pod(f"p{i}") for i in range(10)]) == {"small": 3}


def test_the_group_that_wastes_least_is_chosen() -> None:
    groups = [a_group("huge", "64", "256Gi"), a_group("small"), a_group("tiny", "1", "1Gi")]
    assert increases(groups, [a_pod(cpu="3500m", memory="7Gi")]) == {"small": 1}
    assert increases(groups, [a_pod(cpu="1", memory="1Gi")]) == {"tiny": 1}
    assert increases(groups, [a_pod("a", "32", "100Gi"), a_pod("b", "30", "100Gi")]) == {"huge": 1}


def test_what_fits_on_nodes_that_exist_or_are_on_their_way_makes_no_new_ones() -> None:
    coming = room_of(a_group().node("small-abcde"))
    assert increases([a_group()], [a_pod(f"p{i}") for i in range(4)], {"small": 1}, [coming]) == {}
    coming = room_of(a_group().node("small-abcde"))
    assert increases([a_group()], [a_pod(f"p{i}") for i in range(5)], {"small": 1}, [coming]) == {"small": 1}


def test_groups_stay_within_their_sizes_and_refusals_name_the_reasons() -> None:
    groups = [a_group(high=2), a_group("gpu", taints=[{"key": "gpu", "effect": "NoSchedule"}]), a_group("arm", cpu="500m")]
    plan = planned(groups, [a_pod(f"p{i}", cpu="3") for i in range(3)], {"small": 1})
    assert [(increase.group.name, increase.before, increase.nodes) for increase in plan.increases] == [("small", 1, 1)]
    assert [ask.pod["metadata"]["name"] for ask, _ in plan.refused] == ["p1", "p2"]
    assert plan.refused[0][1] == {"max node group size reached": 1, "node(s) had untolerated taint(s)": 1, "Insufficient cpu": 1}


def test_a_group_below_its_minimum_grows_without_any_pod() -> None:
    assert increases([a_group(low=2)], [], {"small": 1}) == {"small": 1}
    assert increases([a_group(low=1)], [a_pod()], {}) == {"small": 1}, "the node of the minimum takes the pod"


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
APART = {"podAntiAffinity": {REQUIRED: [
    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}},
]}}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"nodeSelector": {"pool": "other"}}, "node(s) didn't match Pod's node affinity/selector"),
        ({"affinity": APART}, "node(s) didn't match pod anti-affinity rules"),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, "node(s) didn't have free ports for the requested pod ports"),
        ({"containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]}, "Insufficient nvidia.com/gpu"),
        ({"nodeSelector": {"pool": "small"}}, None),
    ],
    ids=["selector", "anti-affinity", "port", "device", "fits"],
)
def test_a_room_refuses_for_the_scheduler_s_reasons(spec: Object, reason: str | None) -> None:
    other = a_pod("other")
    other["spec"]["containers"][0]["ports"] = [{"hostPort": 80}]
    pod = a_pod()
    pod["spec"] |= spec
    room = room_of(a_group().node("n"), [other])
    assert World([room]).why_not(ask_of(pod), room) == reason


def unneeded(pods: dict[str, list[Object]], *, low: int = 0, nodes: list[Object] | None = None, leaving: tuple[str, ...] = ()) -> list[str]:
    return judged(pods, low=low, nodes=nodes, leaving=leaving).unneeded


def judged(
    pods: dict[str, list[Object]], *, low: int = 0, nodes: list[Object] | None = None, leaving: tuple[str, ...] = (),
    budgets: Sequence[Object] = (), drain: DrainRules = DRAIN,
) -> Judgement:  # fmt: skip
    group = a_group(low=low)
    members = nodes or [group.node(name) for name in ("a", "b", "c")]
    return plan_unneeded({"small": group}, {"small": members}, pods, [], Rules(0.5, drain), leaving, Budgets(budgets))


def test_empty_nodes_can_go_down_to_the_minimum_and_busy_ones_stay() -> None:
    busy = {"b": [a_pod(cpu="3")]}
    assert unneeded(busy) == ["a", "c"]
    assert unneeded(busy, low=2) == ["a"]
    assert unneeded(busy, low=2, leaving=("a",)) == []


def test_a_hardly_used_node_goes_if_its_pods_fit_elsewhere_and_what_takes_them_in_stays() -> None:
    assert unneeded({"a": [a_pod("x")], "b": [a_pod("y")], "c": [a_pod("z", cpu="3")]}) == ["a"]
    assert unneeded({name: [a_pod(name, cpu="1500m"), a_pod(name + "2", cpu="100m")] for name in "abc"}) == ["a"]
    assert unneeded({name: [a_pod(name, cpu="3500m")] for name in "abc"}) == []


@pytest.mark.parametrize(
    ("pod", "goes"),
    [
        (a_pod(), True),
        (a_pod(owner=""), False),
        (a_pod(volumes=[{"name": "v", "emptyDir": {}}]), False),
        ({**a_pod(), "metadata": {**a_pod()["metadata"], "namespace": "kube-system"}}, False),
        ({**a_pod(owner=""), "metadata": {"name": "p", "namespace": "default", "annotations": {ANNOTATION_SAFE_TO_EVICT: "true"}}}, True),
        ({**a_pod(), "metadata": {**a_pod()["metadata"], "annotations": {ANNOTATION_SAFE_TO_EVICT: "false"}}}, False),
        (a_pod(owner="DaemonSet", cpu="1"), True),
        (a_pod(owner="DaemonSet", cpu="3"), False),
        (a_pod(owner="Cluster"), False),
    ],
    ids=[
        "plain", "nobody would make it anew", "local data", "of the system", "said to be safe", "said not to be safe", "the node's own",
        "much of the node's own", "of a custom controller",
    ],
)
def test_some_pods_hold_their_node(pod: Object, goes: bool) -> None:
    busy = {name: [a_pod(cpu="2500m")] for name in "bc"}
    assert ("a" in unneeded({"a": [pod], **busy})) is goes


def test_an_annotation_keeps_a_node() -> None:
    node = a_group().node("a")
    node["metadata"]["annotations"] = {ANNOTATION_SCALE_DOWN_DISABLED: "true"}
    assert unneeded({}, nodes=[node]) == []


GROUPS = """
- name: large
  maxSize: 3
  template:
    metadata: {labels: {pool: large}}
    spec: {taints: [{key: pool, value: large, effect: NoSchedule}]}
    status: {capacity: {cpu: "8", memory: 16Gi}}
"""


def test_groups_are_read_from_yaml() -> None:
    (group,) = plan_groups({"groups.yaml": GROUPS})
    node = group.node("large-abcde")
    assert (group.minimum, group.maximum) == (0, 3)
    assert node["metadata"]["labels"] == {
        "pool": "large", "kubecosm.dev/simulated": "true", "kubecosm.dev/node-group": "large", "kubernetes.io/hostname": "large-abcde",
    }  # fmt: skip
    assert node["status"]["capacity"] == {"pods": "110", "cpu": "8", "memory": "16Gi"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "is not YAML"),
        ("{}", "expected a list of"),
        ("[{name: A}]", "needs a `name`"),
        ("[{name: a, minSize: 3, maxSize: 2}]", "group a: minSize and maxSize"),
        ("[{name: a, maxSize: 2}]", "group a: template.status.capacity must name at least cpu and memory"),
        (
            "[{name: a, maxSize: 2, template: {status: {capacity: {cpu: x, memory: 1Gi}}}}]",
            "group a: template.status.capacity: quantities must",
        ),
        (
            "[{name: a, maxSize: 1, template: &t {status: {capacity: {cpu: 1, memory: 1}}}}, {name: a, maxSize: 1, template: *t}]",
            "two groups",
        ),
    ],
)
def test_a_bad_description_of_groups_is_one_clear_complaint(text: str, complaint: str) -> None:
    with pytest.raises(GroupsError, match=complaint):
        plan_groups({"groups.yaml": text})


def test_the_status_counts_nodes_and_candidates() -> None:
    group = a_group()
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    told = plan_status([group], {"small": [group.node("a") | ready, group.node("b")]}, {"a"})
    counts = {"registered": {"total": 2, "ready": 1, "notStarted": 1}, "longUnregistered": 0, "unregistered": 0}
    assert told["nodeGroups"][0]["health"]["nodeCounts"] == told["clusterWide"]["health"]["nodeCounts"] == counts
    assert told["nodeGroups"][0]["scaleDown"] == {"status": "CandidatesPresent", "candidates": 1}
    assert told["clusterWide"]["scaleUp"] == {"status": "InProgress"}


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    group, early, late = a_group(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    before = timed(plan_status([group], {"small": [group.node("a") | ready]}, {}), {}, early)
    after = timed(plan_status([group], {"small": [group.node("a") | ready]}, {"a"}), before, late)
    times = {part: (after["nodeGroups"][0][part]["lastTransitionTime"], after["clusterWide"][part]["lastProbeTime"]) for part in PARTS}
    first, second = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    assert times == {"health": (first, second), "scaleUp": (first, second), "scaleDown": (second, second)}


# ---- pods that must be near to, or away from, others


def spread_over(key: str, **more: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    return {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector, **more}


def in_zone(zone: str, high: int = 10) -> NodeGroup:
    group = a_group(f"zone-{zone}", high=high)
    group.template["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone}
    return group


HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def test_pods_that_spread_over_hosts_get_hosts_although_there_is_room() -> None:
    there = [room_of(a_group().node("small-0"), [a_pod("x", cpu="100m")])]
    pods = [a_pod(f"p{i}", cpu="100m", topologySpreadConstraints=[spread_over(HOST, minDomains=3)]) for i in range(2)]
    assert increases([a_group()], pods, {"small": 1}, there) == {"small": 2}
    free = [a_pod(f"p{i}", cpu="100m", topologySpreadConstraints=[spread_over(HOST, whenUnsatisfiable="ScheduleAnyway")]) for i in range(2)]
    assert increases([a_group()], free, {"small": 1}, [room_of(a_group().node("small-0"))]) == {}


def test_pods_that_spread_over_zones_get_nodes_in_the_zones_that_lack_them() -> None:
    zones, full = [in_zone(zone) for zone in "ab"], a_pod("full", cpu="4")
    full["metadata"]["labels"] = {}
    there = [room_of(zones[0].node("a-0"), [a_pod("x", cpu="100m")]), room_of(zones[1].node("b-0"), [full])]
    pods = [a_pod("p", cpu="1", topologySpreadConstraints=[spread_over(ZONE)])]
    assert increases(zones, pods, {"zone-a": 1, "zone-b": 1}, there) == {"zone-b": 1}


@pytest.mark.parametrize(("key", "nodes"), [(HOST, 3), (ZONE, 1)])
def test_pods_that_keep_apart_get_a_domain_each(key: str, nodes: int) -> None:
    apart = {"podAntiAffinity": {REQUIRED: [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}}]}}
    assert increases([in_zone("a")], [a_pod(f"p{i}", cpu="100m", affinity=apart) for i in range(3)]) == {"zone-a": nodes}


def test_a_pod_is_not_put_where_another_wants_to_be_alone() -> None:
    alone = {"podAntiAffinity": {REQUIRED: [{"topologyKey": HOST, "labelSelector": {}}]}}
    there = [room_of(a_group().node("small-0"), [a_pod("hermit", cpu="100m", affinity=alone)])]
    assert increases([a_group()], [a_pod("p", cpu="100m")], {"small": 1}, there) == {"small": 1}


def test_pods_that_want_company_share_a_new_node_or_go_to_their_zone() -> None:
    together = {"podAffinity": {REQUIRED: [{"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}}}]}}
    pods = [a_pod(f"p{i}", cpu="2", affinity=together) for i in range(4)]
    assert increases([in_zone("a"), in_zone("b")], pods) in ({"zone-a": 2}, {"zone-b": 2})
    there = [room_of(in_zone("b").node("b-0"), [a_pod("x", cpu="4")])]
    assert increases([in_zone("a"), in_zone("b")], pods, {"zone-b": 1}, there) == {"zone-b": 2}
    plan = planned([in_zone("a")], pods[:1], {}, there)
    assert plan.refused[0][1] == {"node(s) didn't match pod affinity rules": 1}


def test_a_node_stays_when_its_pods_could_not_keep_apart_elsewhere() -> None:
    apart = {"podAntiAffinity": {REQUIRED: [{"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "web"}}}]}}
    assert unneeded({name: [a_pod(name, cpu="100m", affinity=apart)] for name in "abc"}) == []


# ---- expanders


HUGE, SMALL, TINY = a_group("huge", "64", "256Gi"), a_group("small"), a_group("tiny", "1", "1Gi")


@pytest.mark.parametrize(("chain", "expected"), [
    (("least-waste",), "small"), (("most-pods", "least-nodes"), "huge"), (("least-nodes",), "huge"),
    (("most-pods", "least-waste"), "small"), (("priority",), "tiny"), (("priority", "least-waste"), "tiny"),
])  # fmt: skip
def test_expanders_choose_the_group_that_grows(chain: Sequence[str], expected: str) -> None:
    priorities = plan_priorities({"priorities": "10: [.*]\n50: ['^tiny$', nothing]"})
    pods = [a_pod(f"p{i}", cpu="1", memory="1Gi") for i in range(4)]
    groups = [HUGE, SMALL, a_group("tiny", "1200m", "2Gi")]
    assert list(increases(groups, pods, chain=chain, priorities=priorities)) == [expected]


def test_chance_decides_between_equals() -> None:
    twins = [a_group("a"), a_group("b"), a_group("c")]
    options = [Option(group, [room_of(group.node("n"))], [ask_of(a_pod())], World(())) for group in twins]
    chosen = {option.group.name for seed in range(50) if (option := Chooser(("least-waste",), Random(seed))(options))}
    assert chosen == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["a: [", "[]", "high: [a]", "1: a", "1: ['(']"])
def test_bad_priorities_are_one_clear_complaint(text: str) -> None:
    with pytest.raises(PrioritiesError):
        plan_priorities({"priorities": text})


def test_groups_that_are_alike_are_balanced_if_asked() -> None:
    zones = [a_group(f"zone-{zone}", high=4) for zone in "abc"]
    for group in zones:
        group.template["metadata"]["labels"] = {"topology.kubernetes.io/zone": group.name, "kind": "same"}
    pods = [a_pod(f"p{i}", cpu="3") for i in range(6)]
    sizes = {"zone-a": 3}
    assert increases(zones, pods, sizes, limits=Limits(balance=True)) == {"zone-b": 3, "zone-c": 3} == spread(zones, sizes, 6)
    assert sum(increases(zones, pods, sizes).values()) == 6


def like_a(**capacity: str) -> NodeGroup:
    return NodeGroup("b", 0, 1, {**a_group("a").template, "status": {"capacity": capacity}})


@pytest.mark.parametrize(("other", "alike"), [
    (a_group("b"), False), (like_a(cpu="4", memory="8100Mi"), True), (like_a(cpu="4", memory="7Gi"), False),
    (like_a(cpu="5", memory="8Gi"), False),
], ids=["labels", "memory nearly", "memory", "cpu"])  # fmt: skip
def test_which_groups_are_alike(other: NodeGroup, alike: bool) -> None:
    assert are_alike(a_group("a"), other) is alike


def test_new_nodes_go_where_there_are_fewest() -> None:
    groups = [a_group(name, high=3) for name in "abc"]
    assert spread(groups, {"a": 2, "b": 0, "c": 1}, 4) == {"b": 2, "c": 1, "a": 1}
    assert spread(groups, {}, 100) == {"a": 3, "b": 3, "c": 3}


def test_the_cluster_gets_no_more_nodes_than_it_may_have() -> None:
    there = [room_of(a_group().node("small-0"), [a_pod("x", cpu="4")])]
    plan = planned([a_group()], [a_pod(f"p{i}", cpu="3") for i in range(3)], {"small": 1}, there, limits=Limits(nodes_total=2))
    assert [increase.nodes for increase in plan.increases] == [1]
    assert told_reasons(plan.refused[0][1], at_limit=plan.at_limit) == "max total nodes in cluster reached"


# ---- groups whose nodes do not come


def test_a_group_whose_nodes_do_not_come_is_left_alone_for_twice_as_long_each_time() -> None:
    backoff = GroupBackoff(BackoffLimits(300, 1000, 5000))
    assert backoff.failed("a", 0) == 300
    assert (backoff.names(299), backoff.next_end(100), backoff.names(300)) == ({"a"}, 200, frozenset())
    assert backoff.failed("a", 100) == 200, "nodes of the same attempt do not make it longer"
    assert [backoff.failed("a", at) for at in (400, 1100, 2200)] == [600, 1000, 1000]
    assert backoff.failed("a", 2200 + 5000) == 300, "long ago is forgotten"
    backoff.forget_others([a_group("b")])
    assert backoff.names(7201) == frozenset()


def test_nodes_of_which_nothing_is_heard_are_late() -> None:
    created, now = "2026-01-01T00:00:00Z", datetime(2026, 1, 1, 0, 15, tzinfo=UTC)

    def made(name: str, at: str, *conditions: Object) -> Object:
        node = a_group().node(name)
        return {**node, "metadata": {**node["metadata"], "creationTimestamp": at}, "status": {"conditions": list(conditions)}}

    silent, young = made("silent", created), made("young", "2026-01-01T00:10:00Z")
    marked = made("marked", created, {"type": "Ready", "status": "Unknown", "reason": "NodeStatusNeverUpdated"})
    lost = made("lost", created, {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"})
    late, soonest = late_nodes({"small": [silent, young, marked, lost]}, now, 900)
    assert ([node["metadata"]["name"] for node in late["small"]], soonest) == (["silent", "marked"], 600)


def test_a_group_in_back_off_gets_no_nodes_and_is_the_reason_told() -> None:
    closed = Limits(closed=frozenset({"small"}))
    assert increases([a_group(), HUGE], [a_pod()], limits=closed) == {"huge": 1}
    assert planned([a_group(low=2)], [a_pod()], limits=closed).refused[0][1] == {"in backoff after failed scale-up": 1}
    told = plan_status([a_group()], {}, (), closed={"small"})["nodeGroups"][0]["scaleUp"]
    assert (told["status"], told["backoffInfo"]["errorCode"]) == ("Backoff", "timeout")


# ---- why nodes stay


def a_budget(allowed: int, namespace: str = "default", **labels: str) -> Object:
    meta = {"name": "b", "namespace": namespace}
    return {"metadata": meta, "spec": {"selector": {"matchLabels": labels}}, "status": {"disruptionsAllowed": allowed}}


def test_disruption_budgets_hold_nodes_before_anything_is_evicted() -> None:
    pods = {name: [a_pod(name)] for name in "ab"}
    full = {"c": [a_pod("z", cpu="1")]}
    assert judged({**pods, **full}, budgets=[a_budget(1, app="web")]).unneeded == ["a"]
    held = judged({**pods, **full}, budgets=[a_budget(0, app="web")])
    assert (held.unneeded, held.unremovable["a"]) == ([], Unremovable.BLOCKED)
    assert held.blocked_by["a"] == "default/a: not enough pod disruption budget to move the pod"
    assert judged({**pods, **full}, budgets=[a_budget(0, app="other"), a_budget(0, "elsewhere", app="web")]).unneeded == ["a", "c"]


def test_every_node_that_stays_has_a_reason() -> None:
    disabled = a_group().node("d")
    disabled["metadata"]["annotations"] = {ANNOTATION_SCALE_DOWN_DISABLED: "true"}
    nodes = [*(a_group().node(name) for name in "abc"), disabled]
    sizes = {"a": "100m", "b": "3500m", "c": "1900m", "d": "3"}
    pods = {name: [a_pod(f"on-{name}", cpu=cpu, owner="" if name == "a" else "ReplicaSet")] for name, cpu in sizes.items()}
    assert judged(pods, nodes=nodes).unremovable == {
        "a": "BlockedByPod", "b": "NotUnderutilized", "d": "ScaleDownDisabledAnnotation",
    }  # fmt: skip
    assert judged(pods, nodes=nodes, low=4).unremovable == dict.fromkeys("abcd", "NodeGroupMinSizeReached")
    stuck = {"a": [a_pod("x", cpu="1900m")], "b": [a_pod("y", cpu="3")], "c": [a_pod("z", cpu="3")]}
    assert judged(stuck).unremovable["a"] == "NoPlaceToMovePods"


def system(pod: Object) -> Object:
    return {**pod, "metadata": {**pod["metadata"], "namespace": "kube-system"}}


@pytest.mark.parametrize(("pod", "drain", "budgets", "goes"), [
    (system(a_pod()), DrainRules(), [], False),
    (system(a_pod()), DrainRules(), [a_budget(1, "kube-system", app="web")], True),
    (system(a_pod()), DrainRules(skip_system_pods=False), [], True),
    (a_pod(volumes=[{"name": "v", "emptyDir": {}}]), DrainRules(skip_local_storage=False), [], True),
    (a_pod(volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}]), DrainRules(), [], True),
    (a_pod(volumes=[{"name": "v", "hostPath": {"path": "/x"}}]), DrainRules(), [], False),
    (a_pod(owner="Cluster"), DrainRules(skip_custom_controllers=False), [], True),
], ids=["system", "system with a budget", "system if told", "local data if told", "in memory", "host path", "custom kind"])  # fmt: skip
def test_what_holds_a_node_depends_on_flags_and_budgets(pod: Object, drain: DrainRules, budgets: list[Object], goes: bool) -> None:
    busy = {name: [a_pod(cpu="2500m")] for name in "bc"}
    assert ("a" in judged({"a": [pod], **busy}, drain=drain, budgets=budgets).unneeded) is goes


def test_volumes_that_may_be_lost_are_named_in_an_annotation() -> None:
    pod = a_pod(volumes=[{"name": name, "emptyDir": {}} for name in ("cache", "data")])
    busy = {name: [a_pod(cpu="2500m")] for name in "bc"}
    for value, goes in (("cache", False), ("cache, data", True)):
        pod["metadata"]["annotations"] = {ANNOTATION_SAFE_TO_EVICT_VOLUMES: value}
        assert ("a" in unneeded({"a": [pod], **busy})) is goes


# ---- prices, priorities, reasons


def test_the_price_expander_takes_what_costs_least_for_its_pods_and_suits_the_cluster() -> None:
    pods = [a_pod(f"p{i}", cpu="900m", memory="3Gi") for i in range(4)]
    groups = [a_group("one", "1", "4Gi"), a_group("four", "4", "16Gi"), a_group("sixteen", "16", "64Gi")]
    assert increases(groups, pods, chain=("price",)) == {"one": 4}, "a small cluster grows by small nodes"
    there = [room_of(a_group("full", "100m", "1Gi").node(f"n{i}")) for i in range(10)]
    assert increases(groups, pods, chain=("price",), rooms=there) == {"four": 1}
    groups[1] = dataclasses.replace(groups[1], price=5.0)
    assert increases(groups, pods, chain=("price",), rooms=there) == {"one": 4}
    assert [preferred_cpus(size) for size in (0, 2, 3, 20, 21, 200, 201)] == [1, 1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(("price", "fine"), [("0.25", True), ("0", True), ("-1", False), ("cheap", False), ("true", False)])
def test_a_group_may_say_what_its_nodes_cost(price: str, fine: bool) -> None:
    text = f"[{{name: a, maxSize: 1, price: {price}, template: {{status: {{capacity: {{cpu: 1, memory: 1Gi}}}}}}}}]"
    if fine:
        assert plan_groups({"groups.yaml": text})[0].price == float(price)
    else:
        with pytest.raises(GroupsError, match="group a: price must be"):
            plan_groups({"groups.yaml": text})


def test_priorities_that_cannot_be_used_let_nothing_grow() -> None:
    assert increases([a_group()], [a_pod()], chain=("priority",), priorities=None) == {}


def test_the_priority_expander_warns_of_groups_it_does_not_know() -> None:
    options = [Option(group, [room_of(group.node("n"))], [ask_of(a_pod())], World(())) for group in (HUGE, SMALL)]
    chooser = Chooser(("priority",), Random(1), plan_priorities({"priorities": "10: [small]"}))
    chosen = chooser(options)
    assert chosen is not None
    assert chosen.group.name == "small"
    unknown = "Priority expander: node group huge not found in priority expander configuration. The group won't be used."
    assert chooser.warnings == [("PriorityConfigMapNotMatchedGroup", unknown)]
    chooser = Chooser(("priority",), Random(1), plan_priorities({"priorities": "10: [other]"}))
    assert chooser(options) is not None
    assert chooser.warnings[-1][0] == "PriorityConfigMapNoGroupMatched"


def test_reasons_are_told_in_the_order_of_their_words() -> None:
    assert told_reasons(Counter({"b": 10, "a": 2}), at_limit=False) == "10 b, 2 a"


def test_pods_of_a_spread_scale_up_hear_of_all_groups() -> None:
    zones = [a_group(f"zone-{zone}", high=4) for zone in "ab"]
    for group in zones:
        group.template["metadata"]["labels"] = {"topology.kubernetes.io/zone": group.name, "kind": "same"}
    plan = planned(zones, [a_pod(f"p{i}", cpu="3") for i in range(2)], limits=Limits(balance=True))
    told = next(increase for increase in plan.increases if increase.pods).together
    assert " ".join(map(str, told)) == "{zone-a 0->1 (max: 4)} {zone-b 0->1 (max: 4)}"


# ---- volumes


def volume_view(*, bound_to: str = "", **storage_class: Any) -> Any:
    """A look-up with one claim `data` of a class, bound to a volume of a zone or of none."""
    claim: Object = {"metadata": {"name": "data"}, "spec": {"storageClassName": "fast"}}
    term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": [bound_to]}]}
    if bound_to:
        claim["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
        claim["spec"]["volumeName"] = "v"
    found = {
        PERSISTENTVOLUMECLAIMS: claim, PERSISTENTVOLUMES: {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}},
        STORAGECLASSES: {"provisioner": "x.io", "volumeBindingMode": "WaitForFirstConsumer", **storage_class},
    }  # fmt: skip
    return lambda resource, key: found[resource] if key.name in ("data", "v", "fast") else None


USER = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}


@pytest.mark.parametrize(("view", "claim", "grown", "reason"), [
    (volume_view(bound_to="b"), "data", {"zone-b": 1}, ""),
    (volume_view(bound_to="c"), "data", {}, "2 node(s) didn't match PersistentVolume's node affinity"),
    (volume_view(allowedTopologies=[{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}]), "data", {"zone-b": 1}, ""),
    (volume_view(volumeBindingMode="Immediate"), "data", {}, "2 pod has unbound immediate PersistentVolumeClaims"),
    (volume_view(), "lost", {}, '2 persistentvolumeclaim "lost" not found'),
], ids=["zone of its volume", "no such zone", "allowed topologies", "unbound", "missing"])  # fmt: skip
def test_a_group_grows_only_where_a_pod_reaches_its_volumes(view: Any, claim: str, grown: dict[str, int], reason: str) -> None:
    pod = a_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])
    ask = ask_of(pod, volume_needs(pod, view))
    plan = plan_scale_up([in_zone("a"), in_zone("b")], {}, [ask], [], Chooser(("least-waste",), Random(1)))
    assert {increase.group.name: increase.nodes for increase in plan.increases} == grown
    assert [told_reasons(reasons, at_limit=False) for _, reasons in plan.refused] == ([reason] if reason else [])


@pytest.mark.process
def test_a_cluster_grows_for_its_pods_and_shrinks_when_they_are_gone(kubecosm: CommandLine) -> None:
    quick = ("--set", "controller.scale-down-unneeded-time=1s", "--set", "controller.scale-down-delay-after-add=1s")
    kubecosm("up", "--detach", "--nodes", "1", *quick, "--set", "kubelet.cpu=1")
    kubectl = kubecosm.kubectl
    config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "cluster-autoscaler-node-groups", "namespace": "kube-system"}}
    kubectl("apply", "-f", "-", stdin=json.dumps(config | {"data": {"groups.yaml": GROUPS}}))
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "3"}}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container], "tolerations": [{"operator": "Exists"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")

    def nodes() -> list[str]:
        return kubectl("get", "nodes", "-l", "pool=large", "-o", "name").split()

    assert len(nodes()) == 2
    events = kubectl("get", "events", "-A", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}")
    assert "TriggeredScaleUp: pod triggered scale-up: [{large 0->" in events
    kubectl("scale", "deployment/web", "--replicas=1")
    wait_for(lambda: len(nodes()) == 1, "one node is enough")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    kubectl("scale", "deployment/web", "--replicas=0")
    wait_for(lambda: not nodes(), "no node is needed")
    kubectl("scale", "deployment/web", "--replicas=9")
    wait_for(lambda: len(nodes()) == 3, "as many as the group may have")
    refusal = "didn't trigger scale-up: 1 max node group size reached"
    wait_for(lambda: refusal in kubectl("get", "events", "-o", "jsonpath={.items[*].message}"), "the refusal is told")
    status = kubectl("-n", "kube-system", "get", "configmap", "cluster-autoscaler-status", "-o", "jsonpath={.data.status}")
    assert "autoscalerStatus: Running" in status

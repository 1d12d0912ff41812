"""Spreading and pod affinity scores against plain implementations over random clusters."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.interface import CycleState
from kubecosm.services.scheduler.state.columns import ALL, Rows
from kubecosm.services.scheduler.state.podinfo import compile_pod

from .helpers import Cluster, node, pod

PREFERRED, REQUIRED = "preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution"
HOSTNAME = "kubernetes.io/hostname"
KEYS = (HOSTNAME, "zone", "rack")


def random_labels(r: random.Random) -> dict[str, str]:
    return {key: r.choice("xyz") for key in KEYS[1:] if r.random() < 0.85}


def random_term(r: random.Random) -> Object:
    return {"topologyKey": r.choice(KEYS), "labelSelector": {"matchLabels": {"app": r.choice("ab")}}}


def random_affinity(r: random.Random) -> Object:
    affinity: Object = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if r.random() < 0.5:
            affinity[kind] = {PREFERRED: [{"weight": r.randint(1, 100), "podAffinityTerm": random_term(r)} for _ in range(r.randint(1, 2))]}
    if r.random() < 0.3:
        affinity.setdefault("podAffinity", {})[REQUIRED] = [random_term(r)]
    return affinity


def scored(cluster: Cluster, wanted: Object, plugin: str, rows: Rows) -> list[int] | None:
    instance: Any = cluster.scheduler.profiles["default-scheduler"].plugins[plugin]
    state, info = CycleState(), compile_pod(wanted)
    if instance.pre_score(state, info, rows) is not None:
        return None
    return [int(score) for score in instance.normalize_score(state, info, instance.score(state, info, rows))]


def matches(term: Object, other: Object) -> bool:
    labels: Mapping[str, str] = other["metadata"]["labels"]
    return all(labels.get(k) == v for k, v in term["labelSelector"]["matchLabels"].items())


def naive_affinity(nodes: list[Object], placed: list[Object], wanted: Object) -> list[int]:
    by_name = {n["metadata"]["name"]: n["metadata"]["labels"] for n in nodes}

    def weigh(target: Object) -> int:
        total = 0
        labels = target["metadata"]["labels"]
        for other in placed:
            theirs = by_name[other["spec"]["nodeName"]]

            def near(term: Object, theirs: Mapping[str, str] = theirs) -> bool:
                key = term["topologyKey"]
                return key in labels and labels[key] == theirs.get(key)

            for sign, kind in ((1, "podAffinity"), (-1, "podAntiAffinity")):
                for owner, subject in ((wanted, other), (other, wanted)):
                    for item in (owner["spec"]["affinity"].get(kind) or {}).get(PREFERRED) or []:
                        if matches(item["podAffinityTerm"], subject) and near(item["podAffinityTerm"]):
                            total += sign * item["weight"]
            for term in (other["spec"]["affinity"].get("podAffinity") or {}).get(REQUIRED) or []:
                total += matches(term, wanted) and near(term)
        return total

    raw = [weigh(target) for target in nodes]
    low, high = min(raw), max(raw)
    return [int(100 * ((score - low) / (high - low))) if high > low else 0 for score in raw]


@pytest.mark.parametrize("seed", range(60))
def test_pod_affinity_scores_agree(seed: int) -> None:
    r = random.Random(seed)
    nodes = [node(f"n{i}", labels=random_labels(r)) for i in range(r.randint(2, 8))]
    cluster = Cluster(*nodes)
    placed = []
    for index in range(r.randint(1, 12)):
        name = r.choice(nodes)["metadata"]["name"]
        placed.append(pod(f"p{index}", labels={"app": r.choice("ab")}, node_name=name, affinity=random_affinity(r)))
    cluster.add(*placed)
    wanted = pod("wanted", labels={"app": r.choice("ab")}, affinity=random_affinity(r))
    expected = naive_affinity(nodes, placed, wanted)
    assert (scored(cluster, wanted, "InterPodAffinity", ALL) or [0] * len(nodes)) == expected


def naive_spread(
    nodes: list[Object], chosen: list[Object], placed: list[Object], constraints: list[Object], require_all: bool
) -> list[int]:
    def has_all(n: Object) -> bool:
        return all(c["topologyKey"] in n["metadata"]["labels"] for c in constraints)

    def count(n: Object, c: Object) -> int:
        return sum(
            p["spec"]["nodeName"] == n["metadata"]["name"] and "deletionTimestamp" not in p["metadata"] and matches(c, p) for p in placed
        )

    ignored = [require_all and not has_all(n) for n in chosen]
    raw = []
    for index, target in enumerate(chosen):
        score = 0.0
        for c in constraints if not ignored[index] else []:
            key = c["topologyKey"]
            labels = target["metadata"]["labels"]
            judged = [n for n, skip in zip(chosen, ignored, strict=True) if not skip]
            if key not in labels:
                continue
            if key == HOSTNAME:
                matching, size = count(target, c), len(judged)
            else:
                size = len({n["metadata"]["labels"].get(key, "") for n in judged})
                everywhere = [n for n in nodes if not require_all or has_all(n)]
                matching = sum(count(n, c) for n in everywhere if n["metadata"]["labels"].get(key) == labels[key])
            score += matching * math.log(size + 2) + c["maxSkew"] - 1
        raw.append(math.floor(score + 0.5))
    judged_scores = [score for score, skip in zip(raw, ignored, strict=True) if not skip]
    if not judged_scores:
        return [0] * len(chosen)
    low, high = min(judged_scores), max(judged_scores)
    return [0 if skip else 100 if high == 0 else 100 * (high + low - score) // high for score, skip in zip(raw, ignored, strict=True)]


def random_cluster(r: random.Random) -> tuple[Cluster, list[Object], list[Object], Rows, list[Object]]:
    """Cluster, nodes, placed pods, the rows to score and their nodes."""
    nodes = [node(f"n{i}", labels=random_labels(r)) for i in range(r.randint(2, 8))]
    cluster = Cluster(*nodes)
    placed = []
    for index in range(r.randint(0, 14)):
        made = pod(f"p{index}", labels={"app": r.choice("ab")}, node_name=r.choice(nodes)["metadata"]["name"])
        if r.random() < 0.2:
            made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        placed.append(made)
    cluster.add(*placed)
    chosen = sorted(r.sample(range(len(nodes)), r.randint(1, len(nodes))))
    rows: Rows = ALL if len(chosen) == len(nodes) else np.array(chosen)
    return cluster, nodes, placed, rows, [nodes[i] for i in chosen]


@pytest.mark.parametrize("seed", range(60))
def test_soft_spreading_scores_agree(seed: int) -> None:
    r = random.Random(seed)
    cluster, nodes, placed, rows, chosen = random_cluster(r)
    constraints = [
        {
            "maxSkew": r.randint(1, 4), "topologyKey": r.choice(KEYS), "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": r.choice("ab")}},
        }
        for _ in range(r.randint(1, 2))
    ]  # fmt: skip
    wanted = pod("wanted", labels={"app": "a"}, topologySpreadConstraints=constraints)
    assert scored(cluster, wanted, "PodTopologySpread", rows) == naive_spread(nodes, chosen, placed, constraints, True)


@pytest.mark.parametrize("seed", range(30))
def test_default_spreading_scores_agree(seed: int) -> None:
    r = random.Random(seed)
    cluster, nodes, placed, rows, chosen = random_cluster(r)
    cluster.scheduler.handle.workloads.set_service({"metadata": {"namespace": "default", "name": "s"}, "spec": {"selector": {"app": "a"}}})
    selector = {"labelSelector": {"matchLabels": {"app": "a"}}}
    zone = "topology.kubernetes.io/zone"
    constraints = [{"maxSkew": 3, "topologyKey": HOSTNAME, **selector}, {"maxSkew": 5, "topologyKey": zone, **selector}]
    wanted = pod("wanted", labels={"app": "a"})
    assert scored(cluster, wanted, "PodTopologySpread", rows) == naive_spread(nodes, chosen, placed, constraints, False)


def test_pods_without_service_or_controller_are_not_spread() -> None:
    cluster = Cluster(node("a"), node("b"))
    assert scored(cluster, pod("p", labels={"app": "a"}), "PodTopologySpread", ALL) is None


def test_replicas_of_one_set_are_spread_by_its_selector() -> None:
    cluster = Cluster(*(node(f"n{i}", cpu="64", labels={"topology.kubernetes.io/zone": f"z{i % 2}"}) for i in range(4)))
    replica_set = {"metadata": {"namespace": "default", "name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}
    cluster.scheduler.handle.workloads.set_controller("ReplicaSet", replica_set)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}
    placed = cluster.schedule(*(pod(f"web-{i}", cpu="1", labels={"app": "web"}, owner=owner) for i in range(8)))
    assert sorted(placed) == sorted([f"n{i}" for i in range(4)] * 2)

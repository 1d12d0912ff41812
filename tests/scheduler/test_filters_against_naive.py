"""The vectorised filters against a plain implementation that looks at one node and all its pods at a time.

Random clusters; every node must get the same verdict, with the same reasons, from both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.algorithm import Algorithm
from kubecosm.services.scheduler.framework.interface import CycleState
from kubecosm.services.scheduler.state.podinfo import compile_pod

from .helpers import Cluster, node, pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
KEYS = ("kubernetes.io/hostname", "zone", "rack")
APPS = ("a", "b", "c")
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")
TAINTS = [{"key": k, "value": v, "effect": e} for k in ("k1", "k2") for v in ("x", "y") for e in EFFECTS]


class Random:
    """Random but valid objects."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def labels(self) -> dict[str, str]:
        chosen = {key: self.r.choice("xyz") for key in KEYS[1:] if self.r.random() < 0.9}
        if self.r.random() < 0.5:
            chosen["size"] = self.r.choice(["1", "5", "10", "big"])
        return chosen

    def node(self, name: str) -> Object:
        return node(
            name, cpu=str(self.r.randint(2, 12)), memory=f"{self.r.randint(4, 24)}Gi", pods=str(self.r.randint(1, 8)), labels=self.labels(),
            taints=self.r.sample(TAINTS, self.r.choice([0, 0, 0, 0, 1, 2])), unschedulable=self.r.random() < 0.05,
            extended={"example.com/gpu": "2"} if self.r.random() < 0.8 else {},
        )  # fmt: skip

    def selector(self) -> Object:
        if self.r.random() < 0.7:
            return {"matchLabels": {"app": self.r.choice(APPS)}}
        return {"matchExpressions": [{"key": "app", "operator": self.r.choice(["In", "NotIn"]), "values": self.r.sample(APPS, 2)}]}

    def term(self) -> Object:
        term: Object = {"topologyKey": self.r.choice(KEYS), "labelSelector": self.selector()}
        if self.r.random() < 0.2:
            term["namespaces"] = ["other"]
        elif self.r.random() < 0.2:
            term["namespaceSelector"] = self.r.choice([{}, {"matchLabels": {"team": "x"}}])
        return term

    def expression(self) -> Object:
        operator = self.r.choice(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
        key = "size" if operator in ("Gt", "Lt") else self.r.choice(("zone", "rack", "size"))
        values = {"In": ["x", "1"], "NotIn": ["y", "5"], "Gt": ["4"], "Lt": ["6"]}.get(operator)
        return {"key": key, "operator": operator, **({"values": values} if values else {})}

    def pod(self, name: str, node_name: str = "") -> Object:
        affinity: Object = {}
        if self.r.random() < 0.15:
            affinity["nodeAffinity"] = {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [self.expression()]} for _ in range(2)]}}
        if self.r.random() < 0.2:
            affinity["podAffinity"] = {REQUIRED: [self.term() for _ in range(self.r.randint(1, 2))]}
        if self.r.random() < 0.3:
            affinity["podAntiAffinity"] = {REQUIRED: [self.term()]}
        spec: Object = {"affinity": affinity}
        if self.r.random() < 0.1:
            spec["nodeSelector"] = {"zone": "x"}
        if self.r.random() < 0.5:
            wide = {"key": self.r.choice(["k1", "k2"]), "operator": "Exists"}
            spec["tolerations"] = [wide, {"key": "k1", "value": "x", "effect": "NoSchedule"}]
        if self.r.random() < 0.4:
            spec["topologySpreadConstraints"] = [self.constraint() for _ in range(self.r.randint(1, 2))]
        ports = [{"hostPort": 80, **self.r.choice([{}, {"hostIP": "127.0.0.1"}, {"protocol": "UDP"}])}] if self.r.random() < 0.3 else []
        requests = {"example.com/gpu": "1"} if self.r.random() < 0.2 else {}
        made = pod(
            name, namespace=self.r.choice(["default", "other"]), labels={"app": self.r.choice(APPS)}, node_name=node_name, ports=ports,
            cpu=self.r.choice(["", "500m", "1", "3"]), memory=self.r.choice(["", "1Gi", "4Gi"]), requests=requests, **spec,
        )  # fmt: skip
        if node_name and self.r.random() < 0.2:
            made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return made

    def constraint(self) -> Object:
        return {
            "maxSkew": self.r.randint(1, 2), "topologyKey": self.r.choice(KEYS), "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": self.selector(), "minDomains": self.r.randint(1, 3), "nodeTaintsPolicy": self.r.choice(["Honor", "Ignore"]),
            "nodeAffinityPolicy": self.r.choice(["Honor", "Ignore"]),
        }  # fmt: skip


# ---- the plain implementation

NAMESPACES: Mapping[str, Mapping[str, str]] = {"default": {"team": "x"}, "other": {}}


class Naive:
    def __init__(self, nodes: list[Object], placed: list[Object], wanted: Object) -> None:
        self.nodes, self.placed, self.wanted = nodes, placed, wanted

    def pods_on(self, name: str) -> list[Object]:
        return [p for p in self.placed if p["spec"]["nodeName"] == name]

    def reasons(self, target: Object) -> tuple[str, ...]:
        """The reasons of the first filter that refuses the node."""
        checks: list[Callable[[Object], Iterable[str]]] = [
            self.unschedulable, self.taints, self.affinity, self.ports, self.resources, self.spread, self.pod_affinity,
        ]  # fmt: skip
        return next((found for check in checks if (found := tuple(check(target)))), ())

    def unschedulable(self, target: Object) -> Iterable[str]:
        if target["spec"].get("unschedulable"):
            yield "node(s) were unschedulable"

    def tolerated(self, taint: Object) -> bool:
        for t in self.wanted["spec"].get("tolerations") or ():
            key_ok = not t.get("key") or t["key"] == taint["key"]
            effect_ok = not t.get("effect") or t["effect"] == taint["effect"]
            value_ok = t.get("operator") == "Exists" or t.get("value", "") == taint.get("value", "")
            if key_ok and effect_ok and value_ok:
                return True
        return False

    def tolerates_node(self, target: Object) -> bool:
        return all(t["effect"] == "PreferNoSchedule" or self.tolerated(t) for t in target["spec"].get("taints") or ())

    def taints(self, target: Object) -> Iterable[str]:
        if not self.tolerates_node(target):
            yield "node(s) had untolerated taint(s)"

    def wants_node(self, target: Object) -> bool:
        labels, spec = target["metadata"]["labels"], self.wanted["spec"]
        if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
            return False
        required = (spec["affinity"].get("nodeAffinity") or {}).get(REQUIRED)
        return required is None or any(
            all(holds(e, labels) for e in term["matchExpressions"]) for term in required["nodeSelectorTerms"]
        )

    def affinity(self, target: Object) -> Iterable[str]:
        if not self.wants_node(target):
            yield "node(s) didn't match Pod's node affinity/selector"

    def ports(self, target: Object) -> Iterable[str]:
        taken = [p for other in self.pods_on(target["metadata"]["name"]) for p in ports_of(other)]
        for ip, protocol, port in ports_of(self.wanted):
            if any(protocol == q and port == n and (ip == i or "0.0.0.0" in (ip, i)) for i, q, n in taken):
                yield "node(s) didn't have free ports for the requested pod ports"
                return

    def resources(self, target: Object) -> Iterable[str]:
        others = self.pods_on(target["metadata"]["name"])
        allocatable = target["status"]["allocatable"]
        if len(others) + 1 > int(allocatable["pods"]):
            yield "Too many pods"
        for name, wanted in requests_of(self.wanted).items():
            used = sum(requests_of(other).get(name, 0) for other in others)
            if wanted and wanted + used > quantity(allocatable.get(name, "0")):
                yield f"Insufficient {name}"

    def spread(self, target: Object) -> Iterable[str]:
        constraints = self.wanted["spec"].get("topologySpreadConstraints") or []
        labels = target["metadata"]["labels"]
        for c in constraints:
            key = c["topologyKey"]
            if key not in labels:
                yield "node(s) didn't match pod topology spread constraints (missing required label)"
                return
            counts: dict[str, int] = {}
            for other in self.nodes:
                theirs = other["metadata"]["labels"]
                included = all(k["topologyKey"] in theirs for k in constraints)
                included = included and (c["nodeAffinityPolicy"] == "Ignore" or self.wants_node(other))
                included = included and (c["nodeTaintsPolicy"] == "Ignore" or self.tolerates_node(other))
                if included:
                    matching = [p for p in self.pods_on(other["metadata"]["name"]) if self.counts(c["labelSelector"], p)]
                    counts[theirs[key]] = counts.get(theirs[key], 0) + len(matching)
            fewest = min(counts.values(), default=2**31 - 1) if len(counts) >= c["minDomains"] else 0
            own = 1 if selects(c["labelSelector"], self.wanted) else 0
            if counts.get(labels[key], 0) + own - fewest > c["maxSkew"]:
                yield "node(s) didn't match pod topology spread constraints"
                return

    def counts(self, selector: Object, other: Object) -> bool:
        same = other["metadata"]["namespace"] == self.wanted["metadata"]["namespace"]
        return same and "deletionTimestamp" not in other["metadata"] and selects(selector, other)

    def pod_affinity(self, target: Object) -> Iterable[str]:
        affinity = self.wanted["spec"]["affinity"]
        required = (affinity.get("podAffinity") or {}).get(REQUIRED) or []
        if required and not self.has_company(target, required):
            yield "node(s) didn't match pod affinity rules"
            return
        for term in (affinity.get("podAntiAffinity") or {}).get(REQUIRED) or []:
            if any(about(term, self.wanted, other) for other in self.in_domain(target, term["topologyKey"])):
                yield "node(s) didn't match pod anti-affinity rules"
                return
        for other in self.placed:
            for term in (other["spec"]["affinity"].get("podAntiAffinity") or {}).get(REQUIRED) or []:
                if about(term, other, self.wanted) and other in self.in_domain(target, term["topologyKey"]):
                    yield "node(s) didn't satisfy existing pods anti-affinity rules"
                    return

    def in_domain(self, target: Object, key: str) -> list[Object]:
        value = target["metadata"]["labels"].get(key)
        names = {n["metadata"]["name"] for n in self.nodes if value is not None and n["metadata"]["labels"].get(key) == value}
        return [p for p in self.placed if p["spec"]["nodeName"] in names]

    def has_company(self, target: Object, required: list[Object]) -> bool:
        labels = target["metadata"]["labels"]
        if any(term["topologyKey"] not in labels for term in required):
            return False
        matching = [p for p in self.placed if all(about(term, self.wanted, p) for term in required)]
        if all(any(p in self.in_domain(target, term["topologyKey"]) for p in matching) for term in required):
            return True
        by_name = {n["metadata"]["name"]: n["metadata"]["labels"] for n in self.nodes}
        somewhere = any(term["topologyKey"] in by_name[p["spec"]["nodeName"]] for p in matching for term in required)
        return not somewhere and all(about(term, self.wanted, self.wanted) for term in required)


def holds(e: Object, labels: Mapping[str, str]) -> bool:
    value, operator, values = labels.get(e["key"]), e["operator"], e.get("values") or []
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if value is None or not value.isdigit():
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])


def selects(selector: Object, other: Object) -> bool:
    labels = other["metadata"]["labels"]
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    return all(holds(e, labels) for e in selector.get("matchExpressions") or ())


def about(term: Object, owner: Object, other: Object) -> bool:
    namespace = other["metadata"]["namespace"]
    names, selector = term.get("namespaces") or [], term.get("namespaceSelector")
    if not names and selector is None:
        names = [owner["metadata"]["namespace"]]
    labels = NAMESPACES[namespace]
    selected = selector is not None and all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return (namespace in names or selected) and selects(term["labelSelector"], other)


def ports_of(p: Object) -> list[tuple[str, str, int]]:
    return [
        (x.get("hostIP", "0.0.0.0"), x.get("protocol", "TCP"), x["hostPort"])
        for c in p["spec"]["containers"] for x in c.get("ports") or () if x.get("hostPort")
    ]  # fmt: skip


def requests_of(p: Object) -> dict[str, int]:
    return {k: quantity(v) for k, v in p["spec"]["containers"][0]["resources"].get("requests", {}).items()}


def quantity(text: str) -> int:
    """In thousandths, of the few forms these tests use."""
    if text.endswith("Gi"):
        return int(text[:-2]) * 1024**3 * 1000
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


# ---- comparison


def compare(seed: int) -> None:
    make = Random(seed)
    nodes = [make.node(f"n{i}") for i in range(make.r.randint(1, 8))]
    placed = [make.pod(f"p{i}", make.r.choice(nodes)["metadata"]["name"]) for i in range(make.r.randint(0, 12))]
    wanted = make.pod("wanted")
    cluster = Cluster()
    for name, labels in NAMESPACES.items():
        cluster.scheduler.cluster.set_namespace({"metadata": {"name": name, "labels": dict(labels)}})
    everything: list[Any] = [(cluster.handlers.node_added, n) for n in nodes] + [(cluster.handlers.pod_added, p) for p in placed]
    make.r.shuffle(everything)
    for add, item in everything:
        add(item)
    check(cluster, nodes, placed, wanted)
    if placed:  # again after a pod has gone, to see that what is derived follows
        gone = placed.pop(make.r.randrange(len(placed)))
        cluster.handlers.pod_deleted(gone)
        check(cluster, nodes, placed, wanted)
    if len(nodes) > 1:
        lost = nodes.pop(make.r.randrange(len(nodes)))
        for p in [p for p in placed if p["spec"]["nodeName"] == lost["metadata"]["name"]]:
            placed.remove(p)
        cluster.handlers.node_deleted(lost)
        nodes.append(make.node("late"))
        cluster.handlers.node_added(nodes[-1])
        check(cluster, nodes, placed, wanted)


def check(cluster: Cluster, nodes: list[Object], placed: list[Object], wanted: Object) -> None:
    profile = cluster.scheduler.profiles["default-scheduler"]
    outcome = Algorithm(cluster.scheduler.handle).schedule(profile, CycleState(), compile_pod(wanted))
    table = cluster.scheduler.cluster.nodes
    feasible = set() if outcome.feasible is None else {table.names[row] for row in outcome.feasible}
    naive = Naive(nodes, placed, wanted)
    for target in nodes:
        name = target["metadata"]["name"]
        expected = naive.reasons(target)
        status = outcome.diagnosis.status_of(table.row_of[name])
        assert sorted(status.reasons if status else ()) == sorted(expected), name
        assert (name in feasible) == (not expected), name
        alone = profile.fits(compile_pod(wanted), table.row_of[name])
        assert sorted(alone.reasons if alone else ()) == sorted(expected), f"{name} alone"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(min_value=0, max_value=2**32))
def test_vectorised_filters_agree_with_the_plain_ones(seed: int) -> None:
    compare(seed)


@pytest.mark.parametrize("seed", range(100))
def test_vectorised_filters_agree_for_fixed_seeds(seed: int) -> None:
    compare(seed)

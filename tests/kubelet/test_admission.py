"""What a node thinks of pods that were bound to it: why it refuses some, in the kubelet's words, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.kubelet.nodes.power import Powers
from kubecosm.services.kubelet.pods.admission import NodeBudget, amounts, refusal_of
from kubecosm.services.kubelet.pods.manager import PodManager
from kubecosm.services.kubelet.pods.status import refusal_status, refused, status_patch
from kubecosm.testing.virtualtime import EPOCH

from .lab import NODE, Lab, container, in_lab, make_pod

LABELS = {"kubernetes.io/os": "linux", "disk": "ssd"}


def a_node(**spec: Any) -> Object:
    return {"metadata": {"name": NODE.name, "labels": LABELS}, "spec": spec}


def a_budget(pods_max: int = 10) -> NodeBudget:
    return NodeBudget(amounts({"cpu": "2", "memory": "1Gi"}), pods_max)


def required(key: str, *values: str) -> Object:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


AFFINITY = ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
TAINT = {"key": "broken", "effect": "NoExecute"}
HUGE = {"resources": {"requests": {"cpu": "3"}}}


@pytest.mark.parametrize(
    ("spec", "node", "expected"),
    [
        pytest.param({}, a_node(), None, id="nothing special"),
        pytest.param({"nodeSelector": {"disk": "ssd"}}, a_node(), None, id="selected"),
        pytest.param({"nodeSelector": {"disk": "hdd"}}, a_node(), AFFINITY, id="selector"),
        pytest.param({"affinity": required("disk", "nvme", "ssd")}, a_node(), None, id="affine"),
        pytest.param({"affinity": required("disk", "nvme")}, a_node(), AFFINITY, id="affinity"),
        pytest.param({"nodeSelector": {"disk": "hdd"}}, None, None, id="node not known"),
        pytest.param(
            {}, a_node(taints=[TAINT]),
            ("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"), id="taint",
        ),
        pytest.param({"tolerations": [{"operator": "Exists"}]}, a_node(taints=[TAINT]), None, id="tolerated"),
        pytest.param({}, a_node(taints=[{"key": "full", "effect": "NoSchedule"}]), None, id="only for the scheduler"),
        pytest.param(
            {"os": {"name": "windows"}}, a_node(),
            ("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"), id="other system",
        ),
        pytest.param(
            {"securityContext": {"sysctls": [{"name": "kernel/msgmax", "value": "1"}]}}, a_node(),
            ("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted'), id="unsafe sysctl",
        ),
        pytest.param({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}, a_node(), None, id="safe sysctl"),
        pytest.param(
            {"containers": [container(**HUGE)], "nodeSelector": {"disk": "hdd"}}, a_node(),
            ("OutOfcpu", "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"), id="too large comes first",
        ),
    ],
)  # fmt: skip
def test_a_node_says_why_it_refuses_a_pod(spec: Any, node: Object | None, expected: tuple[str, str] | None) -> None:
    containers = spec.pop("containers", [])
    assert refusal_of(make_pod(*containers, **spec), node, a_budget()) == expected


def test_a_pod_labelled_for_another_system_is_refused() -> None:
    pod = make_pod()
    pod["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    refusal = refusal_of(pod, a_node(), a_budget())
    assert refusal is not None
    assert refusal.reason == "PodOSSelectorNodeLabelDoesNotMatch"


def test_a_refused_pod_has_failed_and_nothing_is_told_of_its_containers() -> None:
    pod = make_pod()
    others = {"type": "example.com/gate", "status": "True"}
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort", "conditions": [{"type": "PodScheduled", "status": "True"}, others]}
    status = refusal_status(pod, EPOCH, refused("OutOfpods", "no"))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "OutOfpods", "Pod was rejected: no")
    assert status["conditions"] == [others], "those of the kubelet go"
    patch = status_patch(pod["status"], status)
    assert patch is not None
    assert {"$patch": "delete", "type": "PodScheduled"} in patch["conditions"]


class Nodes:
    """The Node objects: what the watch says, and what the API server would."""

    def __init__(self, heard: Object, now: Object) -> None:
        self.heard, self.now = heard, now
        self.fetched = 0

    def find(self, name: str) -> Object | None:
        return self.heard

    def images_changed(self, name: str) -> None:
        return

    async def fetch(self, name: str) -> Object | None:
        self.fetched += 1
        return self.now


@pytest.mark.parametrize("is_new", [True, False], ids=["labelled meanwhile", "not labelled"])
def test_a_label_that_is_not_heard_of_yet_turns_no_pod_down(is_new: bool) -> None:
    async def story(lab: Lab) -> None:
        now = a_node() if is_new else {"metadata": {"name": NODE.name, "labels": {}}, "spec": {}}
        nodes = Nodes({"metadata": {"name": NODE.name, "labels": {}}, "spec": {}}, now)
        manager = PodManager({NODE.name: NODE}, lambda _: a_budget(), Powers(), nodes)
        manager._context = lab.context
        manager.recovered()
        manager._added(make_pod(nodeSelector={"disk": "ssd"}))
        lab.workers["uid-web"] = manager.workers()[0]
        await lab.until_phase("Running" if is_new else "Failed")
        assert nodes.fetched == 1
        if not is_new:
            assert lab.events.seen == [("Warning", *AFFINITY)]

    in_lab(story)

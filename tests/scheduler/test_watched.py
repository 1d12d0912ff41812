"""What the scheduler keeps of the objects it watches."""

from __future__ import annotations

import copy

from kubecosm.services.scheduler.changes import same_for_scheduling
from kubecosm.services.scheduler.state.podinfo import compile_pod
from kubecosm.services.scheduler.watched import slim

from .helpers import pod


def rich_pod(node_name: str) -> dict[str, object]:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}
    made = pod(
        "p", node_name=node_name, cpu="1", memory="1Gi", labels={"app": "x"}, ports=[{"hostPort": 80}], priority=7,
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "tmp", "emptyDir": {}}],
        initContainers=[{"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}, "env": [{"name": "A"}]}],
        status={"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "2"}, "image": "x"}], "podIP": "127.64.0.1"},
    )  # fmt: skip
    made["metadata"]["managedFields"] = [{"manager": "x"}]
    made["metadata"]["annotations"] = {"a": "b"}
    made["spec"]["containers"][0]["env"] = [{"name": "A", "value": "B"}]
    return made


def test_a_placed_pod_means_the_same_with_less() -> None:
    whole = rich_pod("a")
    less = slim(copy.deepcopy(whole))
    before, after = compile_pod(whole), compile_pod(less)
    for field in ("uid", "labels", "node_name", "priority", "requests", "nonzero_cpu", "host_ports", "affinity", "claims"):
        assert getattr(before, field) == getattr(after, field), field
    assert len(repr(less)) < len(repr(whole)) * 0.8
    assert "env" not in less["spec"]["containers"][0]
    assert [volume["name"] for volume in less["spec"]["volumes"]] == ["data"]


def test_a_pending_pod_is_kept_whole() -> None:
    whole = rich_pod("")
    kept = slim(copy.deepcopy(whole))
    assert kept == {**whole, "metadata": {k: v for k, v in whole["metadata"].items() if k != "managedFields"}}  # type: ignore[index]


def test_a_resize_is_still_seen() -> None:
    before, after = slim(rich_pod("a")), rich_pod("a")
    after["status"]["containerStatuses"][0]["allocatedResources"] = {"cpu": "3"}  # type: ignore[index]
    assert not same_for_scheduling(before, slim(after))


def test_controllers_lose_their_templates_only() -> None:
    replica_set = {"metadata": {"name": "r"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "replicas": 1, "template": {"spec": {}}}}
    assert slim(replica_set)["spec"] == {"selector": {"matchLabels": {"a": "b"}}, "replicas": 1}


def test_a_heartbeat_of_a_node_changes_nothing() -> None:
    def beat(time: str) -> dict[str, object]:
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": time, "reason": "KubeletReady"}
        status = {"allocatable": {"cpu": "4"}, "conditions": [condition], "nodeInfo": {"osImage": "x"}, "addresses": []}
        return slim({"metadata": {"name": "n"}, "spec": {}, "status": status})

    first, second = beat("2026-01-01T00:00:00Z"), beat("2026-01-01T00:00:10Z")
    assert first == second
    assert first["status"] == {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}

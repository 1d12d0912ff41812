"""The controller manager is killed (kill -9) at moments from a seed while workloads churn; without an API server it costs nothing."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ClusterUnderTest, CommandLine, wait_for
from tests.kills import assert_idle, cluster_to_hurt, component_alone, kill_within, moments

pytestmark = pytest.mark.process

Object = dict[str, Any]
NODES = 3
KILLS = 6
KILLS_SLOW = 20
COMPLETIONS = 12
IDLE_CPU_SHARE_MAX = 0.1
"""In the first seconds, when every informer of some fifty tries again a few times; later it is a tenth of that."""


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterUnderTest]:
    """A cluster whose controller manager may be killed without others suffering."""
    with cluster_to_hurt(tmp_path, NODES) as running:
        yield running


def workload(kind: str, image: str, **spec: Any) -> Object:
    name = kind.lower()
    labels = {"app": name}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": image}]}
    body = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def job(name: str, **spec: Any) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", "exit 0"]}]}
    body = {"completions": COMPLETIONS, "parallelism": 4, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


def apply(cluster: ClusterUnderTest, *objects: Object) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def churn(cluster: ClusterUnderTest, r: random.Random, jobs: list[str]) -> dict[str, Object]:
    """Ask for something new of everything at once, and for two more Jobs; answers what is wanted now."""
    image = f"nginx:1.{r.randint(20, 26)}"
    wanted = [
        workload("Deployment", image, replicas=r.randint(2, 8)),
        workload("StatefulSet", image, replicas=r.randint(1, 4), serviceName="s", podManagementPolicy="Parallel"),
        workload("DaemonSet", image),
    ]
    names = [f"plain-{len(jobs)}", f"indexed-{len(jobs)}"]
    apply(cluster, *wanted, job(names[0]), job(names[1], completionMode="Indexed"))
    jobs += names
    return {one["kind"]: one for one in wanted}


def get(cluster: ClusterUnderTest, what: str) -> list[Object]:
    items: list[Object] = json.loads(cluster.kubectl("get", what, "-o", "json"))["items"]
    return items


def is_active(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] in ("Pending", "Running")


def is_settled(cluster: ClusterUnderTest, wanted: dict[str, Object]) -> bool:
    pods = [pod for pod in get(cluster, "pods") if is_active(pod)]
    count = Counter(pod["metadata"]["labels"]["app"] for pod in pods)
    images = {(pod["metadata"]["labels"]["app"], pod["spec"]["containers"][0]["image"]) for pod in pods}
    sizes = {kind: one["spec"].get("replicas", NODES) for kind, one in wanted.items()}
    return (
        count == Counter({kind.lower(): size for kind, size in sizes.items()})
        and images == {(kind.lower(), one["spec"]["template"]["spec"]["containers"][0]["image"]) for kind, one in wanted.items()}
        and all(pod["status"]["phase"] == "Running" for pod in pods)
    )


@pytest.mark.parametrize("kills", [KILLS, pytest.param(KILLS_SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_killed_controller_manager_makes_nothing_twice_and_leaves_nothing_behind(own_cluster: ClusterUnderTest, kills: int) -> None:
    r, jobs = moments("controller"), list[str]()
    wanted: dict[str, Object] = {}
    for _ in range(kills):
        wanted = churn(own_cluster, r, jobs)
        kill_within(own_cluster, "controller", r.uniform(0.0, 0.4))
    wait_for(lambda: is_settled(own_cluster, wanted), "everything is as it was last asked for", 60)
    wait_for(lambda: all("completionTime" in one["status"] for one in get(own_cluster, "jobs")), "all Jobs have completed", 60)
    assert {one["metadata"]["name"]: one["status"]["succeeded"] for one in get(own_cluster, "jobs")} == dict.fromkeys(jobs, COMPLETIONS)
    made = Counter(pod["metadata"]["labels"]["app"] for pod in get(own_cluster, "pods"))
    assert {name: made[name] for name in jobs} == dict.fromkeys(jobs, COMPLETIONS), "no pod too many"
    assert all("finalizers" not in pod["metadata"] for pod in get(own_cluster, "pods")), "every pod was counted and released"
    templates = [json.dumps(one["spec"]["template"]["spec"]) for one in get(own_cluster, "replicasets")]
    assert len(templates) == len(set(templates)), "one ReplicaSet a template"
    own_cluster.kubectl("delete", "deployment,statefulset,daemonset,job", "--all", "--wait=false")
    kill_within(own_cluster, "controller", 0.0)
    left = "deployments,replicasets,statefulsets,daemonsets,jobs,pods,controllerrevisions"
    started = time.monotonic()
    wait_for(lambda: not get(own_cluster, left), "nothing is left behind", 60 + 4 * kills)
    print(f"everything gone after {time.monotonic() - started:.0f} s")


def test_a_controller_manager_without_an_api_server_costs_no_processor(kubecosm: CommandLine) -> None:
    kubecosm("up", "--components", "apiserver", "--detach")
    with component_alone(kubecosm, "controller") as controller:
        wait_for(lambda: kubecosm.kubectl("get", "serviceaccount", "default", "--ignore-not-found"), "it works")
        kubecosm.kubectl("create", "deployment", "web", "--image=nginx")
        kubecosm("down")
        assert_idle(controller, IDLE_CPU_SHARE_MAX)
        kubecosm("up", "--components", "apiserver", "--detach")
        wait_for(lambda: "web-" in kubecosm.kubectl("get", "pods", "-o", "name"), "it goes on with its work", 40)

"""What the scheduler's port answers besides health and /metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from multidict import MultiDict

from kubecosm.api.resources import Object
from kubecosm.runtime.metrics import Metrics
from kubecosm.services.scheduler.config import Config
from kubecosm.services.scheduler.configuration import SchedulerConfiguration, from_document
from kubecosm.services.scheduler.configuration.effective import DEFAULT_ARGS, effective
from kubecosm.services.scheduler.debug import SchedulerEndpoints
from kubecosm.services.scheduler.framework.defaults import DEFAULT_PLUGINS, ProfileConfig
from kubecosm.services.scheduler.watched import slim

from .helpers import node, pod

HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def resources(*pods: Object) -> list[str]:
    endpoints = SchedulerEndpoints(Metrics(), pods=lambda: pods)
    answer = asyncio.run(endpoints.answer("/metrics/resources", MultiDict()))
    assert answer is not None
    assert answer.status == 200
    return [line for line in answer.body.decode().splitlines() if not line.startswith("#")]


def test_what_a_pod_requests_and_is_limited_to_is_told_with_its_units() -> None:
    wanted = {"cpu": "250m", "memory": "64Mi", "example.com/gpu": "1", "hugepages-2Mi": "4Mi", "ephemeral-storage": "0"}
    web = pod("web", requests=wanted, node_name="a", priority=7)
    web["spec"]["containers"][0]["resources"]["limits"] = {"cpu": "1"}
    web["spec"]["overhead"] = {"cpu": "50m", "memory": "1Mi"}
    where = 'namespace="default",node="a",pod="web",priority="7"'
    told = set(resources(slim(web)))
    assert told == {
        f'kube_pod_resource_limit{{{where},resource="cpu",scheduler="default-scheduler",unit="cores"}} 1.05',
        f'kube_pod_resource_request{{{where},resource="cpu",scheduler="default-scheduler",unit="cores"}} 0.3',
        f'kube_pod_resource_request{{{where},resource="memory",scheduler="default-scheduler",unit="bytes"}} 6.815744e+07',
        f'kube_pod_resource_request{{{where},resource="example.com/gpu",scheduler="default-scheduler",unit=""}} 1.0',
        f'kube_pod_resource_request{{{where},resource="hugepages-2Mi",scheduler="default-scheduler",unit="bytes"}} 4.194304e+06',
    }


def test_the_largest_init_container_and_pod_level_resources_count() -> None:
    one = pod("p", cpu="1", initContainers=[{"name": "i", "resources": {"requests": {"cpu": "3"}}}])
    assert resources(one)[0].endswith('unit="cores"} 3.0')
    two = pod("p", cpu="1", resources={"requests": {"cpu": "2"}, "limits": {"cpu": "4"}})
    assert [line.rsplit(" ", 1)[1] for line in resources(two)] == ["4.0", "2.0"]


def test_configz_tells_the_defaults_of_all_plugins() -> None:
    told = effective(SchedulerConfiguration((ProfileConfig(),)), Config())["kubescheduler.config.k8s.io"]
    assert (told["apiVersion"], told["kind"], told["parallelism"]) == (HEAD["apiVersion"], HEAD["kind"], 16)
    assert told["leaderElection"] == {
        "leaderElect": False, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s", "resourceLock": "leases",
        "resourceName": "kube-scheduler", "resourceNamespace": "kube-system",
    }  # fmt: skip
    [profile] = told["profiles"]
    assert [plugin["name"] for plugin in profile["plugins"]["multiPoint"]["enabled"]] == list(DEFAULT_PLUGINS)
    args = {item["name"]: item["args"] for item in profile["pluginConfig"]}
    assert list(args) == list(DEFAULT_ARGS)
    assert args["InterPodAffinity"]["hardPodAffinityWeight"] == 1
    assert args["VolumeBinding"] == {"apiVersion": HEAD["apiVersion"], "kind": "VolumeBindingArgs", "bindTimeoutSeconds": 600}


def test_configz_tells_what_a_file_says_and_can_be_read_back() -> None:
    document: dict[str, Any] = {
        **HEAD, "podMaxBackoffSeconds": 20, "percentageOfNodesToScore": 30, "clientConnection": {"qps": 5, "burst": 7},
        "leaderElection": {"leaderElect": True, "leaseDuration": "30s"},
        "extenders": [{"urlPrefix": "http://x", "filterVerb": "f"}],
        "profiles": [{
            "schedulerName": "mine", "percentageOfNodesToScore": 10,
            "plugins": {"multiPoint": {"disabled": [{"name": "ImageLocality"}]}, "score": {"disabled": [{"name": "NodeAffinity"}]}},
            "pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 50}}],
        }],
    }  # fmt: skip
    settings = from_document(document, 0)
    told = effective(settings, Config())["kubescheduler.config.k8s.io"]
    assert (told["podMaxBackoffSeconds"], told["percentageOfNodesToScore"], told["clientConnection"]["qps"]) == (20, 30, 5)
    assert (told["leaderElection"]["leaderElect"], told["leaderElection"]["leaseDuration"]) == (True, "30s")
    assert told["extenders"] == [{"httpTimeout": "5s", "urlPrefix": "http://x", "filterVerb": "f"}]
    [profile] = told["profiles"]
    assert profile["pluginConfig"][0]["args"]["hardPodAffinityWeight"] == 50
    assert "ImageLocality" not in {plugin["name"] for plugin in profile["plugins"]["multiPoint"]["enabled"]}
    again = from_document(orjson.loads(orjson.dumps(told)), 0).profiles[0]
    assert (again.points["score"], again.scheduler_name) == (settings.profiles[0].points["score"], "mine")


@pytest.mark.parametrize("path", ["/configz", "/metrics/resources"])
def test_both_answer_before_there_is_anything_to_schedule(path: str) -> None:
    answer = asyncio.run(SchedulerEndpoints(Metrics()).answer(path, MultiDict()))
    assert answer is not None
    assert answer.status == 200
    assert node("a")["metadata"]["name"] not in answer.body.decode().split()

"""Explanations of decisions, their bound, and the debug endpoint."""

from __future__ import annotations

import asyncio

import orjson
from multidict import MultiDict

from kubecosm.runtime.metrics import Metrics
from kubecosm.services.scheduler.debug import SchedulerEndpoints
from kubecosm.services.scheduler.decisions import Decisions
from kubecosm.services.scheduler.explain import Explainer, describe
from kubecosm.services.scheduler.framework.events import Action, ClusterEvent, EventResource
from kubecosm.services.scheduler.metrics import SchedulerMetrics

from .helpers import Cluster, node, pod


def test_a_scheduled_pod_shows_every_node_with_scores_or_refusal() -> None:
    cluster = Cluster(node("a", cpu="4"), node("b", cpu="8"), node("c", unschedulable=True))
    assert cluster.schedule(pod("web", cpu="1", memory="1Gi")) == ["b"]
    decision = cluster.scheduler.decisions.get("default/web")
    assert decision is not None
    told = decision.explain()
    assert {key: told[key] for key in ("pod", "result", "nodeName", "schedulerName", "attempt", "feasibleNodes")} == {
        "pod": "default/web", "result": "Scheduled", "nodeName": "b", "schedulerName": "default-scheduler", "attempt": 1,
        "feasibleNodes": 2,
    }  # fmt: skip
    best, second, refused = told["nodes"]
    assert [best["node"], second["node"]] == ["b", "a"]
    assert best["score"] == sum(best["scores"].values()) > second["score"]
    assert best["scores"]["TaintToleration"] == 300
    assert refused == {
        "node": "c", "result": "UnschedulableAndUnresolvable", "plugin": "NodeUnschedulable", "reasons": ["node(s) were unschedulable"],
    }  # fmt: skip


def test_a_rejected_pod_shows_the_message_and_reasons() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.schedule(pod("web", cpu="2"))
    decision = cluster.scheduler.decisions.get("default/web")
    assert decision is not None
    told = decision.explain()
    assert told["result"] == "Unschedulable"
    assert told["message"] == cluster.message("default/web")
    assert told["nodes"] == [
        {"node": "a", "result": "UnschedulableAndUnresolvable", "plugin": "NodeResourcesFit", "reasons": ["Insufficient cpu"]}
    ]


def test_a_decision_is_kept_as_it_was_made() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", unschedulable=True))
    cluster.schedule(pod("web", cpu="1"))
    before = cluster.scheduler.decisions.get("default/web")
    assert before is not None
    told = before.explain()
    cluster.handlers.node_updated(node("b", unschedulable=True), node("b", taints=[{"key": "k", "effect": "NoSchedule"}]))
    cluster.handlers.node_deleted(node("a", cpu="1"))
    assert before.explain() == told


def test_memory_for_decisions_is_bounded() -> None:
    cluster = Cluster(*(node(f"n{i}") for i in range(50)))
    cluster.scheduler.decisions = decisions = Decisions(bytes_max=20_000)
    for index in range(30):
        cluster.schedule(pod(f"p{index}"))
    assert 0 < len(decisions) < 30
    assert decisions.get("default/p0") is None
    assert decisions.get("default/p29") is not None
    assert sum(d.size_bytes for d in decisions._by_pod.values()) <= 20_000


def test_the_endpoint_answers_by_pod() -> None:
    cluster = Cluster(node("a"))
    cluster.schedule(pod("web"))
    endpoints = SchedulerEndpoints(Metrics(), explainer=Explainer(cluster.scheduler))

    def ask(query: dict[str, str]) -> tuple[int, bytes]:
        answer = asyncio.run(endpoints.answer("/debug/scheduling", MultiDict(query)))
        assert answer is not None
        return answer.status, answer.body

    status, body = ask({"pod": "default/web"})
    assert (status, orjson.loads(body)["nodeName"]) == (200, "a")
    assert ask({"pod": "default/other"})[0] == 404
    assert ask({})[0] == 400
    healthy = asyncio.run(endpoints.answer("/livez", MultiDict()))
    assert healthy is not None
    assert healthy.status == 200


def test_metrics_have_kube_schedulers_names() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.schedule(pod("first", cpu="1"), pod("second", cpu="1"))
    text = cluster.metrics.render()[1].decode()
    for line in (
        'scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 1.0',
        'scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"} 1.0',
        "scheduler_pod_scheduling_attempts_count 1.0",
        'scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} 1.0',
        'scheduler_pending_pods{queue="unschedulable"} 1.0',
        'scheduler_cache_size{type="nodes"} 1.0',
        'scheduler_scheduling_attempt_duration_seconds_count{profile="default-scheduler",result="scheduled"} 1.0',
        "scheduler_framework_extension_point_duration_seconds_count"
        '{extension_point="Filter",profile="default-scheduler",status="Success"} 2.0',
        'scheduler_unschedulable_pods{plugin="NodeResourcesFit",profile="default-scheduler"} 1.0',
    ):
        assert line in text, line


def test_a_pending_pod_tells_what_it_waits_for() -> None:
    cluster = Cluster(node("a", cpu="1"))
    explainer = Explainer(cluster.scheduler)
    cluster.add(pod("gated", schedulingGates=[{"name": "x/y"}]), pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("web", nodeSelector={"no": "such"}))
    gated, web = explainer.explain("default/gated"), explainer.explain("default/web")
    assert gated is not None
    assert (gated["state"], gated["queue"]["reason"], gated["nodes"]) == ("Gated", "waiting for scheduling gates: [x/y]", [])
    assert web is not None
    assert (web["state"], web["queue"]["attempts"], web["queue"]["plugins"]) == ("Unschedulable", 1, ["NodeAffinity"])
    assert web["queue"]["retriedOn"]["NodeAffinity"] == ["Node: Add, UpdateNodeLabel"]
    assert web["queue"]["retriedInSeconds"] == 300
    cluster.handlers.node_added(node("b", labels={"no": "such"}))
    backing_off = explainer.explain("default/web")
    assert backing_off is not None
    assert (backing_off["state"], backing_off["queue"]["backoffSeconds"]) == ("BackOff", 1.0)


def test_preemption_is_explained_with_its_victims() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("low", cpu="1", node_name="a"))
    cluster.schedule(pod("high", cpu="1", priority=10))
    told = Explainer(cluster.scheduler).explain("default/high")
    assert told is not None
    assert told["preemption"] == {"nodeName": "a", "victims": ["default/low"]}
    assert told["nominatedNodeName"] == "a"


def test_a_pod_of_the_same_name_is_not_explained_by_its_predecessor() -> None:
    cluster = Cluster(node("a"))
    first = pod("web", nodeSelector={"no": "such"})
    cluster.schedule(first)
    cluster.handlers.pod_deleted(first)
    second = pod("web", schedulingGates=[{"name": "x/y"}])
    second["metadata"]["uid"] = "another"
    cluster.add(second)
    told = Explainer(cluster.scheduler).explain("default/web")
    assert told is not None
    assert (told["uid"], told["state"], told["attempt"]) == ("another", "Gated", 0)


def test_some_attempts_tell_how_long_each_plugin_took() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.add(pod("low", cpu="4", node_name="a"), pod("low-2", cpu="4", node_name="b"))
    cluster.schedule(*(pod(f"p{i}", labels={"app": "x"}) for i in range(60)), pod("high", cpu="4", priority=10))
    text = cluster.metrics.render()[1].decode()
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("scheduler_plugin_execution_duration_seconds_count"))
    labels = '{extension_point="Filter",plugin="NodeResourcesFit",status="Success"}'
    assert 0 < float(counts[f"scheduler_plugin_execution_duration_seconds_count{labels}"]) < 30
    assert any('extension_point="Bind",plugin="DefaultBinder"' in line for line in counts)
    assert 'scheduler_preemption_goroutines_execution_total{result="success"} 1.0' in text
    assert 'scheduler_event_handling_duration_seconds_count{event="AssignedPodAdd"} 62.0' in text


def test_an_idle_scheduler_serves_its_figures_before_the_engine_is_loaded() -> None:
    metrics = Metrics()
    SchedulerMetrics(metrics)
    text = metrics.render()[1].decode()
    for queue in ("active", "backoff", "unschedulable", "gated"):
        assert f'scheduler_pending_pods{{queue="{queue}"}} 0.0' in text
    assert "scheduler_preemption_attempts_total 0.0" in text


def test_an_event_of_every_update_is_told_in_one_word() -> None:
    """A DeviceClass' events are `Add, Update`: not a list of whatever may change in a node or a pod."""
    assert describe(ClusterEvent(EventResource.DEVICE_CLASS, Action.ADD | Action.UPDATE)) == "resource.k8s.io/DeviceClass: Add, Update"
    assert describe(ClusterEvent(EventResource.NODE, Action.ADD | Action.UPDATE_NODE_LABEL)) == "Node: Add, UpdateNodeLabel"

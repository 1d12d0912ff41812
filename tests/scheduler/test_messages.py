"""The words of FailedScheduling events and PodScheduled conditions, as kube-scheduler 1.36 says them."""

from __future__ import annotations

import pytest

from kubecosm.services.scheduler.framework.status import MESSAGE_LENGTH_MAX, fit_message, truncate

from .helpers import Cluster, node, pod

NO_HELP = "no new claims to deallocate, preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."
TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


def test_reasons_are_counted_and_sorted_as_text() -> None:
    message = fit_message(12, {"Insufficient cpu": 10, "node(s) were unschedulable": 2})
    assert message == "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) were unschedulable."


def test_a_prefilter_message_stands_instead_of_reasons() -> None:
    assert fit_message(3, {"x": 3}, "nothing will do", "preemption: no") == "0/3 nodes are available: nothing will do. preemption: no"


def test_long_messages_are_cut_for_events() -> None:
    cut = truncate("x" * 2000)
    assert len(cut) == MESSAGE_LENGTH_MAX
    assert cut.endswith("x ...")


def test_taints_and_resources_of_different_nodes_are_told_together() -> None:
    cluster = Cluster(node("a", taints=[TAINT]), node("b", cpu="1"), node("c", cpu="1"))
    assert cluster.schedule(pod("web", cpu="2")) == [""]
    assert cluster.message("default/web") == (
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. " + NO_HELP.format(3)
    )


def test_a_node_that_lacks_several_resources_gives_all_of_them() -> None:
    cluster = Cluster(node("a", cpu="1", memory="1Gi", pods="0"))
    cluster.schedule(pod("web", cpu="2", memory="2Gi", requests={"example.com/gpu": "1"}))
    assert cluster.message("default/web") == (
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory, 1 Too many pods. "
        + NO_HELP.format(1)
    )


def test_pods_that_use_up_a_node_could_be_preempted_but_there_are_no_victims() -> None:
    cluster = Cluster(node("a", cpu="1"))
    assert cluster.schedule(pod("first", cpu="1"), pod("second", cpu="1")) == ["a", ""]
    assert cluster.message("default/second") == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )


def test_preemption_policy_never_is_named() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.add(pod("first", cpu="1", node_name="a"))
    cluster.schedule(pod("second", cpu="1", priority=10, preemptionPolicy="Never"))
    assert cluster.message("default/second").endswith(
        "1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    )


def test_a_daemon_pod_names_the_plugin_that_left_out_the_other_nodes() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b"), node("c"))
    fields = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [fields]}]}}}
    cluster.schedule(pod("daemon", cpu="2", affinity=affinity))
    assert cluster.message("default/daemon") == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. " + NO_HELP.format(3)
    )


def test_without_nodes_there_is_nothing_to_choose_from() -> None:
    cluster = Cluster()
    cluster.schedule(pod("web"))
    assert cluster.message("default/web") == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([], 'persistentvolumeclaim "data" not found'),
        ([{"spec": {"storageClassName": "fast"}}], "pod has unbound immediate PersistentVolumeClaims"),
        ([{"spec": {}, "status": {"phase": "Lost"}}], 'persistentvolumeclaim "data" bound to non-existent persistentvolume ""'),
    ],
    ids=["missing", "immediate", "lost"],
)
def test_claims_that_stop_a_pod_are_named(claims: list[dict[str, object]], message: str) -> None:
    cluster = Cluster(node("a"))
    for claim in claims:
        cluster.scheduler.handle.volumes.set_claim({"metadata": {"namespace": "default", "name": "data"}, **claim})
    cluster.schedule(pod("db", volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]))
    assert cluster.message("default/db") == f"0/1 nodes are available: {message}. " + NO_HELP.format(1)


def test_the_condition_says_what_the_event_says() -> None:
    cluster = Cluster(node("a", unschedulable=True))
    cluster.schedule(pod("web"))
    [(key, patch)] = cluster.api.patches
    assert key == "default/web"
    assert patch == {
        "conditions": [
            {
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastProbeTime": None,
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1, "message": cluster.message("default/web"),
            }
        ]
    }  # fmt: skip


def test_an_unchanged_verdict_is_not_written_again() -> None:
    cluster = Cluster(node("a", unschedulable=True))
    waiting = pod("web")
    cluster.schedule(waiting)
    told = {**waiting, "status": {"phase": "Pending", "conditions": cluster.api.patches[0][1]["conditions"]}}
    cluster.handlers.pod_updated(waiting, told)
    cluster.scheduler.queue.activate("uid-default-web")
    cluster.schedule_next()
    assert len(cluster.api.patches) == 1
    assert len(cluster.api.events) == 2


def test_scheduled_is_told_with_namespace_and_node() -> None:
    cluster = Cluster(node("a"))
    assert cluster.schedule(pod("web", namespace="shop")) == ["a"]
    assert cluster.api.events == [("shop/web", "Normal", "Scheduled", "Successfully assigned shop/web to a")]

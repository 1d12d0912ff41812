"""ReplicaSets and ReplicationControllers in virtual time."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import Any

from kubecosm.api.errors import Forbidden
from kubecosm.api.meta import controller_of, get_condition, is_deleting
from kubecosm.api.resources import EVENTS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.common.replicas import age_ratios
from kubecosm.services.controller.workloads import replicaset, replicationcontroller
from kubecosm.testing.virtualtime import EPOCH

from .fake_api import FakeApi
from .harness import Kubelet, controllers, pod_template, run, settle, wait_for


def replica_set(replicas: int, **spec: Any) -> Object:
    body = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template(), **spec}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "default"}, "spec": body}


def status(api: FakeApi) -> Object:
    found: Object = api.all(REPLICASETS)[0].get("status") or {}
    return found


def test_creates_its_pods_once_and_counts_them() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            await api.create(REPLICASETS, replica_set(40))
            await wait_for(lambda: status(api).get("readyReplicas") == 40)
            await settle()
        assert api.count("create", "pods") == 40
        pod = api.all(PODS)[0]
        assert pod["metadata"]["name"].startswith("web-")
        assert controller_of(pod)["name"] == "web"  # type: ignore[index]
        assert status(api) == {
            "replicas": 40, "fullyLabeledReplicas": 40, "readyReplicas": 40, "availableReplicas": 40, "terminatingReplicas": 0,
            "observedGeneration": 1,
        }  # fmt: skip

    run(test)


def test_a_refused_create_is_met_by_one_call_then_more_and_told_of_in_a_condition() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            api.answer_with(Forbidden('pods "" is forbidden: exceeded quota'), "create", "pods", times=3)
            await api.create(REPLICASETS, replica_set(20))
            await wait_for(lambda: get_condition(api.all(REPLICASETS)[0], "ReplicaFailure"))
            condition = get_condition(api.all(REPLICASETS)[0], "ReplicaFailure")
            assert condition is not None
            assert condition["reason"] == "FailedCreate"
            assert api.count("create", "pods") <= 2  # one, and perhaps its retry
            await wait_for(lambda: status(api).get("readyReplicas") == 20)
            assert get_condition(api.all(REPLICASETS)[0], "ReplicaFailure") is None
            await settle()
        assert api.count("create", "pods") == 23
        reasons = [event["reason"] for event in api.all(EVENTS)]
        assert "FailedCreate" in reasons
        assert "SuccessfulCreate" in reasons

    run(test)


def test_scale_down_takes_pods_that_are_not_ready_first() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        async with controllers(api, replicaset.build(None)), kubelet.at_work():
            await api.create(REPLICASETS, replica_set(4))
            await wait_for(lambda: status(api).get("readyReplicas") == 4)
            sick = api.all(PODS)[2]
            api.set_status(PODS, sick, conditions=[{"type": "Ready", "status": "False"}])
            await settle()
            found = await api.get(REPLICASETS, "web", "default")
            await api.update(REPLICASETS, {**found, "spec": {**found["spec"], "replicas": 3}})
            await wait_for(lambda: len(api.all(PODS)) == 3 and status(api).get("replicas") == 3)
        assert sick["metadata"]["name"] not in {pod["metadata"]["name"] for pod in api.all(PODS)}

    run(test)


def test_adopts_matching_pods_and_releases_those_that_stop_matching() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            lone = {"metadata": {"name": "lone", "namespace": "default", "labels": {"app": "web"}}, "spec": pod_template()["spec"]}
            await api.create(PODS, lone)
            await api.create(REPLICASETS, replica_set(2))
            await wait_for(lambda: status(api).get("readyReplicas") == 2)
            assert len(api.all(PODS)) == 2
            adopted = await api.get(PODS, "lone", "default")
            assert controller_of(adopted)["name"] == "web"  # type: ignore[index]
            await api.update(PODS, {**adopted, "metadata": {**adopted["metadata"], "labels": {"app": "other"}}})
            await wait_for(lambda: len(api.all(PODS)) == 3)
            assert controller_of(await api.get(PODS, "lone", "default")) is None

    run(test)


def test_terminating_pods_are_replaced_and_counted_apart() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api, stop_seconds=5).at_work():
            await api.create(REPLICASETS, replica_set(2))
            await wait_for(lambda: status(api).get("readyReplicas") == 2)
            await api.delete(PODS, api.all(PODS)[0]["metadata"]["name"], "default")
            await wait_for(lambda: status(api).get("terminatingReplicas") == 1 and status(api).get("readyReplicas") == 2)
            assert sum(not is_deleting(pod) for pod in api.all(PODS)) == 2
            await wait_for(lambda: status(api).get("terminatingReplicas") == 0)

    run(test)


def test_min_ready_seconds_delay_availability_without_polling() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            await api.create(REPLICASETS, replica_set(3, minReadySeconds=30))
            await wait_for(lambda: status(api).get("readyReplicas") == 3)
            before = api.clock.monotonic()
            writes = api.count("update/status", "replicasets")
            await wait_for(lambda: status(api).get("availableReplicas") == 3)
            assert 28 <= api.clock.monotonic() - before <= 32
            assert api.count("update/status", "replicasets") - writes <= 2

    run(test)


def test_a_replication_controller_keeps_its_pods() -> None:
    async def test(api: FakeApi) -> None:
        body = {
            "metadata": {"name": "rc", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"app": "web"}, "template": pod_template()},
        }
        async with controllers(api, replicationcontroller.build(None)), Kubelet(api).at_work():
            await api.create(REPLICATIONCONTROLLERS, body)
            await wait_for(lambda: (api.all(REPLICATIONCONTROLLERS)[0].get("status") or {}).get("readyReplicas") == 3)
            await api.delete(PODS, api.all(PODS)[0]["metadata"]["name"], "default")
            await wait_for(lambda: len(api.all(PODS)) == 3 and not any(is_deleting(pod) for pod in api.all(PODS)))
        assert api.all(REPLICATIONCONTROLLERS)[0]["status"]["replicas"] == 3

    run(test)


def test_nodes_do_not_matter_to_a_replica_set_that_stands_alone() -> None:
    """Only siblings under one Deployment are ranked by the nodes they share; else it is the uid among pods of like age."""

    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            await api.create(REPLICASETS, replica_set(3))
            await wait_for(lambda: status(api).get("readyReplicas") == 3)
            first, *others = sorted(api.all(PODS), key=lambda pod: str(pod["metadata"]["uid"]))
            for pod, node_name in ((first, "a"), (others[0], "b"), (others[1], "b")):
                api.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": node_name}})
            await settle()
            found = await api.get(REPLICASETS, "web", "default")
            await api.update(REPLICASETS, {**found, "spec": {**found["spec"], "replicas": 2}})
            await wait_for(lambda: len(api.all(PODS)) == 2)
        assert {pod["spec"]["nodeName"] for pod in api.all(PODS)} == {"b"}

    run(test)


def test_a_refused_deletion_is_told_of_in_a_condition_and_an_event() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, replicaset.build(None)), Kubelet(api).at_work():
            await api.create(REPLICASETS, replica_set(1))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            api.answer_with(Forbidden("not now"), "delete", "pods", times=3)
            found = await api.get(REPLICASETS, "web", "default")
            await api.update(REPLICASETS, {**found, "spec": {**found["spec"], "replicas": 0}})
            await wait_for(lambda: get_condition(api.all(REPLICASETS)[0], "ReplicaFailure"))
            condition = get_condition(api.all(REPLICASETS)[0], "ReplicaFailure")
            assert condition is not None
            assert (condition["reason"], condition["message"]) == ("FailedDelete", "unable to delete pods: not now")
            await wait_for(lambda: not api.all(PODS))
            await settle()
        assert ("FailedDelete", "Error deleting: not now") in {(event["reason"], event["message"]) for event in api.all(EVENTS)}

    run(test)


def test_ages_of_the_pods_chosen_are_told_in_relation_to_the_youngest_ready_one() -> None:
    def pod(seconds_old: float, *, ready: bool = True) -> Object:
        conditions = [{"type": "Ready", "status": str(ready)}]
        meta = {"creationTimestamp": format_time(EPOCH - timedelta(seconds=seconds_old))}
        return {"metadata": meta, "status": {"conditions": conditions}}

    old, young, unready = pod(40), pod(10), pod(1, ready=False)
    assert age_ratios([old, young, unready], [unready, young, old], EPOCH) == [1.0, 4.0]
    assert age_ratios([pod(0)], [pod(0)], EPOCH) == [inf]

"""What PodDisruptionBudgets allow, and disruptions that did not come about; in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import get_condition
from kubecosm.api.resources import EVENTS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS, Object
from kubecosm.api.times import format_time
from kubecosm.services.controller.workloads import disruption
from kubecosm.testing.virtualtime import EPOCH

from .fake_api import FakeApi
from .harness import Kubelet, controllers, run, running, settle, wait_for


def pod_on(node_name: str, name: str = "p", **spec: Any) -> Object:
    body = {"nodeName": node_name, "containers": [], "tolerations": [], **spec}
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}}, "spec": body}


def budget(**spec: Any) -> Object:
    return {
        "metadata": {"name": "b", "namespace": "default", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


@pytest.mark.parametrize(
    ("spec", "allowed", "desired", "expected"),
    [
        pytest.param({"minAvailable": 2}, 2, 2, 4, id="minAvailable"),
        pytest.param({"maxUnavailable": 1}, 1, 3, 4, id="maxUnavailable"),
        pytest.param({"minAvailable": "50%"}, 2, 2, 4, id="minAvailable percent"),
        pytest.param({"maxUnavailable": "50%"}, 2, 2, 4, id="maxUnavailable percent"),
    ],
)
def test_a_budget_allows_what_healthy_pods_can_spare(spec: Object, allowed: int, desired: int, expected: int) -> None:
    async def test(api: FakeApi) -> None:
        owner = {"metadata": {"name": "rs", "namespace": "default", "uid": "rs-uid"}, "spec": {"replicas": 4, "template": {}}}
        api.put(REPLICASETS, owner)
        ref = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs-uid", "controller": True}
        async with controllers(api, disruption.build(None)), Kubelet(api).at_work():
            for index in range(4):
                body = pod_on("a", f"p{index}")
                api.put(PODS, {**body, "metadata": {**body["metadata"], "ownerReferences": [ref]}, "status": running(api)})
            await api.create(PODDISRUPTIONBUDGETS, budget(**spec))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
            await settle()
            status = api.all(PODDISRUPTIONBUDGETS)[0]["status"]
            counts = [status[field] for field in ("disruptionsAllowed", "desiredHealthy", "expectedPods", "currentHealthy")]
            assert counts == [allowed, desired, expected, 4]
            assert status["conditions"][0]["reason"] == "SufficientPods"
            api.set_status(PODS, api.all(PODS)[0], conditions=[])
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0]["status"]["disruptionsAllowed"] == allowed - 1)

    run(test)


def owned_by(api_version: str, kind: str, uid: str) -> Object:
    ref = {"apiVersion": api_version, "kind": kind, "name": "owner", "uid": uid, "controller": True}
    body = pod_on("a")
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [ref]}}


def budget_condition(api: FakeApi) -> tuple[str, str]:
    condition = api.all(PODDISRUPTIONBUDGETS)[0]["status"]["conditions"][0]
    return condition["reason"], condition["message"]


def test_pods_without_controller_do_not_count_by_size() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, disruption.build(None)):
            api.put(PODS, {**pod_on("a"), "status": running(api)})
            await api.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        assert budget_condition(api) == ("InsufficientPods", "")
        assert api.all(PODDISRUPTIONBUDGETS)[0]["status"]["expectedPods"] == 0

    run(test)


def test_a_budget_over_pods_of_a_custom_resource_asks_for_its_scale() -> None:
    async def test(api: FakeApi) -> None:
        gadgets = api.serve_custom("example.com", "v1", "Gadget", "gadgets")
        owner = await api.create(gadgets, {"metadata": {"name": "owner", "namespace": "default"}, "spec": {"replicas": 4}})
        api.put(PODS, {**owned_by("example.com/v1", "Gadget", owner["metadata"]["uid"]), "status": running(api)})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        status = api.all(PODDISRUPTIONBUDGETS)[0]["status"]
        assert (status["expectedPods"], status["desiredHealthy"], status["currentHealthy"]) == (4, 3, 1)

    run(test)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(NotFound("no"), "jobs.batch does not implement the scale subresource", id="no scale"),
        pytest.param(NotFound("no", details={"name": "owner"}), 'found no controllers for pod "p"', id="no such object"),
    ],
)
def test_a_budget_over_pods_of_unknown_size_allows_nothing_and_says_why(error: NotFound, message: str) -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**owned_by("batch/v1", "Job", "u"), "status": running(api)})
        api.answer_with(error, "get", "jobs", 9)
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
            await settle()
        assert budget_condition(api) == ("SyncFailed", message)
        assert api.all(EVENTS)[0]["reason"] == "CalculateExpectedPodCountFailed"

    run(test)


def test_a_disruption_that_does_not_come_about_is_called_off_after_two_minutes() -> None:
    async def test(api: FakeApi) -> None:
        condition = {
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": format_time(EPOCH),
        }  # fmt: skip

        def status() -> str:
            found = get_condition(api.all(PODS)[0], "DisruptionTarget")
            assert found is not None
            return str(found["status"])

        api.put(PODS, {**pod_on("a"), "status": {"phase": "Running", "conditions": [condition]}})
        async with controllers(api, disruption.build(None)):
            await settle(110)
            assert status() == "True"
            await settle(20)
            assert status() == "False"
            condition_again = {**condition, "lastTransitionTime": format_time(api.clock.now())}
            api.set_status(PODS, api.all(PODS)[0], conditions=[condition_again])
            await settle(110)
            assert status() == "True", "counted anew"
            await settle(20)
            assert status() == "False"

    run(test)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"phase": "Running", "reason": "TerminationByKubelet"}, id="by its kubelet, which may take its time"),
        pytest.param({"phase": "Failed", "reason": "EvictionByEvictionAPI"}, id="and it has ended"),
    ],
)
def test_a_pod_that_is_disrupted_for_good_keeps_saying_so(told: Object) -> None:
    async def test(api: FakeApi) -> None:
        condition = {"type": "DisruptionTarget", "status": "True", "reason": told["reason"], "lastTransitionTime": format_time(EPOCH)}
        api.put(PODS, {**pod_on("a"), "status": {"phase": told["phase"], "conditions": [condition]}})
        async with controllers(api, disruption.build(None)):
            await settle(300)
        assert api.all(PODS)[0]["status"]["conditions"] == [condition]

    run(test)


def test_a_disruption_called_off_leaves_no_reason_behind() -> None:
    async def test(api: FakeApi) -> None:
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": format_time(EPOCH)}
        api.put(PODS, {**pod_on("a"), "status": {"phase": "Running", "conditions": [condition]}})
        async with controllers(api, disruption.build(None)):
            await settle(130)
        (found,) = api.all(PODS)[0]["status"]["conditions"]
        assert found["status"] == "False"
        assert not found["reason"]
        assert not found["message"]

    run(test)


def test_a_budget_of_sizes_over_pods_without_controller_says_so() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(minAvailable="50%"))
            await wait_for(lambda: api.all(EVENTS))
        (event,) = api.all(EVENTS)
        assert (event["type"], event["reason"]) == ("Warning", "UnmanagedPods")
        assert event["message"].startswith(
            "Pods selected by this PodDisruptionBudget (selector: "
            "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be"
        )

    run(test)


def test_a_workload_of_another_group_is_asked_for_its_scale_though_its_kind_is_known() -> None:
    async def test(api: FakeApi) -> None:
        sets = api.serve_custom("apps.example.com", "v1", "StatefulSet", "statefulsets")
        owner = await api.create(sets, {"metadata": {"name": "owner", "namespace": "default"}, "spec": {"replicas": 3}})
        api.put(PODS, {**owned_by("apps.example.com/v1", "StatefulSet", owner["metadata"]["uid"]), "status": running(api)})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        assert api.all(PODDISRUPTIONBUDGETS)[0]["status"]["expectedPods"] == 3

    run(test)


def test_pods_that_have_ended_are_expected_but_not_healthy() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        api.put(PODS, {**pod_on("a", "q"), "status": {"phase": "Succeeded"}})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(minAvailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        status = api.all(PODDISRUPTIONBUDGETS)[0]["status"]
        assert (status["expectedPods"], status["currentHealthy"]) == (2, 1)

    run(test)


def test_a_budget_that_asks_for_nothing_allows_nothing() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget())
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        status = api.all(PODDISRUPTIONBUDGETS)[0]["status"]
        assert (status["disruptionsAllowed"], status["expectedPods"], status["currentHealthy"]) == (0, 0, 1)

    run(test)


def test_a_budget_whose_count_fails_has_not_observed_its_spec() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**owned_by("apps/v1", "ReplicaSet", "unknown"), "status": running(api)})
        async with controllers(api, disruption.build(None)):
            await api.create(PODDISRUPTIONBUDGETS, budget(maxUnavailable=1))
            await wait_for(lambda: api.all(PODDISRUPTIONBUDGETS)[0].get("status"))
        status = api.all(PODDISRUPTIONBUDGETS)[0]["status"]
        assert "observedGeneration" not in status
        assert "observedGeneration" not in status["conditions"][0]
        assert budget_condition(api) == ("SyncFailed", 'found no controllers for pod "p"')

    run(test)


def test_a_pod_under_two_budgets_and_one_that_was_not_deleted_in_time_are_told_of() -> None:
    async def test(api: FakeApi) -> None:
        api.put(PODS, {**pod_on("a"), "status": running(api)})
        granted = {"status": {"disruptedPods": {"p": format_time(EPOCH)}}}
        api.put(PODDISRUPTIONBUDGETS, {**budget(minAvailable=1), **granted})
        async with controllers(api, disruption.build(None)):
            await settle(130)
            second = budget(minAvailable=1)
            await api.create(PODDISRUPTIONBUDGETS, {**second, "metadata": {**second["metadata"], "name": "c"}})
            await settle(5)
        told = {event["reason"]: event["message"] for event in api.all(EVENTS) if event["involvedObject"]["kind"] == "Pod"}
        assert told == {
            "NotDeleted": "Pod was expected by PDB default/b to be deleted but it wasn't",
            "MultiplePodDisruptionBudgets": 'Pod "default"/"p" matches multiple PodDisruptionBudgets.  Chose "c" arbitrarily.',
        }
        assert "disruptedPods" not in api.all(PODDISRUPTIONBUDGETS)[0]["status"]

    run(test)

"""PodDisruptionBudgets: their life over the wire, what the controller counts, and what the eviction API makes of it."""

from __future__ import annotations

import pytest

from tests.conformance.apps.workloads import Object, Workloads, pod_template
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

LABELS = {"app": "web"}
SELECTOR = "app=web"
WHAT = "poddisruptionbudgets/web"


def budget(**spec: object) -> Object:
    return {"selector": {"matchLabels": LABELS}, **spec}


def run_pods(work: Workloads, count: int) -> list[Object]:
    spec = {"replicas": count, "selector": {"matchLabels": LABELS}, "template": pod_template(LABELS)}
    work.create("replicasets/web", spec)
    return work.wait_ready(SELECTOR, count)


@promise("DisruptionController should create a PodDisruptionBudget")
def test_the_life_of_a_budget(work: Workloads) -> None:
    work.create(WHAT, budget(minAvailable="1%"))
    work.wait_status(WHAT, observedGeneration=1)
    work.put(WHAT, lambda found: found["spec"].update(minAvailable="2%"))
    assert work.wait_status(WHAT, observedGeneration=2)["spec"]["minAvailable"] == "2%"
    assert work.patch(WHAT, {"spec": {"minAvailable": "3%"}})["spec"]["minAvailable"] == "3%"
    work.delete(WHAT)
    assert not work.exists(WHAT)


@promise("DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets")
def test_budgets_are_listed_everywhere_and_deleted_by_label(work: Workloads) -> None:
    mark = {"run": work.namespace}
    for name in ("one", "two", "three"):
        work.create(f"poddisruptionbudgets/{name}", budget(minAvailable=1), labels=mark)
    selector = f"run={work.namespace}"
    assert len(work.wire.get("/apis/policy/v1/poddisruptionbudgets", labelSelector=selector)["items"]) == 3
    work.delete_all("poddisruptionbudgets", selector)
    assert not work.list("poddisruptionbudgets")


@promise("DisruptionController should observe PodDisruptionBudget status updated")
def test_the_status_counts_what_may_be_disrupted(work: Workloads) -> None:
    work.create(WHAT, budget(minAvailable=1))
    run_pods(work, 3)
    status = work.wait_status(WHAT, disruptionsAllowed=2, currentHealthy=3)["status"]
    assert (status["desiredHealthy"], status["expectedPods"]) == (1, 3)
    assert status["conditions"][0]["reason"] == "SufficientPods"


@promise("DisruptionController should update/patch PodDisruptionBudget status")
def test_the_status_of_a_budget_can_be_replaced_and_patched(work: Workloads) -> None:
    work.create(WHAT, budget(minAvailable=1))
    run_pods(work, 2)
    work.wait_status(WHAT, disruptionsAllowed=1)
    work.patch("replicasets/web", {"spec": {"replicas": 2}})
    pods = {"disruptedPods": {"some": "2026-01-01T00:00:00Z"}}
    assert work.put(WHAT, lambda found: found["status"].update(pods), "status")["status"]["disruptedPods"] == pods["disruptedPods"]
    patched = work.patch(WHAT, {"status": {"disruptedPods": {"other": "2026-01-01T00:00:00Z"}}}, "status")
    assert "other" in patched["status"]["disruptedPods"]


@promise("DisruptionController should block an eviction until the PDB is updated to allow it")
def test_an_eviction_waits_until_the_budget_allows_it(work: Workloads) -> None:
    name = run_pods(work, 1)[0]["metadata"]["name"]
    work.create(WHAT, budget(minAvailable=1))
    work.wait_status(WHAT, currentHealthy=1)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": work.namespace}}
    refused = work.wire.send("POST", work.path(f"pods/{name}", "eviction"), eviction)
    assert refused.status == 429
    assert refused.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
    work.patch(WHAT, {"spec": {"minAvailable": 0}})
    work.wait_status(WHAT, disruptionsAllowed=1)
    work.wire.create(work.path(f"pods/{name}", "eviction"), eviction)
    wait_for(lambda: not work.exists(f"pods/{name}"), "the pod is gone")

"""The eviction subresource of pods: what budgets refuse, and how they say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubecosm.api.errors import TooManyRequests
from kubecosm.api.resources import Object
from kubecosm.services.apiserver.rest.pods import spend_disruption

from .harness import ACCOUNT, ACCOUNTS, PODS, Api, pod, with_api


def test_an_eviction_names_its_pod_in_the_body_too(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("web"))
        code, status = await api.call("POST", f"{PODS}/web/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {}})
        assert (code, status["message"]) == (400, "name in URL does not match name in Eviction object")

    with_api(tmp_path, test)


def test_a_pod_under_two_budgets_is_not_evicted(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(ACCOUNTS, ACCOUNT)
        await api.create(PODS, pod("web"))
        await api.merge(f"{PODS}/web/status", {"status": {"phase": "Running"}})
        for name in "ab":
            body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": {"selector": {}}}
            await api.create("/apis/policy/v1/namespaces/default/poddisruptionbudgets", body)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
        code, status = await api.call("POST", f"{PODS}/web/eviction", eviction)
        assert code == 500
        assert status == {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
            "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        }  # fmt: skip

    with_api(tmp_path, test)


NEEDS_MORE = {"desiredHealthy": 2, "currentHealthy": 2}
REFUSED = {"type": "DisruptionAllowed", "status": "False", "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(NEEDS_MORE, "The disruption budget b needs 2 healthy pods and has 2 currently", id="too few"),
        pytest.param(
            {**NEEDS_MORE, "conditions": [{**REFUSED, "reason": "SyncFailed", "message": "no scale"}]},
            "The disruption budget b does not allow evicting pods currently because it failed sync: no scale", id="failed",
        ),
        pytest.param(
            {"desiredHealthy": 1, "currentHealthy": 2, "conditions": [{**REFUSED, "reason": "Held", "message": "by hand"}]},
            "The disruption budget b does not allow evicting pods currently (Held): by hand", id="by somebody else",
        ),
        pytest.param(
            {"desiredHealthy": 1, "currentHealthy": 2}, "The disruption budget b does not allow evicting pods currently", id="unexplained"
        ),
    ],
)  # fmt: skip
def test_a_refused_eviction_says_what_the_budget_lacks(status: Object, message: str) -> None:
    told = {"observedGeneration": 1, "disruptionsAllowed": 0, **status}
    budget = {"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": told}
    with pytest.raises(TooManyRequests) as refused:
        spend_disruption(budget, "web", "2026-01-02T03:04:05Z")
    body = refused.value.status()
    assert body["details"] == {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    assert body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."


def test_an_eviction_is_told_to_come_back_while_the_budget_is_new() -> None:
    with pytest.raises(TooManyRequests) as refused:
        spend_disruption({"metadata": {"name": "b", "generation": 2}, "spec": {}, "status": {"observedGeneration": 1}}, "web", "")
    assert refused.value.status()["details"] == {
        "causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server."}],
        "retryAfterSeconds": 10,
    }

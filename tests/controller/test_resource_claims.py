"""Claims from templates, and claims whose pods are done."""

from __future__ import annotations

from typing import Any

from kubecosm.api.resources import EVENTS, PODS, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, Object
from kubecosm.services.controller.workloads import resource_claims

from .fake_api import FakeApi
from .harness import controllers, run, settle, wait_for

SPEC = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
TEMPLATE = {"metadata": {"name": "t", "namespace": "default"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": SPEC}}


def pod(name: str = "p", **wanted: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [], "resourceClaims": [{"name": "gpu", **wanted}]}}


async def reserve(api: FakeApi, claim: Object, *pods: Object) -> None:
    users = [{"resource": "pods", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]} for p in pods]
    meta = {**claim["metadata"], "finalizers": ["resource.kubernetes.io/delete-protection"]}
    updated = await api.update(RESOURCECLAIMS, {**claim, "metadata": meta})
    status = {"reservedFor": users, "allocation": {"devices": {"results": []}}}
    await api.update(RESOURCECLAIMS, {**updated, "status": status}, subresource="status")


def status_of(api: FakeApi, name: str) -> Object:
    found: Object = next((one for one in api.all(RESOURCECLAIMS) if one["metadata"]["name"] == name), {}).get("status") or {}
    return found


def test_a_pod_gets_a_claim_of_its_own_from_the_template() -> None:
    async def test(api: FakeApi) -> None:
        await api.create(RESOURCECLAIMTEMPLATES, TEMPLATE)
        async with controllers(api, resource_claims):
            await api.create(PODS, pod(resourceClaimTemplateName="t"))
            await wait_for(lambda: resource_claims.generated(api.all(PODS)[0]))
        [claim] = api.all(RESOURCECLAIMS)
        assert claim["spec"] == SPEC
        assert claim["metadata"]["labels"] == {"a": "b"}
        assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/pod-claim-name": "gpu"}
        assert claim["metadata"]["ownerReferences"][0]["name"] == "p"
        assert claim["metadata"]["name"].startswith("p-gpu-")
        assert resource_claims.generated(api.all(PODS)[0]) == {"gpu": claim["metadata"]["name"]}

    run(test)


def test_a_template_that_comes_late_is_found() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, resource_claims):
            await api.create(PODS, pod(resourceClaimTemplateName="t"))
            await settle()
            await api.create(RESOURCECLAIMTEMPLATES, TEMPLATE)
            await wait_for(lambda: resource_claims.generated(api.all(PODS)[0]))
        assert len(api.all(RESOURCECLAIMS)) == 1

    run(test)


def test_a_claim_is_free_again_when_its_last_pod_is_done() -> None:
    async def test(api: FakeApi) -> None:
        claim = await api.create(RESOURCECLAIMS, {"metadata": {"name": "c", "namespace": "default"}, "spec": SPEC})
        async with controllers(api, resource_claims):
            pods = [await api.create(PODS, pod(name, resourceClaimName="c")) for name in ("p", "q")]
            await reserve(api, claim, *pods)
            await settle()
            assert len(status_of(api, "c")["reservedFor"]) == 2
            await api.update(PODS, {**api.all(PODS)[0], "status": {"phase": "Succeeded"}}, subresource="status")
            await wait_for(lambda: [user["name"] for user in status_of(api, "c")["reservedFor"]] == ["q"])
            assert "allocation" in status_of(api, "c")
            await api.delete(PODS, "q", "default")
            await wait_for(lambda: not status_of(api, "c").get("allocation"))
            await wait_for(lambda: not api.all(RESOURCECLAIMS)[0]["metadata"].get("finalizers"))

    run(test)


def test_a_claim_that_is_deleted_goes_once_nobody_uses_it() -> None:
    async def test(api: FakeApi) -> None:
        claim = await api.create(RESOURCECLAIMS, {"metadata": {"name": "c", "namespace": "default"}, "spec": SPEC})
        async with controllers(api, resource_claims):
            await reserve(api, claim, await api.create(PODS, pod(resourceClaimName="c")))
            await api.delete(RESOURCECLAIMS, "c", "default")
            await settle()
            assert len(api.all(RESOURCECLAIMS)) == 1
            await api.delete(PODS, "p", "default")
            await wait_for(lambda: not api.all(RESOURCECLAIMS))

    run(test)


def test_long_names_of_generated_claims_keep_something_of_pod_and_entry() -> None:
    assert resource_claims.generated_base("p", "gpu") == "p-gpu-"
    base = resource_claims.generated_base("p" * 100, "g" * 50)
    assert base == "p" * 37 + "-" + "g" * 18


def test_a_claim_is_reserved_for_a_pod_that_was_placed_by_hand() -> None:
    async def test(api: FakeApi) -> None:
        claim = await api.create(RESOURCECLAIMS, {"metadata": {"name": "c", "namespace": "default"}, "spec": SPEC})
        async with controllers(api, resource_claims):
            first = await api.create(PODS, pod(resourceClaimName="c"))
            placed = pod("q", resourceClaimName="c")
            placed["spec"]["nodeName"] = "n"
            await api.create(PODS, placed)
            await settle()
            assert not status_of(api, "c").get("reservedFor")
            await reserve(api, claim, first)
            await wait_for(lambda: [user["name"] for user in status_of(api, "c")["reservedFor"]] == ["p", "q"])

    run(test)


def test_a_pod_whose_claim_is_anothers_waits_in_silence() -> None:
    async def test(api: FakeApi) -> None:
        await api.create(RESOURCECLAIMTEMPLATES, TEMPLATE)
        await api.create(RESOURCECLAIMS, {"metadata": {"name": "foreign", "namespace": "default"}, "spec": SPEC})
        waiting = pod(resourceClaimTemplateName="t")
        api.put(PODS, {**waiting, "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "foreign"}]}})
        async with controllers(api, resource_claims):
            await settle()
            assert not api.all(EVENTS)
            await api.delete(RESOURCECLAIMS, "foreign", "default")
            await wait_for(lambda: resource_claims.generated(api.all(PODS)[0])["gpu"] != "foreign")

    run(test)


def test_the_claim_of_a_pod_that_ended_without_devices_goes() -> None:
    async def test(api: FakeApi) -> None:
        await api.create(RESOURCECLAIMTEMPLATES, TEMPLATE)
        async with controllers(api, resource_claims):
            await api.create(PODS, pod(resourceClaimTemplateName="t"))
            await wait_for(lambda: resource_claims.generated(api.all(PODS)[0]))
            api.set_status(PODS, api.all(PODS)[0], phase="Failed")
            await wait_for(lambda: not api.all(RESOURCECLAIMS))
            await settle()
            assert not api.all(RESOURCECLAIMS), "a pod that has ended gets no other"

    run(test)

"""StatefulSets in virtual time."""

from __future__ import annotations

from typing import Any

from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from kubecosm.services.controller.common.pods import is_ready
from kubecosm.services.controller.workloads import statefulset

from .fake_api import FakeApi
from .harness import Kubelet, controllers, ended, pod_template, run, settle, wait_for


def stateful_set(replicas: int, image: str = "v1", **spec: Any) -> Object:
    body = {
        "replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}}, "template": pod_template(image),
        "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "revisionHistoryLimit": 10,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}], **spec,
    }  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": "default"}, "spec": body}


def status(api: FakeApi) -> Object:
    found: Object = api.all(STATEFULSETS)[0].get("status") or {}
    return found


def names(api: FakeApi) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in api.all(PODS))


async def change(api: FakeApi, **spec: Any) -> None:
    found = await api.get(STATEFULSETS, "web", "default")
    meta = {**found["metadata"], "generation": found["metadata"]["generation"] + 1}
    api.put(STATEFULSETS, {**found, "metadata": meta, "spec": {**found["spec"], **spec}})


def test_pods_are_created_one_after_the_other_each_with_its_claim() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api, start_seconds=1).at_work():
            await api.create(STATEFULSETS, stateful_set(3))
            unready: list[int] = []

            def sample() -> bool:
                unready.append(sum(not is_ready(pod) for pod in api.all(PODS)))
                return status(api).get("readyReplicas") == 3

            await wait_for(sample)
            await settle()
        assert max(unready) == 1
        created = [name for verb, plural, name in api.calls if (verb, plural) == ("create", "pods")]
        assert created == ["web-0", "web-1", "web-2"]
        claims = sorted(claim["metadata"]["name"] for claim in api.all(PERSISTENTVOLUMECLAIMS))
        assert claims == ["data-web-0", "data-web-1", "data-web-2"]
        pod = next(pod for pod in api.all(PODS) if pod["metadata"]["name"] == "web-1")
        assert pod["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}]
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "web")
        revision = api.all(CONTROLLERREVISIONS)[0]["metadata"]["name"]
        assert labels_of(pod) == {
            "app": "web", "statefulset.kubernetes.io/pod-name": "web-1", "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": revision,
        }  # fmt: skip
        assert status(api) == {
            "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
            "currentRevision": revision, "updateRevision": revision, "collisionCount": 0, "availableReplicas": 3,
        }  # fmt: skip

    run(test)


def test_parallel_starts_all_pods_at_once() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api, start_seconds=10).at_work():
            await api.create(STATEFULSETS, stateful_set(5, podManagementPolicy="Parallel"))
            await wait_for(lambda: len(api.all(PODS)) == 5)
            assert api.clock.monotonic() < 5

    run(test)


def test_scale_down_removes_the_highest_ordinal_first_and_waits_for_each() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api, stop_seconds=1).at_work():
            await api.create(STATEFULSETS, stateful_set(4))
            await wait_for(lambda: status(api).get("readyReplicas") == 4)
            await change(api, replicas=1)
            terminating: list[int] = []

            def sample() -> bool:
                terminating.append(sum(is_deleting(pod) for pod in api.all(PODS)))
                return len(api.all(PODS)) == 1

            await wait_for(sample)
            await wait_for(lambda: status(api).get("replicas") == 1)
        assert max(terminating) == 1
        deleted = [name for verb, plural, name in api.calls if (verb, plural) == ("delete", "pods")]
        assert deleted == ["web-3", "web-2", "web-1"]
        assert len(api.all(PERSISTENTVOLUMECLAIMS)) == 4

    run(test)


def test_an_update_replaces_pods_from_the_highest_ordinal_down_to_the_partition() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(4))
            await wait_for(lambda: status(api).get("readyReplicas") == 4)
            await change(api, template=pod_template("v2"), updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
            await wait_for(lambda: status(api).get("updatedReplicas") == 2 and status(api).get("readyReplicas") == 4)
            await settle()
            images = {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in api.all(PODS)}
            assert images == {"web-0": "v1", "web-1": "v1", "web-2": "v2", "web-3": "v2"}
            assert status(api)["currentReplicas"] == 2
            await api.delete(PODS, "web-0", "default")
            await settle()
            await wait_for(lambda: "web-0" in names(api) and status(api).get("readyReplicas") == 4)
            web0 = next(pod for pod in api.all(PODS) if pod["metadata"]["name"] == "web-0")
            assert web0["spec"]["containers"][0]["image"] == "v1"
            await change(api, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
            await wait_for(lambda: status(api).get("currentRevision") == status(api).get("updateRevision"))
        deleted = [name for verb, plural, name in api.calls if (verb, plural) == ("delete", "pods")]
        assert deleted == ["web-3", "web-2", "web-0", "web-1", "web-0"]

    run(test)


def test_a_rollback_reuses_the_old_revision() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(2))
            await wait_for(lambda: status(api).get("readyReplicas") == 2)
            first = status(api)["currentRevision"]
            for image, revisions in (("v2", 2), ("v1", 2)):
                await change(api, template=pod_template(image))
                await settle(0.5)
                await wait_for(lambda: status(api).get("currentRevision") == status(api).get("updateRevision"))
                await wait_for(lambda: status(api).get("readyReplicas") == 2)
                assert len(api.all(CONTROLLERREVISIONS)) == revisions
        assert status(api)["currentRevision"] == first
        assert sorted(revision["revision"] for revision in api.all(CONTROLLERREVISIONS)) == [2, 3]

    run(test)


def test_a_failed_pod_is_replaced_under_its_name() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            before = api.all(PODS)[0]
            api.set_status(PODS, before, **ended("Failed"))
            await wait_for(lambda: api.all(PODS) and api.all(PODS)[0]["metadata"]["uid"] != before["metadata"]["uid"])
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            assert names(api) == ["web-0"]

    run(test)


def test_claims_follow_the_retention_policy() -> None:
    async def test(api: FakeApi) -> None:
        policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        async with controllers(api, statefulset), Kubelet(api, stop_seconds=2).at_work():
            await api.create(STATEFULSETS, stateful_set(2, persistentVolumeClaimRetentionPolicy=policy))
            await wait_for(lambda: status(api).get("readyReplicas") == 2)

            def owner(claim_name: str) -> str:
                claim = next(claim for claim in api.all(PERSISTENTVOLUMECLAIMS) if claim["metadata"]["name"] == claim_name)
                return str(claim["metadata"]["ownerReferences"][0]["kind"])

            assert owner("data-web-1") == "StatefulSet"
            await change(api, replicas=1)
            await wait_for(lambda: owner("data-web-1") == "Pod")
            assert owner("data-web-0") == "StatefulSet"

    run(test)


def test_ordinals_may_start_elsewhere() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(2, ordinals={"start": 5}))
            await wait_for(lambda: status(api).get("readyReplicas") == 2)
        assert names(api) == ["web-5", "web-6"]

    run(test)


def test_a_pending_pod_whose_claim_was_deleted_gets_a_new_one() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        kubelet.starts = lambda pod: None
        async with controllers(api, statefulset), kubelet.at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS) and api.all(PODS))
            (lost,) = api.all(PERSISTENTVOLUMECLAIMS)
            await api.delete(PERSISTENTVOLUMECLAIMS, "data-web-0", "default")
            await settle()
            api.set_status(PODS, api.all(PODS)[0], conditions=[{"type": "PodScheduled", "status": "False"}])
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS))
            (found,) = api.all(PERSISTENTVOLUMECLAIMS)
            assert (found["metadata"]["name"], found["metadata"]["uid"] != lost["metadata"]["uid"]) == ("data-web-0", True)

    run(test)

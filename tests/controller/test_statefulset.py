"""StatefulSets in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.errors import Forbidden
from kubecosm.api.meta import is_deleting, labels_of
from kubecosm.api.resources import CONTROLLERREVISIONS, EVENTS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Object
from kubecosm.services.controller.common.hashing import revision_hash
from kubecosm.services.controller.common.pods import is_ready
from kubecosm.services.controller.common.revisions import template_patch
from kubecosm.services.controller.workloads import statefulset
from kubecosm.services.controller.workloads.statefulset.claims import plan_claim_owners

from .fake_api import FakeApi
from .harness import Kubelet, controllers, ended, pod_template, run, running, settle, wait_for


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


def events_of(api: FakeApi) -> list[tuple[str, str, str]]:
    return [(event["type"], event["reason"], event["message"]) for event in api.all(EVENTS)]


def a_claim(**meta: Any) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"]}
    metadata = {"name": "data-web-0", "namespace": "default", **meta}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def owner(kind: str, name: str, uid: str, *, controller: bool = True) -> Object:
    api_version = "v1" if kind == "Pod" else "apps/v1"
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": controller, "blockOwnerDeletion": controller}


def test_revisions_have_the_names_that_kubernetes_gives_them() -> None:
    container = {
        "image": "test", "imagePullPolicy": "Always", "name": "test", "resources": {}, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }  # fmt: skip
    spec = {
        "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30,
    }  # fmt: skip
    metadata = {"annotations": {"test": "value"}, "labels": {"app": "foo"}}
    data = template_patch({"spec": {"template": {"metadata": metadata, "spec": spec}}})
    assert revision_hash(data, 0) == "776999688b"  # as a cluster of 1.34 and later has it


def test_a_pod_that_does_not_bear_the_name_of_the_set_is_released() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            created = await api.create(STATEFULSETS, stateful_set(1))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            refs = [owner("StatefulSet", "web", created["metadata"]["uid"])]
            meta = {"name": "stray-7", "namespace": "default", "labels": {"app": "web"}, "ownerReferences": refs}
            await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_template()["spec"]})
            await wait_for(lambda: not (await_pod(api, "stray-7")["metadata"].get("ownerReferences")))
            await settle()
            assert names(api) == ["stray-7", "web-0"]
            assert status(api)["replicas"] == 1

    run(test)


def await_pod(api: FakeApi, name: str) -> Object:
    return next(pod for pod in api.all(PODS) if pod["metadata"]["name"] == name)


def test_a_pod_that_lost_its_name_label_gets_it_back_and_an_event_tells_so() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            pod = api.all(PODS)[0]
            before = labels_of(pod)
            kept = {name: value for name, value in before.items() if name != "statefulset.kubernetes.io/pod-name"}
            api.put(PODS, {**pod, "metadata": {**pod["metadata"], "labels": kept}})
            await wait_for(lambda: labels_of(api.all(PODS)[0]) == before)
            await settle()
        assert ("Normal", "SuccessfulUpdate", "update Pod web-0 in StatefulSet web successful") in events_of(api)

    run(test)


def test_a_new_pod_waits_until_the_claim_of_the_one_scaled_down_is_gone() -> None:
    async def test(api: FakeApi) -> None:
        policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
        await api.create(PERSISTENTVOLUMECLAIMS, a_claim(ownerReferences=[owner("Pod", "web-0", "uid-of-the-pod-before")]))
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1, persistentVolumeClaimRetentionPolicy=policy))
            await settle()
            assert names(api) == []
            api.remove(PERSISTENTVOLUMECLAIMS, api.all(PERSISTENTVOLUMECLAIMS)[0])
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
        assert not api.all(PERSISTENTVOLUMECLAIMS)[0]["metadata"].get("ownerReferences")

    run(test)


def test_an_event_tells_that_a_claim_on_its_way_out_holds_a_pod_up() -> None:
    async def test(api: FakeApi) -> None:
        await api.create(PERSISTENTVOLUMECLAIMS, a_claim(finalizers=["kubernetes.io/pvc-protection"]))
        await api.delete(PERSISTENTVOLUMECLAIMS, "data-web-0", "default")
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await settle()
            assert names(api) == []
            reason = "create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
            assert ("Warning", "FailedCreate", reason) in events_of(api)
            api.remove(PERSISTENTVOLUMECLAIMS, api.all(PERSISTENTVOLUMECLAIMS)[0])
            await wait_for(lambda: status(api).get("readyReplicas") == 1)

    run(test)


def test_a_claim_that_could_not_be_made_fails_the_pod_in_the_words_of_kubernetes() -> None:
    async def test(api: FakeApi) -> None:
        api.answer_with(Forbidden("exceeded quota: few"), "create", "persistentvolumeclaims")
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            await settle()
        assert {event for event in events_of(api) if event[0] == "Warning"} == {
            ("Warning", "FailedCreate", "create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: exceeded quota: few"),
            ("Warning", "FailedCreate",
             "create Pod web-0 in StatefulSet web failed error: failed to create PVC data-web-0: exceeded quota: few"),
        }  # fmt: skip

    run(test)


SET: Object = {**stateful_set(1), "metadata": {"name": "web", "namespace": "default", "uid": "set"}}
OURS, POD = owner("StatefulSet", "web", "set"), owner("Pod", "web-0", "pod")
STRANGER, OLD_SET = owner("Database", "db", "db"), owner("StatefulSet", "web", "set-before")


@pytest.mark.parametrize(
    ("deleted", "scaled", "replicas", "refs", "wanted"),
    [
        pytest.param("Retain", "Retain", 1, [], None, id="retained: nobody's"),
        pytest.param("Retain", "Retain", 1, [OURS], [], id="retained: no longer the set's"),
        pytest.param("Delete", "Retain", 1, [], [OURS], id="deleted with the set: the set's"),
        pytest.param("Delete", "Retain", 0, [POD], [OURS], id="scaled down but retained: the set's"),
        pytest.param("Retain", "Delete", 1, [POD], [], id="scaled up again: nobody's"),
        pytest.param("Delete", "Delete", 0, [OURS], [POD], id="scaled down: the pod's"),
        pytest.param("Delete", "Delete", 1, [owner("StatefulSet", "web", "set", controller=False)], [OURS], id="owners must control"),
        pytest.param("Delete", "Delete", 1, [OLD_SET], None, id="an earlier set's: not touched"),
        pytest.param("Delete", "Delete", 0, [owner("Pod", "web-0", "pod-before")], None, id="an earlier pod's: not touched"),
        pytest.param("Delete", "Delete", 1, [STRANGER], None, id="a stranger's: not touched"),
        pytest.param("Delete", "Delete", 1, [STRANGER, OURS], [STRANGER], id="a stranger's: left to him alone"),
        pytest.param("Retain", "Retain", 1, [STRANGER], None, id="a stranger may own what is retained"),
    ],
)
def test_owners_of_a_claim_are_what_the_retention_policy_says(
    deleted: str, scaled: str, replicas: int, refs: list[Object], wanted: list[Object] | None
) -> None:
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    the_set = {**SET, "spec": {**SET["spec"], "replicas": replicas, "persistentVolumeClaimRetentionPolicy": policy}}
    assert plan_claim_owners(the_set, {"metadata": {"name": "web-0", "uid": "pod"}}, a_claim(ownerReferences=refs)) == wanted


def test_an_event_tells_that_a_stranger_controls_a_claim() -> None:
    async def test(api: FakeApi) -> None:
        await api.create(PERSISTENTVOLUMECLAIMS, a_claim(ownerReferences=[STRANGER]))
        kubelet = Kubelet(api)
        kubelet.starts = lambda pod: None
        async with controllers(api, statefulset), kubelet.at_work():
            policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
            await api.create(STATEFULSETS, stateful_set(1, persistentVolumeClaimRetentionPolicy=policy))
            await settle()
        assert (
            "Warning", "ConflictingController",
            "PersistentVolumeClaim data-web-0 has a conflicting OwnerReference that acts as a managing controller, "
            "the retention policy is ignored for this claim",
        ) in events_of(api)  # fmt: skip
        assert api.all(PERSISTENTVOLUMECLAIMS)[0]["metadata"]["ownerReferences"] == [STRANGER]

    run(test)


def test_a_pod_whose_name_a_stranger_has_is_made_when_the_stranger_is_gone_and_no_event_complains() -> None:
    async def test(api: FakeApi) -> None:
        meta = {"name": "web-0", "namespace": "default", "labels": {"app": "other"}}
        stranger = await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_template()["spec"]})
        async with controllers(api, statefulset), Kubelet(api).at_work():
            await api.create(STATEFULSETS, stateful_set(1))
            await settle()
            assert status(api)["replicas"] == 0
            api.remove(PODS, await_pod(api, "web-0"))
            await wait_for(lambda: status(api).get("readyReplicas") == 1)
            await settle()
        assert await_pod(api, "web-0")["metadata"]["uid"] != stranger["metadata"]["uid"]
        assert [event for event in events_of(api) if event[0] == "Warning"] == []

    run(test)


def test_an_update_in_parallel_goes_on_past_pods_that_never_became_ready() -> None:
    """Order is what gets stuck behind a broken pod; without it the broken pods are replaced like the others."""

    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        kubelet.starts = lambda pod: running(api, ready=pod["spec"]["containers"][0]["image"] != "broken")
        async with controllers(api, statefulset), kubelet.at_work():
            await api.create(STATEFULSETS, stateful_set(3, "broken", podManagementPolicy="Parallel"))
            await wait_for(lambda: len(names(api)) == 3)
            await settle()
            await change(api, template=pod_template("v2"))
            await wait_for(lambda: status(api).get("readyReplicas") == 3 and status(api).get("updatedReplicas") == 3)
            await wait_for(lambda: status(api).get("currentRevision") == status(api).get("updateRevision"))
        deleted = [name for verb, plural, name in api.calls if (verb, plural) == ("delete", "pods")]
        assert deleted == ["web-2", "web-1", "web-0"]

    run(test)


def test_in_order_a_broken_pod_holds_an_update_up_until_it_is_deleted() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        kubelet.starts = lambda pod: running(api, ready=pod["spec"]["containers"][0]["image"] != "broken")
        async with controllers(api, statefulset), kubelet.at_work():
            await api.create(STATEFULSETS, stateful_set(2, "broken"))
            await wait_for(lambda: names(api) == ["web-0"])
            await change(api, template=pod_template("v2"))
            await settle(60)
            assert [pod["spec"]["containers"][0]["image"] for pod in api.all(PODS)] == ["broken"]
            await api.delete(PODS, "web-0", "default")
            await wait_for(lambda: status(api).get("readyReplicas") == 2)

    run(test)

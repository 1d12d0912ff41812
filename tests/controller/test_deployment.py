"""Deployments in virtual time, together with the ReplicaSet controller and a kubelet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubecosm.api.meta import annotations_of, get_condition, is_deleting, labels_of
from kubecosm.api.names import (
    ANNOTATION_DEPLOYMENT_REVISION,
    ANNOTATION_DEPLOYMENT_REVISION_HISTORY,
    ANNOTATION_DEPLOYMENT_ROLLBACK_TO,
    LABEL_POD_TEMPLATE_HASH,
)
from kubecosm.api.resources import DEPLOYMENTS, EVENTS, PODS, REPLICASETS, Object
from kubecosm.services.controller.common.echoes import Echoes
from kubecosm.services.controller.common.pods import is_ready
from kubecosm.services.controller.workloads import deployment, replicaset
from kubecosm.services.controller.workloads.deployment.replicasets import plan_annotations
from kubecosm.services.controller.workloads.deployment.rollback import plan_rollback, wanted_revision
from kubecosm.services.controller.workloads.deployment.scaling import plan_rolling

from .fake_api import FakeApi
from .harness import Kubelet, controllers, pod_template, run, running, settle, wait_for


def deployment_of(replicas: int, image: str = "v1", strategy: Object | None = None, **spec: Any) -> Object:
    strategy = strategy or {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    body = {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template(image), "strategy": strategy,
        "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, **spec,
    }  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": body}


def the_deployment(api: FakeApi) -> Object:
    return api.all(DEPLOYMENTS)[0]


def is_rolled_out(api: FakeApi) -> bool:
    """As `kubectl rollout status` judges."""
    obj = the_deployment(api)
    status, wanted = obj.get("status") or {}, obj["spec"]["replicas"]
    counts = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")]
    return bool(status.get("observedGeneration", 0) >= obj["metadata"]["generation"] and counts == [wanted] * 3)


async def change(api: FakeApi, edit: Callable[[Object], None]) -> None:
    """As kubectl does: change the newest spec, again after a conflict."""
    found = await api.get(DEPLOYMENTS, "web", "default")
    edit(found)
    api.put(DEPLOYMENTS, {**found, "metadata": {**found["metadata"], "generation": found["metadata"]["generation"] + 1}})


def set_image(image: str) -> Callable[[Object], None]:
    def edit(obj: Object) -> None:
        obj["spec"]["template"] = pod_template(image)

    return edit


def images(api: FakeApi) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in api.all(PODS) if not is_deleting(pod)}


def test_a_new_deployment_becomes_available_and_tells_its_progress() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(10))
            await wait_for(lambda: is_rolled_out(api))
            await settle()
        obj = the_deployment(api)
        replica_set = api.all(REPLICASETS)[0]
        assert annotations_of(obj)[ANNOTATION_DEPLOYMENT_REVISION] == "1"
        assert replica_set["metadata"]["name"] == f"web-{labels_of(replica_set)[LABEL_POD_TEMPLATE_HASH]}"
        available, progressing = get_condition(obj, "Available"), get_condition(obj, "Progressing")
        assert available is not None
        assert (available["status"], available["reason"]) == ("True", "MinimumReplicasAvailable")
        assert progressing is not None
        assert progressing["reason"] == "NewReplicaSetAvailable"
        assert progressing["message"] == f'ReplicaSet "{replica_set["metadata"]["name"]}" has successfully progressed.'
        messages = [event["message"] for event in api.all(EVENTS) if event["reason"] == "ScalingReplicaSet"]
        assert messages == [f"Scaled up replica set {replica_set['metadata']['name']} from 0 to 10"]
        assert len(api.all(REPLICASETS)) == 1

    run(test)


def test_a_rolling_update_keeps_availability_and_surge_within_bounds() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(20))
            await wait_for(lambda: is_rolled_out(api))
            seen: list[tuple[int, int]] = []

            def sample() -> bool:
                standing = [pod for pod in api.all(PODS) if not is_deleting(pod)]
                seen.append((len(standing), sum(is_ready(pod) for pod in standing)))
                return is_rolled_out(api) and images(api) == {"v2"}

            await change(api, set_image("v2"))
            await wait_for(sample)
        assert max(total for total, _ in seen) == 25
        assert min(ready for _, ready in seen) >= 15
        assert sorted(rs["spec"]["replicas"] for rs in api.all(REPLICASETS)) == [0, 20]
        assert annotations_of(the_deployment(api))[ANNOTATION_DEPLOYMENT_REVISION] == "2"

    run(test)


def test_undo_makes_the_old_replica_set_the_newest_revision() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(3))
            await wait_for(lambda: is_rolled_out(api))
            await change(api, set_image("v2"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v2"})
            first = next(rs for rs in api.all(REPLICASETS) if annotations_of(rs)[ANNOTATION_DEPLOYMENT_REVISION] == "1")
            await change(api, set_image("v1"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v1"})
            await settle()
        again = next(rs for rs in api.all(REPLICASETS) if rs["metadata"]["uid"] == first["metadata"]["uid"])
        assert annotations_of(again)[ANNOTATION_DEPLOYMENT_REVISION] == "3"
        assert annotations_of(again)[ANNOTATION_DEPLOYMENT_REVISION_HISTORY] == "1"
        assert annotations_of(the_deployment(api))[ANNOTATION_DEPLOYMENT_REVISION] == "3"
        assert len(api.all(REPLICASETS)) == 2

    run(test)


def test_a_paused_deployment_scales_but_does_not_roll_out() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(3))
            await wait_for(lambda: is_rolled_out(api))

            def pause(obj: Object) -> None:
                obj["spec"] |= {"paused": True, "replicas": 5, "template": pod_template("v2")}

            await change(api, pause)
            await wait_for(lambda: len(api.all(PODS)) == 5)
            await settle()
            assert images(api) == {"v1"}
            progressing = get_condition(the_deployment(api), "Progressing")
            assert progressing is not None
            assert (progressing["status"], progressing["reason"]) == ("Unknown", "DeploymentPaused")
            await change(api, lambda obj: obj["spec"].update(paused=False))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v2"})

    run(test)


def test_recreate_starts_new_pods_only_when_the_old_are_gone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api, stop_seconds=3).at_work():
            await api.create(DEPLOYMENTS, deployment_of(3, strategy={"type": "Recreate"}))
            await wait_for(lambda: is_rolled_out(api))
            mixed: list[set[str]] = []

            def sample() -> bool:
                mixed.append({pod["spec"]["containers"][0]["image"] for pod in api.all(PODS)})
                return is_rolled_out(api) and images(api) == {"v2"}

            await change(api, set_image("v2"))
            await wait_for(sample)
        assert {"v1", "v2"} not in mixed

    run(test)


def test_a_stuck_rollout_is_told_after_its_deadline_and_not_before() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        kubelet.starts = lambda pod: running(api, ready=pod["spec"]["containers"][0]["image"] == "v1")
        async with controllers(api, deployment.build(None), replicaset.build(None)), kubelet.at_work():
            await api.create(DEPLOYMENTS, deployment_of(3, progressDeadlineSeconds=60))
            await wait_for(lambda: is_rolled_out(api))
            await change(api, set_image("v2"))
            started = api.clock.monotonic()

            def reason() -> str:
                condition = get_condition(the_deployment(api), "Progressing")
                return condition["reason"] if condition else ""

            await wait_for(lambda: reason() == "ProgressDeadlineExceeded")
            assert 60 <= api.clock.monotonic() - started <= 65
            assert images(api) == {"v1", "v2"}
            await change(api, set_image("v1"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v1"})
            await wait_for(lambda: reason() == "NewReplicaSetAvailable")

    run(test)


def test_old_replica_sets_beyond_the_history_limit_are_deleted() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(1, revisionHistoryLimit=2))
            await wait_for(lambda: is_rolled_out(api))
            for image in ("v2", "v3", "v4", "v5"):
                await change(api, set_image(image))
                await wait_for(lambda image=image: is_rolled_out(api) and images(api) == {image})  # type: ignore[misc]
            await wait_for(lambda: len(api.all(REPLICASETS)) == 3)
        revisions = sorted(annotations_of(rs)[ANNOTATION_DEPLOYMENT_REVISION] for rs in api.all(REPLICASETS))
        assert revisions == ["3", "4", "5"]

    run(test)


def test_a_stranger_with_the_hashed_name_raises_the_collision_count() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(1))
            await wait_for(lambda: is_rolled_out(api))
            name = api.all(REPLICASETS)[0]["metadata"]["name"]
            await api.delete(DEPLOYMENTS, "web", "default")
            for obj in api.all(REPLICASETS):
                await api.delete(REPLICASETS, obj["metadata"]["name"], "default")
            for pod in api.all(PODS):
                api.remove(PODS, pod)
            await settle()
            stranger = {"replicas": 0, "selector": {"matchLabels": {"app": "other"}}, "template": pod_template(app="other")}
            await api.create(
                REPLICASETS, {"metadata": {"name": name, "namespace": "default", "labels": {"app": "other"}}, "spec": stranger}
            )
            await api.create(DEPLOYMENTS, deployment_of(1))
            await wait_for(lambda: is_rolled_out(api))
        assert the_deployment(api)["status"]["collisionCount"] == 1

    run(test)


def sized(name: str, size: int, available: int) -> Object:
    meta = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": {"replicas": size}, "status": {"replicas": available, "availableReplicas": available}}


def test_a_replica_set_is_scaled_for_its_sick_pods_and_then_for_those_that_can_be_spared() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    scales = plan_rolling(deployment_of(10, strategy=strategy), sized("new", 5, 5), [sized("old", 8, 6)])
    assert [(scale.replicaset["metadata"]["name"], scale.replicas) for scale in scales] == [("old", 6), ("old", 3)]


def test_each_scale_down_of_a_replica_set_has_its_event() -> None:
    async def test(api: FakeApi) -> None:
        kubelet = Kubelet(api)
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}
        async with controllers(api, deployment.build(None), replicaset.build(None)), kubelet.at_work():
            await api.create(DEPLOYMENTS, deployment_of(4, strategy=strategy))
            await wait_for(lambda: is_rolled_out(api))
            api.set_status(PODS, api.all(PODS)[0], conditions=[{"type": "Ready", "status": "False"}])
            await settle()
            await change(api, set_image("v2"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v2"})
            await settle()
        (old,) = [rs["metadata"]["name"] for rs in api.all(REPLICASETS) if rs["spec"]["replicas"] == 0]
        messages = [event["message"] for event in api.all(EVENTS) if event["reason"] == "ScalingReplicaSet"]
        assert [message for message in messages if "down" in message][:2] == [
            f"Scaled down replica set {old} from 4 to 3", f"Scaled down replica set {old} from 3 to 2",
        ]  # fmt: skip

    run(test)


def test_a_replica_set_that_has_not_caught_up_with_its_last_scale_down_holds_the_next_one_up() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    scales = plan_rolling(deployment_of(10, strategy=strategy), sized("new", 5, 2), [sized("old", 8, 10)])
    assert scales == []  # of its ten available pods two are on their way out


def test_a_deployment_on_its_way_out_tells_nothing_of_pauses() -> None:
    async def test(api: FakeApi) -> None:
        body = deployment_of(1, paused=True)
        body["metadata"] |= {"finalizers": ["foregroundDeletion"], "deletionTimestamp": "2020-01-01T00:00:00Z"}
        async with controllers(api, deployment.build(None), replicaset.build(None)):
            api.put(DEPLOYMENTS, body)
            await wait_for(lambda: the_deployment(api).get("status"))
        assert get_condition(the_deployment(api), "Progressing") is None

    run(test)


def test_annotations_are_not_touched_where_the_revision_is_no_number() -> None:
    annotations = {ANNOTATION_DEPLOYMENT_REVISION: "seven"}
    owner = deployment_of(1)
    owner["metadata"]["annotations"] = {"own": "yes"}
    assert plan_annotations(owner, {"metadata": {"annotations": annotations}}, 2, exists=True) == annotations


def test_a_status_that_a_stranger_wrote_is_put_right() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(2))
            await wait_for(lambda: is_rolled_out(api))
            await settle()
            for resource in (DEPLOYMENTS, REPLICASETS):
                (found,) = api.all(resource)
                api.put(resource, {**found, "status": {**found["status"], "replicas": 99}})
            await wait_for(lambda: all(api.all(resource)[0]["status"]["replicas"] == 2 for resource in (DEPLOYMENTS, REPLICASETS)))
            await settle()
        assert is_rolled_out(api)

    run(test)


def test_the_echo_of_a_status_write_wakes_nobody_and_a_strangers_does() -> None:
    echoes = Echoes()
    before: Object = {"metadata": {"uid": "u", "generation": 1}, "status": {"replicas": 1}}
    ours, theirs = {**before, "status": {"replicas": 2}}, {**before, "status": {"replicas": 9}}
    echoes.expect(before, {"replicas": 2})
    assert not echoes.matters(before, ours)
    assert echoes.matters(ours, theirs)
    echoes.expect(theirs, {"replicas": 2})
    assert echoes.matters(theirs, {**ours, "metadata": {"uid": "u", "generation": 2}})
    assert not echoes.matters(ours, ours)


def asking_for(revision: str) -> Callable[[Object], None]:
    def edit(obj: Object) -> None:
        obj["metadata"]["annotations"] = {**annotations_of(obj), ANNOTATION_DEPLOYMENT_ROLLBACK_TO: revision}

    return edit


def rollback_events(api: FakeApi) -> list[tuple[str, str, str]]:
    events = [event for event in api.all(EVENTS) if "Rollback" in event["reason"]]
    return [(event["type"], event["reason"], event["message"]) for event in events]


def test_an_annotation_rolls_a_deployment_back_with_the_annotations_it_had() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            body = deployment_of(2)
            body["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
            await api.create(DEPLOYMENTS, body)
            await wait_for(lambda: is_rolled_out(api))
            await change(api, set_image("v2"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v2"})
            await change(api, asking_for("1"))
            await wait_for(lambda: is_rolled_out(api) and images(api) == {"v1"})
            await settle()
        obj = the_deployment(api)
        assert annotations_of(obj) == {ANNOTATION_DEPLOYMENT_REVISION: "3", "kubernetes.io/change-cause": "first"}
        assert LABEL_POD_TEMPLATE_HASH not in labels_of(obj["spec"]["template"])
        assert rollback_events(api) == [("Normal", "DeploymentRollback", 'Rolled back deployment "web" to revision 1')]

    run(test)


@pytest.mark.parametrize(
    ("revision", "reason", "message"),
    [
        ("0", "DeploymentRollbackRevisionNotFound", "Unable to find last revision."),
        ("7", "DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."),
        ("1", "DeploymentRollbackTemplateUnchanged", 'The rollback revision contains the same template as current deployment "web"'),
    ],
)
def test_a_rollback_that_cannot_be_is_told_of_and_given_up(revision: str, reason: str, message: str) -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, deployment.build(None), replicaset.build(None)), Kubelet(api).at_work():
            await api.create(DEPLOYMENTS, deployment_of(1))
            await wait_for(lambda: is_rolled_out(api))
            await change(api, asking_for(revision))
            await wait_for(lambda: ANNOTATION_DEPLOYMENT_ROLLBACK_TO not in annotations_of(the_deployment(api)))
            await settle()
        assert rollback_events(api) == [("Warning", reason, message)]
        assert images(api) == {"v1"}

    run(test)


def test_a_rollback_without_a_number_goes_to_the_revision_before() -> None:
    sets = [sized(name, 0, 0) for name in ("one", "two", "three")]
    for number, rs in enumerate(sets, start=1):
        rs["metadata"]["annotations"] = {ANNOTATION_DEPLOYMENT_REVISION: str(number)}
        rs["spec"]["template"] = pod_template(f"v{number}")
    plan = plan_rollback(deployment_of(1, image="v3"), sets, 0)
    assert plan.deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "v2"
    assert wanted_revision({"metadata": {"annotations": {ANNOTATION_DEPLOYMENT_ROLLBACK_TO: "last"}}}) is None

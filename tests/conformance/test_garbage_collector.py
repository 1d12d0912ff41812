"""The garbage collector: what goes and what stays when an owner is deleted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.wire import Wire
from tests.conftest import wait_for
from tests.promises import promise

pytestmark = pytest.mark.process

REPLICAS = 10
CONTAINERS = [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]


def template(labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"containers": CONTAINERS}}


class Place:
    """The collections of one namespace that these tests use."""

    def __init__(self, wire: Wire, namespace: str) -> None:
        self.wire = wire
        core, apps = f"/api/v1/namespaces/{namespace}", f"/apis/apps/v1/namespaces/{namespace}"
        self.pods_path, self.controllers_path = f"{core}/pods", f"{core}/replicationcontrollers"
        self.deployments_path, self.sets_path = f"{apps}/deployments", f"{apps}/replicasets"

    def controller(self, name: str, replicas: int) -> dict[str, Any]:
        """A replication controller all of whose pods exist."""
        labels = {"rc": name}
        spec = {"replicas": replicas, "selector": labels, "template": template(labels)}
        made: dict[str, Any] = self.wire.create(self.controllers_path, {"metadata": {"name": name}, "spec": spec})
        wait_for(lambda: len(self.pods(f"rc={name}")) == replicas, f"{replicas} pods of {name}")
        return made

    def deployment(self) -> None:
        labels = {"app": "web"}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template(labels)}
        self.wire.create(self.deployments_path, {"metadata": {"name": "web"}, "spec": spec})
        wait_for(lambda: len(self.pods("app=web")) == 2, "the pods of the deployment")

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.wire.get(self.pods_path, labelSelector=selector)["items"]
        return items

    def sets(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.wire.get(self.sets_path)["items"]
        return items

    def delete_owner(self, path: str, policy: str) -> None:
        self.wire.delete(path, {"propagationPolicy": policy})


@pytest.fixture
def place(wire: Wire, namespace: str) -> Place:
    return Place(wire, namespace)


@promise("Garbage collector should delete pods created by rc when not orphaning")
def test_the_pods_of_a_controller_go_after_it(place: Place) -> None:
    place.controller("rc", 2)
    place.delete_owner(f"{place.controllers_path}/rc", "Background")
    wait_for(lambda: not place.pods(), "the pods are gone")


@promise("Garbage collector should orphan pods created by rc if delete options say so")
def test_orphaned_pods_stay_and_forget_their_owner(place: Place) -> None:
    place.controller("rc", REPLICAS)
    names = {pod["metadata"]["name"] for pod in place.pods()}
    place.delete_owner(f"{place.controllers_path}/rc", "Orphan")
    wait_for(lambda: not place.wire.exists(f"{place.controllers_path}/rc"), "the controller is gone")
    left = place.pods()
    assert {pod["metadata"]["name"] for pod in left} == names
    assert not any(pod["metadata"].get("ownerReferences") or pod["metadata"].get("deletionTimestamp") for pod in left)


@promise("Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so")
def test_foreground_deletion_keeps_the_owner_until_its_pods_are_gone(place: Place) -> None:
    place.controller("rc", REPLICAS)
    with (
        place.wire.watch(place.controllers_path, fieldSelector="metadata.name=rc") as owners,
        place.wire.watch(place.pods_path, labelSelector="rc=rc") as pods,
    ):
        place.delete_owner(f"{place.controllers_path}/rc", "Foreground")
        gone: list[int] = []
        while len(gone) < REPLICAS:
            event = pods.next()
            if event["type"] == "DELETED":
                gone.append(int(event["object"]["metadata"]["resourceVersion"]))
        event = owners.next()
        marked = []
        while event["type"] != "DELETED":
            marked.append(event["object"]["metadata"].get("finalizers"))
            event = owners.next()
        assert ["foregroundDeletion"] in marked
        assert int(event["object"]["metadata"]["resourceVersion"]) > max(gone)


@promise("Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted")
def test_pods_with_a_second_owner_stay_when_the_first_is_deleted_in_the_foreground(place: Place) -> None:
    place.controller("one", REPLICAS)
    other = place.controller("two", 0)
    second = {"apiVersion": "v1", "kind": "ReplicationController", "name": "two", "uid": other["metadata"]["uid"]}
    kept = {pod["metadata"]["name"] for pod in place.pods()[: REPLICAS // 2]}
    for name in kept:
        place.wire.patch(
            f"{place.pods_path}/{name}", {"metadata": {"ownerReferences": [second]}}, "application/strategic-merge-patch+json"
        )  # fmt: skip
    place.delete_owner(f"{place.controllers_path}/one", "Foreground")
    wait_for(lambda: not place.wire.exists(f"{place.controllers_path}/one"), "the first owner is gone")
    left = place.pods()
    assert {pod["metadata"]["name"] for pod in left} == kept
    assert not any(pod["metadata"].get("deletionTimestamp") for pod in left)
    assert all([owner["name"] for owner in pod["metadata"]["ownerReferences"]] == ["two"] for pod in left)


@promise("Garbage collector should delete RS created by deployment when not orphaning")
def test_the_replica_sets_and_pods_of_a_deployment_go_after_it(place: Place) -> None:
    place.deployment()
    place.delete_owner(f"{place.deployments_path}/web", "Background")
    wait_for(lambda: not place.sets() and not place.pods(), "replica sets and pods are gone")


@promise("Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan")
def test_an_orphaned_replica_set_keeps_its_pods(place: Place) -> None:
    place.deployment()
    place.delete_owner(f"{place.deployments_path}/web", "Orphan")
    wait_for(lambda: not place.wire.exists(f"{place.deployments_path}/web"), "the deployment is gone")
    (left,) = place.sets()
    assert not left["metadata"].get("ownerReferences")
    assert not left["metadata"].get("deletionTimestamp")
    assert [pod["metadata"]["ownerReferences"][0]["uid"] for pod in place.pods()] == [left["metadata"]["uid"]] * 2


@promise("Garbage collector should not be blocked by dependency circle")
def test_a_circle_of_owners_is_collected(place: Place) -> None:
    uids = {}
    for name in ("pod1", "pod2", "pod3"):
        made = place.wire.create(place.pods_path, {"metadata": {"name": name}, "spec": {"containers": CONTAINERS}})
        uids[name] = made["metadata"]["uid"]
    for name, owner in (("pod1", "pod3"), ("pod2", "pod1"), ("pod3", "pod2")):
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": uids[owner], "controller": True, "blockOwnerDeletion": True}
        place.wire.patch(f"{place.pods_path}/{name}", {"metadata": {"ownerReferences": [reference]}})
    place.delete_owner(f"{place.pods_path}/pod1", "Foreground")
    wait_for(lambda: not place.pods(), "all pods are gone")

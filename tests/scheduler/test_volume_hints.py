"""Which changes of storage objects wake pods that volumes keep from being scheduled."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.names import ANNOTATION_MIGRATED_PLUGINS
from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.events import Action, ClusterEvent, EventResource
from kubecosm.services.scheduler.framework.registry import IN_TREE
from kubecosm.services.scheduler.plugins import volumehints as hints
from kubecosm.services.scheduler.state.podinfo import compile_pod

from .helpers import Cluster, pod

POD = compile_pod(pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "mine"}}]))


def named(name: str, namespace: str = "default", **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, **more.pop("metadata", {})}, **more}


def drivers(**counts: int | None) -> Object:
    return named("n", spec={"drivers": [{"name": name, "allocatable": {"count": count}} for name, count in counts.items()]})


def zone(value: str) -> Object:
    return named("x", metadata={"labels": {"topology.kubernetes.io/zone": value, "else": value}})


@pytest.mark.parametrize(("hint", "old", "new", "worth"), [
    (hints.own_claim, None, named("mine"), True),
    (hints.own_claim, None, named("other"), False),
    (hints.own_claim, None, named("mine", "elsewhere"), False),
    (hints.class_changed, None, named("c"), True),
    (hints.class_changed, named("c"), named("c", parameters={"a": "b"}), False),
    (hints.class_changed, named("c"), named("c", allowedTopologies=[{}]), True),
    (hints.class_that_waits, None, named("c", volumeBindingMode="WaitForFirstConsumer"), True),
    (hints.class_that_waits, None, named("c", volumeBindingMode="Immediate"), False),
    (hints.csi_node_migrated, None, drivers(), True),
    (hints.csi_node_migrated, drivers(a=1), drivers(a=2), False),
    (hints.csi_node_migrated, named("n"), named("n", metadata={"annotations": {ANNOTATION_MIGRATED_PLUGINS: "x"}}), True),
    (hints.csi_node_holds_more, drivers(a=1), drivers(a=2), True),
    (hints.csi_node_holds_more, drivers(a=2), drivers(a=1), False),
    (hints.csi_node_holds_more, drivers(a=1), drivers(a=1, b=1), True),
    (hints.csi_node_holds_more, drivers(a=1), drivers(a=None), True),
    (hints.csi_node_holds_more, drivers(a=None), drivers(a=5), False),
    (hints.driver_tells_no_capacity, named("d", spec={"storageCapacity": True}), named("d", spec={"storageCapacity": False}), True),
    (hints.driver_tells_no_capacity, named("d", spec={"storageCapacity": False}), named("d", spec={"storageCapacity": True}), False),
    (hints.capacity_grew, None, named("c", capacity="1Gi"), True),
    (hints.capacity_grew, named("c", capacity="1Gi"), named("c", capacity="2Gi"), True),
    (hints.capacity_grew, named("c", capacity="1Gi", maximumVolumeSize="1Gi"), named("c", capacity="5Gi", maximumVolumeSize="1Gi"), False),
    (hints.place_changed, zone("a"), zone("b"), True),
    (hints.place_changed, zone("a"), {**zone("a"), "metadata": {**zone("a")["metadata"], "annotations": {}}}, False),
])  # fmt: skip
def test_a_change_of_storage_is_worth_a_try_when_it_may_help(hint: Any, old: Object | None, new: Object, worth: bool) -> None:
    assert hint(POD, old, new) is worth


@pytest.mark.parametrize(("plugin", "resource", "action"), [
    ("VolumeBinding", EventResource.CSI_STORAGE_CAPACITY, Action.ADD), ("VolumeBinding", EventResource.CSI_DRIVER, Action.UPDATE_OTHER),
    ("VolumeZone", EventResource.STORAGE_CLASS, Action.ADD), ("NodeVolumeLimits", EventResource.CSI_NODE, Action.UPDATE_OTHER),
    ("VolumeRestrictions", EventResource.PERSISTENT_VOLUME_CLAIM, Action.ADD),
])  # fmt: skip
def test_volume_plugins_hear_of_the_objects_they_judge_by(plugin: str, resource: EventResource, action: Action) -> None:
    made: Any = IN_TREE[plugin](Cluster().scheduler.handle, {})
    assert any(hinted.event.concerns(ClusterEvent(resource, action)) for hinted in made.events_to_register())

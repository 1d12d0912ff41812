"""Claims and volumes on the way from decision to binding."""

from __future__ import annotations

import asyncio
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.framework.defaults import ProfileConfig
from kubecosm.services.scheduler.plugins.volumewaiting import BoundVolumes
from kubecosm.testing.virtualtime import VirtualClock, run_virtual

from .helpers import Cluster, node, pod

CLASS = {"metadata": {"name": "late"}, "provisioner": "example.com/disk", "volumeBindingMode": "WaitForFirstConsumer"}


def claim(**more: Any) -> Object:
    spec = {"storageClassName": "late", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"namespace": "default", "name": "data", "uid": "c", **more.pop("metadata", {})}, "spec": {**spec, **more}}


def volume(name: str, size: str, node_name: str = "") -> Object:
    spec: Object = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"}
    if node_name:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node_name]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}


DATABASE = pod("db", volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])


def bind_with_volumes(cluster: Cluster, bound: Object) -> str:
    """Schedule the database; once its claim was asked for, the volume controller binds it. The node it went to."""

    async def scenario() -> str:
        await cluster.scheduler.binding.slots.acquire()
        cluster.add(DATABASE)
        binding = cluster.begin_binding()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(binding)
            await asyncio.sleep(1)
            assert cluster.api.bound == {}
            cluster.scheduler.handle.volumes.set_claim(bound)
        return cluster.api.bound["default/db"]

    return run_virtual(scenario())


def test_a_late_claim_is_provisioned_for_the_chosen_node() -> None:
    cluster = Cluster(node("a"), clock=VirtualClock())
    volumes = cluster.scheduler.handle.volumes
    volumes.set_class(CLASS)
    volumes.set_claim(claim())
    done = claim(volumeName="v", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    assert bind_with_volumes(cluster, done) == "a"
    assert cluster.api.claim_patches == [
        ("default/data", {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}})
    ]


def test_a_late_claim_takes_the_smallest_volume_that_is_there() -> None:
    cluster = Cluster(node("a"), node("b"), node("c"), clock=VirtualClock())
    volumes = cluster.scheduler.handle.volumes
    volumes.set_class({**CLASS, "provisioner": "kubernetes.io/no-provisioner"})
    volumes.set_claim(claim())
    for name, size, where in (("tiny", "500Mi", "a"), ("large", "10Gi", "b"), ("fitting", "2Gi", "b")):
        volumes.set_volume(volume(name, size, where))
    done = claim(volumeName="fitting", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    assert bind_with_volumes(cluster, done) == "b"
    [(name, patch)] = cluster.api.volume_patches
    assert (name, patch["spec"]["claimRef"]["name"], patch["spec"]["claimRef"]["uid"]) == ("fitting", "data", "c")


def test_a_reserved_volume_says_who_reserved_it_and_is_refused_if_it_has_changed() -> None:
    cluster = Cluster(node("a"), clock=VirtualClock())
    volumes = cluster.scheduler.handle.volumes
    volumes.set_class({**CLASS, "provisioner": "kubernetes.io/no-provisioner"})
    volumes.set_claim(claim())
    made = volume("v", "2Gi", "a")
    made["metadata"]["resourceVersion"] = "7"
    volumes.set_volume(made)
    done = claim(volumeName="v", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    assert bind_with_volumes(cluster, done) == "a"
    [(_, patch)] = cluster.api.volume_patches
    assert patch["metadata"] == {"resourceVersion": "7", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}


def test_a_binding_that_fails_says_what_failed() -> None:
    chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}}
    taken_back = claim(metadata={"annotations": {"other": "x"}})
    bound = claim(volumeName="far", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    kept = volume("v", "2Gi", "a")
    reserved = {**kept, "spec": {**kept["spec"], "claimRef": {"namespace": "default", "name": "data", "uid": "c"}}}

    async def waited(kind: str, *changes: Any) -> str:
        cluster = Cluster(node("a"), node("b"))
        volumes = cluster.scheduler.handle.volumes
        volumes.set_claim(claim(**(chosen if kind == "provisioned" else {})))
        volumes.set_volume(volume("far", "2Gi", "b"))
        volumes.set_volume(reserved)
        bound_volumes = BoundVolumes(volumes, cluster.scheduler.cluster, "a")
        waiting = bound_volumes.provisioned("default/data") if kind == "provisioned" else bound_volumes.static("default/data", "v")
        task = asyncio.ensure_future(waiting)
        for change in changes:
            await asyncio.sleep(0)
            change(volumes)
        return await task

    gone = 'could not find v1.PersistentVolumeClaim "default/data": not found'
    expected = [
        ("provisioned", lambda v: v.remove_claim(claim()), f"failed to check provisioning pvc: {gone}"),
        ("provisioned", lambda v: v.set_claim(taken_back), 'provisioning failed for PVC "data"'),
        ("provisioned", lambda v: v.set_claim(claim()), 'selectedNode annotation reset for PVC "data"'),
        ("provisioned", lambda v: v.set_claim(bound),
         'pv "far" node affinity doesn\'t match node "a": no matching NodeSelectorTerms'),
        ("static", lambda v: v.remove_claim(claim()), f"failed to check binding: {gone}"),
        ("static", lambda v: (v.assume("v", "default/data"), v.set_volume(kept)), 'ClaimRef got reset for pv "v"'),
    ]  # fmt: skip
    for kind, change, message in expected:
        assert asyncio.run(waited(kind, change)) == message


def test_without_a_volume_or_a_provisioner_no_node_will_do() -> None:
    cluster = Cluster(node("a"))
    cluster.scheduler.handle.volumes.set_class({**CLASS, "provisioner": "kubernetes.io/no-provisioner"})
    cluster.scheduler.handle.volumes.set_claim(claim())
    cluster.schedule(DATABASE)
    assert cluster.message("default/db").startswith("0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.")


def test_a_bound_volume_ties_the_pod_to_its_nodes() -> None:
    cluster = Cluster(node("a"), node("b"))
    volumes = cluster.scheduler.handle.volumes
    volumes.set_claim(claim(volumeName="v", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}))
    cluster.schedule(DATABASE)
    assert cluster.message("default/db").startswith(
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
    )
    volumes.set_volume(volume("v", "1Gi", "b"))
    cluster.scheduler.queue.activate("uid-default-db")
    assert cluster.schedule_next() == "b"


def test_a_claim_for_one_pod_refuses_the_second() -> None:
    cluster = Cluster(node("a"))
    bound = claim(volumeName="v", accessModes=["ReadWriteOncePod"], metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    cluster.scheduler.handle.volumes.set_claim(bound)
    cluster.scheduler.handle.volumes.set_volume(volume("v", "1Gi"))
    cluster.add(pod("first", node_name="a", volumes=DATABASE["spec"]["volumes"]))
    cluster.schedule(DATABASE)
    assert "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode" in cluster.message("default/db")
    cluster.handlers.pod_deleted(pod("first", node_name="a", volumes=DATABASE["spec"]["volumes"]))
    assert cluster.schedule_next() == "a"


def test_a_zonal_volume_keeps_the_pod_in_its_zone() -> None:
    zone = "topology.kubernetes.io/zone"
    cluster = Cluster(node("a", labels={zone: "east"}), node("b", labels={zone: "west"}))
    volumes = cluster.scheduler.handle.volumes
    volumes.set_claim(claim(volumeName="v", metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}))
    volumes.set_volume({**volume("v", "1Gi"), "metadata": {"name": "v", "labels": {zone: "west__north"}}})
    assert cluster.schedule(DATABASE) == ["b"]


def test_volumes_that_never_come_end_the_wait() -> None:
    async def scenario() -> float:
        clock = VirtualClock()
        cluster = Cluster(node("a"), clock=clock, profiles=(ProfileConfig(args={"VolumeBinding": {"bindTimeoutSeconds": 60}}),))
        await cluster.scheduler.binding.slots.acquire()
        cluster.scheduler.handle.volumes.set_class(CLASS)
        cluster.scheduler.handle.volumes.set_claim(claim())
        cluster.add(DATABASE)
        binding = cluster.begin_binding()
        await binding
        assert 'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded' in cluster.message("default/db")
        assert cluster.scheduler.cluster.pod_count == 0
        for _, work in cluster.work:
            work.close()
        return clock.monotonic()

    assert 60 <= run_virtual(scenario()) < 61

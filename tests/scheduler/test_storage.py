"""Storage decides about nodes: attach limits, free capacity, zones of old, disks without claims, several claims of one pod."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import Object
from kubecosm.services.scheduler.plugins.volumerestrictions import conflict
from kubecosm.services.scheduler.state.podinfo import compile_pod

from .helpers import Cluster, node, pod
from .test_volume_binding import CLASS, DATABASE, claim, volume

BOUND = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
DRIVER = "example.com/disk"


def csi_node(name: str, count: int | None) -> Object:
    allocatable = {} if count is None else {"allocatable": {"count": count}}
    return {"metadata": {"name": name}, "spec": {"drivers": [{"name": DRIVER, "nodeID": name, **allocatable}]}}


def csi_claims(cluster: Cluster, *names: str) -> None:
    """Bound claims, each with a CSI volume of its own."""
    volumes = cluster.scheduler.handle.volumes
    for name in names:
        volumes.set_claim(claim(volumeName=f"pv-{name}", metadata={"name": name, **BOUND}))
        made = volume(f"pv-{name}", "1Gi")
        made["spec"]["csi"] = {"driver": DRIVER, "volumeHandle": f"handle-{name}"}
        volumes.set_volume(made)


def user(name: str, *claims: str, **more: Any) -> Object:
    volumes = [{"name": f"v{index}", "persistentVolumeClaim": {"claimName": one}} for index, one in enumerate(claims)]
    return pod(name, volumes=volumes, **more)


# ---- attach limits


def test_a_node_attaches_no_more_volumes_than_its_driver_can() -> None:
    cluster = Cluster(node("a"), node("b"))
    csi = cluster.scheduler.handle.volumes.csi
    csi.set_node(csi_node("a", 1))
    csi.set_node(csi_node("b", 1))
    csi_claims(cluster, "x", "y", "z")
    assert set(cluster.schedule(user("p", "x"), user("q", "y"))) == {"a", "b"}
    assert cluster.schedule(user("r", "z")) == [""]
    assert cluster.message("default/r").startswith("0/2 nodes are available: 2 node(s) exceed max volume count.")


def test_a_volume_that_is_attached_already_counts_once() -> None:
    cluster = Cluster(node("a"))
    cluster.scheduler.handle.volumes.csi.set_node(csi_node("a", 1))
    csi_claims(cluster, "x")
    assert cluster.schedule(user("p", "x"), user("q", "x")) == ["a", "a"]


def test_volumes_that_are_attached_without_a_pod_count_too() -> None:
    cluster = Cluster(node("a"))
    csi = cluster.scheduler.handle.volumes.csi
    csi.set_node(csi_node("a", 1))
    csi_claims(cluster, "x", "y")
    attachment = {"metadata": {"name": "at"}, "spec": {"nodeName": "a", "attacher": DRIVER, "source": {"persistentVolumeName": "pv-x"}}}
    csi.set_attachment(attachment)
    assert cluster.schedule(user("p", "y")) == [""]
    csi.remove_attachment(attachment)
    cluster.scheduler.queue.activate("uid-default-p")
    assert cluster.schedule_next() == "a"


def test_a_volume_that_is_yet_to_be_made_counts_under_its_claim() -> None:
    cluster = Cluster(node("a"))
    volumes = cluster.scheduler.handle.volumes
    volumes.csi.set_node(csi_node("a", 1))
    volumes.set_class(CLASS)
    csi_claims(cluster, "x")
    cluster.add(user("p", "x", node_name="a"))
    volumes.set_claim(claim())
    cluster.schedule(DATABASE)
    assert "1 node(s) exceed max volume count." in cluster.message("default/db")


def test_nodes_without_a_limit_take_any_number() -> None:
    cluster = Cluster(node("a"))
    cluster.scheduler.handle.volumes.csi.set_node(csi_node("a", None))
    csi_claims(cluster, "x", "y")
    assert cluster.schedule(user("p", "x", "y")) == ["a"]


def test_pods_with_claims_wait_in_silence_until_limits_are_known() -> None:
    cluster = Cluster(node("a"))
    csi_claims(cluster, "x")
    csi = cluster.scheduler.handle.volumes.csi
    csi.ready = False
    cluster.add(user("p", "x"), pod("q"))
    assert cluster.schedule_next() == "a"
    assert (cluster.scheduler.queue.depths()["gated"], cluster.api.events[-1][0]) == (1, "default/q")
    csi.ready = True
    cluster.scheduler.recheck_gated_by("NodeVolumeLimits")
    assert cluster.schedule_next() == "a"


# ---- capacity


def capacity(name: str, size: str, topology: Object | None, **more: Any) -> Object:
    meta = {"namespace": "kube-system", "name": name}
    return {"metadata": meta, "storageClassName": "late", "capacity": size, "nodeTopology": topology, **more}


@pytest.mark.parametrize(
    ("published", "where"),
    [
        (capacity("c", "2Gi", {"matchLabels": {"kubernetes.io/hostname": "b"}}), "b"),
        (capacity("c", "500Mi", {"matchLabels": {"kubernetes.io/hostname": "b"}}), ""),
        (capacity("c", "2Gi", {"matchLabels": {"kubernetes.io/hostname": "b"}}, maximumVolumeSize="500Mi"), ""),
        (capacity("c", "2Gi", None), ""),
        (capacity("c", "2Gi", {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["b"]}]}), "a"),
        ({**capacity("c", "2Gi", {}), "storageClassName": "other"}, ""),
    ],
    ids=["there is room", "too small", "volumes too small", "no topology", "by expression", "of another class"],
)
def test_new_volumes_go_where_the_driver_has_room(published: Object, where: str) -> None:
    cluster = Cluster(node("a"), node("b"))
    volumes = cluster.scheduler.handle.volumes
    volumes.csi.set_driver({"metadata": {"name": DRIVER}, "spec": {"storageCapacity": True}})
    volumes.csi.set_capacity(published)
    volumes.set_class(CLASS)
    volumes.set_claim(claim())
    cluster.add(DATABASE)
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = cluster.scheduler.schedule_one(queued)
    if binding is not None:
        binding.close()
    else:
        cluster.run_background()
        assert "node(s) did not have enough free storage" in cluster.message("default/db")
    assert queued.info.node_name == where


# ---- claims that compete, zones, disks


def test_two_claims_of_a_pod_need_two_volumes() -> None:
    cluster = Cluster(node("a"), node("b"))
    volumes = cluster.scheduler.handle.volumes
    volumes.set_class({**CLASS, "provisioner": "kubernetes.io/no-provisioner"})
    for name in ("x", "y"):
        volumes.set_claim(claim(metadata={"name": name}))
    for name, where in (("v1", "a"), ("v2", "b"), ("v3", "b")):
        volumes.set_volume(volume(name, "1Gi", where))
    cluster.add(user("p", "x", "y"))
    queued = cluster.scheduler.queue.pop()
    assert queued is not None
    binding = cluster.scheduler.schedule_one(queued)
    assert binding is not None
    binding.close()
    assert queued.info.node_name == "b"


def test_beta_zone_labels_of_volumes_match_todays_node_labels() -> None:
    cluster = Cluster(node("a", labels={"topology.kubernetes.io/zone": "east"}), node("b", labels={"topology.kubernetes.io/zone": "west"}))
    volumes = cluster.scheduler.handle.volumes
    volumes.set_claim(claim(volumeName="v", metadata=BOUND))
    volumes.set_volume({**volume("v", "1Gi"), "metadata": {"name": "v", "labels": {"failure-domain.beta.kubernetes.io/zone": "west"}}})
    assert cluster.schedule(DATABASE) == ["b"]


DISKS: list[tuple[Object, Object, bool]] = [
    ({"gcePersistentDisk": {"pdName": "d"}}, {"gcePersistentDisk": {"pdName": "d", "readOnly": True}}, True),
    ({"gcePersistentDisk": {"pdName": "d", "readOnly": True}}, {"gcePersistentDisk": {"pdName": "d", "readOnly": True}}, False),
    ({"gcePersistentDisk": {"pdName": "d"}}, {"gcePersistentDisk": {"pdName": "e"}}, False),
    ({"awsElasticBlockStore": {"volumeID": "d"}}, {"awsElasticBlockStore": {"volumeID": "d", "readOnly": True}}, True),
    ({"iscsi": {"iqn": "d"}}, {"iscsi": {"iqn": "d"}}, True),
    ({"rbd": {"image": "i", "monitors": ["m1"]}}, {"rbd": {"image": "i", "monitors": ["m1", "m2"]}}, True),
    ({"rbd": {"image": "i", "monitors": ["m1"]}}, {"rbd": {"image": "i", "monitors": ["m2"]}}, False),
]


@pytest.mark.parametrize(("one", "other", "expected"), DISKS)
def test_disks_are_not_shared_on_a_node_unless_read_only(one: Object, other: Object, expected: bool) -> None:
    first, second = ([{"name": "v", **source}] for source in (one, other))
    [wanted], [used] = (compile_pod(pod("p", volumes=volumes)).disks for volumes in (first, second))
    assert conflict(wanted, used) is conflict(used, wanted) is expected
    cluster = Cluster(node("a"))
    cluster.add(pod("first", node_name="a", volumes=first))
    assert cluster.schedule(pod("second", volumes=second)) == ["" if expected else "a"]
    if expected:
        assert "1 node(s) had no available disk." in cluster.message("default/second")


def test_the_message_of_a_claim_in_use_counts_the_nodes() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.scheduler.handle.volumes.set_claim(claim(volumeName="v", accessModes=["ReadWriteOncePod"], metadata=BOUND))
    cluster.scheduler.handle.volumes.set_volume(volume("v", "1Gi"))
    cluster.add(pod("first", node_name="a", volumes=DATABASE["spec"]["volumes"]))
    cluster.schedule(DATABASE)
    assert cluster.message("default/db").startswith(
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
    )

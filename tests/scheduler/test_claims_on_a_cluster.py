"""Claims of devices and volumes on a real cluster: scheduler, controllers and API server together."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ClusterUnderTest, wait_for

from .test_on_a_cluster import Kube, Object, first_node, k, pod

pytestmark = pytest.mark.process

__all__ = ["k"]

DRIVER = "gpu.example.com"


def publish(k: Kube, node: str, *devices: str, **class_spec: str) -> None:
    """A driver of the test's own on one node, and a class that selects its devices."""
    driver = f"{k.namespace}.{DRIVER}"
    expression = f"device.driver == '{driver}' && device.attributes['{driver}'].model.startsWith('A')"
    device_class = {
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": k.namespace},
        "spec": {"selectors": [{"cel": {"expression": expression}}], **class_spec},
    }  # fmt: skip
    spec = {
        "driver": driver, "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": name, "attributes": {"model": {"string": "A100"}}} for name in devices],
    }  # fmt: skip
    resource_slice = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": k.namespace}, "spec": spec}
    k.apply(device_class, resource_slice)


def template(k: Kube) -> Object:
    devices = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": k.namespace}}]}
    return {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one-gpu"},
        "spec": {"spec": {"devices": devices}},
    }  # fmt: skip


def test_pods_get_devices_one_each_and_give_them_back(k: Kube) -> None:
    node = first_node(k)
    publish(k, node, "gpu-0", "gpu-1")
    wanted = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}
    k.apply(template(k), *(pod(f"user-{index}", **wanted) for index in range(2)))
    assert k.wait_scheduled("user-0", "user-1") == [node, node]
    k.apply(pod("late", **wanted))
    k.wait_unschedulable("late", "3 cannot allocate all claims")
    allocations = [(claim.get("status") or {}).get("allocation") for claim in k.get("resourceclaims")["items"]]
    given = [allocation["devices"]["results"][0]["device"] for allocation in allocations if allocation]
    assert sorted(given) == ["gpu-0", "gpu-1"]
    k.run("delete", "pod", "user-0", "--wait=false")
    assert k.wait_scheduled("late") == [node]
    wait_for(lambda: len(k.get("resourceclaims")["items"]) == 2, "the claim of the deleted pod has gone with it")


def test_a_pod_that_asks_for_an_extended_resource_gets_devices_of_its_class(k: Kube) -> None:
    node, resource = first_node(k), f"{k.namespace}.example.com/gpu"
    publish(k, node, "gpu-0", "gpu-1", extendedResourceName=resource)
    asking = {"resources": {"limits": {resource: "2"}, "requests": {resource: "2"}}}
    container = {"name": "main", "image": "nginx", **asking}
    k.apply(pod("trainer", containers=[container]))
    assert k.wait_scheduled("trainer") == [node]
    [claim] = k.get("resourceclaims")["items"]
    assert [one["device"] for one in claim["status"]["allocation"]["devices"]["results"]] == ["gpu-0", "gpu-1"]
    wait_for(lambda: k.get("pod", "trainer")["status"].get("phase") == "Running", "the pod runs")
    status = k.get("pod", "trainer")["status"]["extendedResourceClaimStatus"]
    assert (status["resourceClaimName"], status["requestMappings"][0]["resourceName"]) == (claim["metadata"]["name"], resource)
    k.run("delete", "pod", "trainer", "--wait=false")
    wait_for(lambda: not k.get("resourceclaims")["items"], "the claim has gone with its pod")
    brief = {**container, "image": "busybox", "command": ["true"]}
    k.apply(pod("brief", containers=[brief], restartPolicy="Never"))
    wait_for(lambda: k.get("pod", "brief")["status"].get("phase") == "Succeeded", "the pod has ended")
    wait_for(lambda: not k.get("resourceclaims")["items"], "the devices are free although the pod is still there")


def test_a_driver_attaches_no_more_volumes_than_it_can(k: Kube, cluster: ClusterUnderTest) -> None:
    node, driver = first_node(k), f"{k.namespace}.csi.example.com"
    csi_node = {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": node},
        "spec": {"drivers": [{"name": driver, "nodeID": node, "allocatable": {"count": 1}}]},
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(csi_node))
    try:
        for name in ("one", "two"):
            k.apply(*bound_claim(k, name, driver))
        wait_for(lambda: [c["status"].get("phase") for c in k.get("pvc")["items"]] == ["Bound", "Bound"], "the claims are bound")
        here = {"nodeSelector": {"kubernetes.io/hostname": node}}
        k.apply(pod("first", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "one"}}], **here))
        k.wait_scheduled("first")
        k.apply(pod("second", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "two"}}], **here))
        k.wait_unschedulable("second", "1 node(s) exceed max volume count")
        k.run("delete", "pod", "first", "--wait=false")
        assert k.wait_scheduled("second") == [node]
    finally:
        cluster.kubectl("delete", "csinode", node, "--wait=false")


def bound_claim(k: Kube, name: str, driver: str) -> tuple[Object, Object]:
    """A volume of a CSI driver, and the claim that gets it."""
    volume = f"{k.namespace}-{name}"
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    source = {"driver": driver, "volumeHandle": name}
    pv = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
        "spec": {**common, "capacity": {"storage": "1Gi"}, "csi": source},
    }  # fmt: skip
    pvc = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    return pv, pvc

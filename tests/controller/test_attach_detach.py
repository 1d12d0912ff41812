"""Volumes of CSI drivers are attached to the node of their pods, to one node at a time, and detached when no pod there needs them."""

from __future__ import annotations

from typing import Any

from kubecosm.api.resources import (
    CSIDRIVERS,
    EVENTS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
    Object,
)
from kubecosm.services.controller.storage import attach_detach

from .fake_api import FakeApi
from .harness import controllers, node, pod_template, run, settle, wait_for

DRIVER = "disk.example.com"


def a_volume(name: str = "disk", **spec: Any) -> Object:
    body = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "h-1"}, **spec}
    return {"metadata": {"name": name}, "spec": body}


def a_pod(name: str, node_name: str, claim: str = "data") -> Object:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**pod_template()["spec"], "nodeName": node_name, "volumes": volumes},
    }


def prepare(api: FakeApi, volume: Object | None = None) -> None:
    for name in ("node-0", "node-1"):
        api.put(NODES, node(name))
    api.put(PERSISTENTVOLUMES, volume or a_volume())
    api.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "disk"}})


def attached_to(api: FakeApi) -> list[str]:
    return [found["spec"]["nodeName"] for found in api.all(VOLUMEATTACHMENTS)]


def test_a_volume_follows_its_pods_from_node_to_node() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, attach_detach):
            first = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            attachment = api.all(VOLUMEATTACHMENTS)[0]
            assert attachment["spec"] == {"attacher": DRIVER, "nodeName": "node-0", "source": {"persistentVolumeName": "disk"}}
            api.set_status(VOLUMEATTACHMENTS, attachment, attached=True)
            name = f"kubernetes.io/csi/{DRIVER}^h-1"
            await wait_for(
                lambda: api.objects[NODES][("", "node-0")]["status"].get("volumesAttached") == [{"name": name, "devicePath": ""}]
            )
            await wait_for(lambda: "SuccessfulAttachVolume" in {event["reason"] for event in api.all(EVENTS)})
            api.put(PODS, a_pod("two", "node-1"))
            await wait_for(lambda: any("Multi-Attach error" in event["message"] for event in api.all(EVENTS)))
            assert attached_to(api) == ["node-0"]
            api.remove(PODS, first)
            await wait_for(lambda: attached_to(api) == ["node-1"])
            assert not api.objects[NODES][("", "node-0")]["status"].get("volumesAttached")

    run(test)


def test_only_drivers_that_want_it_are_asked() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        api.put(CSIDRIVERS, {"metadata": {"name": DRIVER}, "spec": {"attachRequired": False}})
        async with controllers(api, attach_detach):
            api.put(PODS, a_pod("one", "node-0"))
            await settle()
        assert not attached_to(api)

    run(test)


def test_shared_volumes_are_attached_to_many_nodes() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api, a_volume(accessModes=["ReadWriteMany"]))
        async with controllers(api, attach_detach):
            api.put(PODS, a_pod("one", "node-0"))
            api.put(PODS, a_pod("two", "node-1"))
            await wait_for(lambda: sorted(attached_to(api)) == ["node-0", "node-1"])

    run(test)


def test_a_failed_attachment_is_told_to_the_pod() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, attach_detach):
            api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.set_status(VOLUMEATTACHMENTS, api.all(VOLUMEATTACHMENTS)[0], attached=False, attachError={"message": "no such disk"})
            text = 'AttachVolume.Attach failed for volume "disk" : no such disk'
            await wait_for(lambda: text in {event["message"] for event in api.all(EVENTS)})

    run(test)


def test_volumes_of_a_node_that_is_gone_are_detached() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, attach_detach):
            pod = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.remove(NODES, api.objects[NODES][("", "node-0")])
            api.remove(PODS, pod)
            await wait_for(lambda: not attached_to(api))

    run(test)


def test_attachments_that_others_made_are_left_alone() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        spec = {"attacher": DRIVER, "nodeName": "node-0", "source": {"persistentVolumeName": "x"}}
        api.put(VOLUMEATTACHMENTS, {"metadata": {"name": "mine"}, "spec": spec})
        async with controllers(api, attach_detach):
            pod = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: len(attached_to(api)) == 2)
            api.remove(PODS, pod)
            await wait_for(lambda: len(attached_to(api)) == 1)
            await settle()
            assert api.all(VOLUMEATTACHMENTS)[0]["metadata"]["name"] == "mine"

    run(test)

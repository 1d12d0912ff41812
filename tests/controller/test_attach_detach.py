"""Volumes of CSI drivers are attached to the node of their pods, to one node at a time, and detached when no pod there needs them."""

from __future__ import annotations

from typing import Any

from kubecosm.api.errors import InternalError
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
from kubecosm.services.controller.storage.attach_detach import AttachDetach, told_of_conflict

from .fake_api import FakeApi
from .harness import controllers, node, pod_template, run, settle, wait_for

DRIVER = "disk.example.com"


def a_volume(name: str = "disk", **spec: Any) -> Object:
    ref = {"namespace": "default", "name": "data", "uid": "u"}
    body = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "h-1"}, "claimRef": ref, **spec}
    return {"metadata": {"name": name}, "spec": body}


def a_pod(name: str, node_name: str, claim: str = "data") -> Object:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**pod_template()["spec"], "nodeName": node_name, "volumes": volumes},
    }


def a_node(name: str, ready: str = "True", **spec: Any) -> Object:
    found = node(name)
    found["metadata"]["annotations"] = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    return {**found, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def prepare(api: FakeApi, volume: Object | None = None) -> None:
    for name in ("node-0", "node-1"):
        api.put(NODES, a_node(name))
    api.put(PERSISTENTVOLUMES, volume or a_volume())
    api.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "disk"}})


def attached_to(api: FakeApi) -> list[str]:
    return [found["spec"]["nodeName"] for found in api.all(VOLUMEATTACHMENTS)]


def test_a_volume_follows_its_pods_from_node_to_node() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
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
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await settle()
        assert not attached_to(api)

    run(test)


def test_shared_volumes_are_attached_to_many_nodes() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api, a_volume(accessModes=["ReadWriteMany"]))
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            api.put(PODS, a_pod("two", "node-1"))
            await wait_for(lambda: sorted(attached_to(api)) == ["node-0", "node-1"])

    run(test)


def test_a_failed_attachment_is_told_to_the_pod() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.set_status(VOLUMEATTACHMENTS, api.all(VOLUMEATTACHMENTS)[0], attached=False, attachError={"message": "no such disk"})
            text = 'AttachVolume.Attach failed for volume "disk" : no such disk'
            await wait_for(lambda: text in {event["message"] for event in api.all(EVENTS)})

    run(test)


def test_volumes_of_a_node_that_is_gone_are_detached() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
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
        async with controllers(api, AttachDetach()):
            pod = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: len(attached_to(api)) == 2)
            api.remove(PODS, pod)
            await wait_for(lambda: len(attached_to(api)) == 1)
            await settle()
            assert api.all(VOLUMEATTACHMENTS)[0]["metadata"]["name"] == "mine"

    run(test)


def test_success_is_told_once() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.set_status(VOLUMEATTACHMENTS, api.all(VOLUMEATTACHMENTS)[0], attached=True)
            await wait_for(lambda: api.all(EVENTS))
            api.put(PODS, a_pod("two", "node-0"))
            await settle()
        [event] = api.all(EVENTS)
        assert (event["reason"], event.get("count", 1), event["involvedObject"]["name"]) == ("SuccessfulAttachVolume", 1, "one")

    run(test)


def test_a_pod_hears_who_has_its_volume() -> None:
    waiting = a_pod("new", "node-1")
    far = {**a_pod("there", "node-0"), "metadata": {"name": "there", "namespace": "elsewhere"}}
    error = 'Multi-Attach error for volume "disk" Volume is already'
    assert told_of_conflict("disk", waiting, [a_pod("a", "n"), a_pod("b", "n")]) == f"{error} used by pod(s) a, b"
    assert told_of_conflict("disk", waiting, [a_pod("a", "n"), far]) == f"{error} used by pod(s) a and 1 pod(s) in different namespaces"
    assert told_of_conflict("disk", waiting, [far]) == f"{error} used by 1 pod(s) in different namespaces"
    assert told_of_conflict("disk", waiting, []) == f"{error} exclusively attached to one node and can't be attached to another"

    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.put(PODS, a_pod("two", "node-1"))
            await wait_for(lambda: f"{error} used by pod(s) one" in {event["message"] for event in api.all(EVENTS)})

    run(test)


def test_a_volume_that_is_heard_of_after_its_pod_is_attached() -> None:
    async def test(api: FakeApi) -> None:
        api.put(NODES, a_node("node-0"))
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await settle()
            api.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "disk"}})
            await settle()
            assert not attached_to(api)
            api.put(PERSISTENTVOLUMES, a_volume())
            await wait_for(lambda: attached_to(api) == ["node-0"])

    run(test)


def test_volumes_of_a_silent_node_are_in_use_for_six_minutes() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
            pod = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.set_status(NODES, api.objects[NODES][("", "node-0")], conditions=[{"type": "Ready", "status": "Unknown"}])
            api.remove(PODS, pod)
            await settle(350)
            assert attached_to(api) == ["node-0"]
            await settle(20)
            assert not attached_to(api)

    run(test)


def test_a_node_that_is_declared_off_lets_its_volumes_go() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        async with controllers(api, AttachDetach()):
            pod = api.put(PODS, a_pod("one", "node-0"))
            await wait_for(lambda: attached_to(api) == ["node-0"])
            api.put(NODES, a_node("node-0", ready="Unknown"))
            api.remove(PODS, pod)
            await settle(10)
            assert attached_to(api) == ["node-0"]
            off = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
            api.put(NODES, a_node("node-0", ready="Unknown", taints=[off]))
            await wait_for(lambda: not attached_to(api))

    run(test)


def test_kubelets_that_attach_by_themselves_are_left_to_it() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        api.put(NODES, node("node-0"))
        async with controllers(api, AttachDetach()):
            api.put(PODS, a_pod("one", "node-0"))
            await settle()
            assert not attached_to(api)

    run(test)


def test_pods_that_come_at_once_do_not_both_get_an_exclusive_volume() -> None:
    async def test(api: FakeApi) -> None:
        prepare(api)
        api.put(PODS, a_pod("one", "node-0"))
        api.put(PODS, a_pod("two", "node-1"))
        async with controllers(api, AttachDetach()):
            await settle()
            [node_name] = attached_to(api)
            assert api.count("create", "volumeattachments") == 1
            api.answer_with(InternalError("boom"), "create", "volumeattachments", 3)
            gone = next(pod for pod in api.all(PODS) if pod["spec"]["nodeName"] == node_name)
            api.remove(PODS, gone)
            await wait_for(lambda: attached_to(api) not in ([], [node_name]), "a failed attempt does not block the next")

    run(test)

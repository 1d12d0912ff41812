"""Claims and volumes find and leave each other as in Kubernetes, and say so in its words."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.errors import Forbidden
from kubecosm.api.resources import EVENTS, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, VOLUMEATTRIBUTESCLASSES, Object
from kubecosm.services.controller.storage import claims, expansion, provisioner, pv_binder, volumes
from kubecosm.services.controller.storage.provisioner import topology_terms

from .fake_api import FakeApi
from .harness import controllers, node, run, settle, wait_for

BINDING = (pv_binder, volumes)
PROVISIONING = (*BINDING, provisioner.Provisioner(""), expansion)


def claim(name: str = "c", class_name: str | None = "", size: str = "1Gi", annotations: Object | None = None, **spec: Any) -> Object:
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    if class_name is not None:
        body["storageClassName"] = class_name
    meta = {"name": name, "namespace": "default", "annotations": annotations or {}}
    return {"metadata": meta, "spec": body, "status": {"phase": "Pending"}}


def volume(name: str = "v", annotations: Object | None = None, **spec: Any) -> Object:
    body = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, "storageClassName": "", **spec}
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": body}


def storage_class(name: str = "fast", **fields: Any) -> Object:
    return {"metadata": {"name": name}, "provisioner": "disk.example.com", "volumeBindingMode": "Immediate", **fields}


def phases(api: FakeApi, resource: Any = PERSISTENTVOLUMECLAIMS) -> list[str]:
    return [found.get("status", {}).get("phase", "") for found in api.all(resource)]


def told(api: FakeApi, kind: str = "PersistentVolumeClaim") -> list[tuple[str, str, str]]:
    return [(e["type"], e["reason"], e["message"]) for e in api.all(EVENTS) if e["involvedObject"]["kind"] == kind]


MISMATCHES = [
    ({"capacity": {"storage": "1Mi"}}, "requested PV is too small"),
    ({"storageClassName": "other"}, "storageClassName does not match"),
    ({"volumeMode": "Block"}, "incompatible volumeMode"),
    ({"accessModes": ["ReadOnlyMany"]}, "incompatible accessMode"),
]


@pytest.mark.parametrize(("spec", "why"), MISMATCHES)
def test_a_volume_asked_for_by_name_must_suit_the_claim(spec: Object, why: str) -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *BINDING):
            await api.create(PERSISTENTVOLUMES, volume(**spec))
            await api.create(PERSISTENTVOLUMECLAIMS, claim(volumeName="v"))
            expected = ("Warning", "VolumeMismatch", f'Cannot bind to requested volume "v": {why}')
            await wait_for(lambda: expected in told(api))
            await settle()
            assert phases(api) == ["Pending"]
            assert phases(api, PERSISTENTVOLUMES) == ["Available"]

    run(test)


def test_a_reserved_volume_waits_for_a_claim_of_its_mode() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *BINDING):
            made = await api.create(PERSISTENTVOLUMECLAIMS, claim(volumeMode="Block"))
            ref = {"namespace": "default", "name": "c", "uid": made["metadata"]["uid"]}
            await api.create(PERSISTENTVOLUMES, volume(claimRef=ref))
            message = 'Cannot bind PersistentVolume "v" to requested PersistentVolumeClaim due to incompatible volumeMode.'
            await wait_for(lambda: ("Warning", "VolumeMismatch", message) in told(api))
            message = 'Cannot bind PersistentVolume to requested PersistentVolumeClaim "c" due to incompatible volumeMode.'
            await wait_for(lambda: ("Warning", "VolumeMismatch", message) in told(api, "PersistentVolume"))

    run(test)


def test_a_volume_that_another_claim_has_is_not_given_and_comes_when_it_is_free() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *BINDING):
            await api.create(PERSISTENTVOLUMES, volume(persistentVolumeReclaimPolicy="Retain"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("first"))
            await wait_for(lambda: phases(api) == ["Bound"])
            await api.create(PERSISTENTVOLUMECLAIMS, claim("second", volumeName="v"))
            await wait_for(lambda: ("Warning", "FailedBinding", 'volume "v" already bound to a different claim.') in told(api))
            await api.delete(PERSISTENTVOLUMECLAIMS, "first", "default")
            await wait_for(lambda: phases(api, PERSISTENTVOLUMES) == ["Released"])
            kept = await api.get(PERSISTENTVOLUMES, "v")
            del kept["spec"]["claimRef"]
            await api.update(PERSISTENTVOLUMES, kept)
            await wait_for(lambda: phases(api) == ["Bound"])

    run(test)


def test_a_claim_that_cannot_be_served_says_why() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class("local", provisioner="kubernetes.io/no-provisioner"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("classless"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("missing", "nowhere"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("manual", "local"))
            expected = {
                ("Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
                ("Warning", "ProvisioningFailed", 'storageclass.storage.k8s.io "nowhere" not found'),
                ("Warning", "ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner"),
            }
            await wait_for(lambda: set(told(api)) == expected)

    run(test)


def test_a_claim_without_class_takes_a_volume_without_class_before_a_default_class() -> None:
    async def test(api: FakeApi) -> None:
        default = storage_class("standard")
        default["metadata"]["annotations"] = {"storageclass.beta.kubernetes.io/is-default-class": "true"}
        async with controllers(api, *PROVISIONING):
            await api.create(PERSISTENTVOLUMES, volume())
            await wait_for(lambda: phases(api, PERSISTENTVOLUMES) == ["Available"])
            await api.create(STORAGECLASSES, default)
            await api.create(PERSISTENTVOLUMECLAIMS, claim("a", class_name=None))
            await wait_for(lambda: phases(api) == ["Bound"])
            assert "storageClassName" not in api.all(PERSISTENTVOLUMECLAIMS)[0]["spec"]
            await api.create(PERSISTENTVOLUMECLAIMS, claim("b", class_name=None))
            await wait_for(lambda: phases(api) == ["Bound", "Bound"])
            assert api.all(PERSISTENTVOLUMECLAIMS)[1]["spec"]["storageClassName"] == "standard"

    run(test)


def test_of_equally_old_default_classes_the_first_by_name_counts() -> None:
    def marked(name: str, created: str) -> Object:
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
        return {"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}}

    found = claims.default_class([marked("z", "2026-01-02"), marked("b", "2026-01-02"), marked("a", "2026-01-01")])
    assert found is not None
    assert found["metadata"]["name"] == "b"


def test_the_scheduler_alone_binds_free_volumes_of_late_classes() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *BINDING):
            late = storage_class(volumeBindingMode="WaitForFirstConsumer", provisioner="kubernetes.io/no-provisioner")
            await api.create(STORAGECLASSES, late)
            await api.create(PERSISTENTVOLUMES, volume("free", storageClassName="fast"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast", annotations={"volume.kubernetes.io/selected-node": "n"}))
            await settle()
            assert phases(api) == ["Pending"]
            ref = {"namespace": "default", "name": "c"}
            await api.create(PERSISTENTVOLUMES, volume("meant", storageClassName="fast", claimRef=ref))
            await wait_for(lambda: phases(api) == ["Bound"])
            assert api.all(PERSISTENTVOLUMECLAIMS)[0]["spec"]["volumeName"] == "meant"

    run(test)


def test_provisioners_are_told_by_two_annotations_and_by_the_names_of_today() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class("gp2", provisioner="kubernetes.io/aws-ebs", mountOptions=["noatime"]))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "gp2"))
            await wait_for(lambda: phases(api) == ["Bound"])
            annotations = api.all(PERSISTENTVOLUMECLAIMS)[0]["metadata"]["annotations"]
            assert annotations["volume.kubernetes.io/storage-provisioner"] == "ebs.csi.aws.com"
            assert annotations["volume.beta.kubernetes.io/storage-provisioner"] == "ebs.csi.aws.com"
            made = api.all(PERSISTENTVOLUMES)[0]
            assert made["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == "ebs.csi.aws.com"
            assert made["spec"]["mountOptions"] == ["noatime"]
        reasons = [reason for _, reason, _ in told(api)]
        assert reasons == ["ExternalProvisioning", "Provisioning", "ProvisioningSucceeded"]

    run(test)


def test_a_claim_that_selects_gets_no_made_volume() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class())
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast", selector={"matchLabels": {"a": "b"}}))
            message = 'failed to provision volume with StorageClass "fast": claim Selector is not supported'
            await wait_for(lambda: ("Warning", "ProvisioningFailed", message) in told(api))
            assert phases(api) == ["Pending"]

    run(test)


def test_a_claim_waits_for_its_class_of_attributes_which_must_be_its_drivers() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class())
            await api.create(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "foreign"}, "driverName": "other.io"})
            await api.create(PERSISTENTVOLUMECLAIMS, claim("early", "fast", volumeAttributesClassName="gold"))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("wrong", "fast", volumeAttributesClassName="foreign"))
            failed = 'failed to provision volume with StorageClass "fast": '
            missing = 'volumeattributesclass.storage.k8s.io "gold" not found'
            mismatch = "VAC foreign referenced in PVC is for driver other.io which does not match driver name disk.example.com"
            expected = {("Warning", "ProvisioningFailed", failed + why) for why in (missing, mismatch)}
            await wait_for(lambda: expected <= set(told(api)))
            await api.create(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "gold"}, "driverName": "disk.example.com"})
            await wait_for(lambda: sorted(phases(api)) == ["Bound", "Pending"])

    run(test)


def test_a_volume_that_the_server_refuses_is_told_of_and_tried_again() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class())
            api.answer_with(Forbidden("no more volumes"), "create", "persistentvolumes")
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast"))
            await wait_for(lambda: phases(api) == ["Bound"])
            message = "Error creating provisioned PV object for claim default/c: no more volumes. Deleting the volume."
            await wait_for(lambda: ("Warning", "ProvisioningFailed", message) in told(api))

    run(test)


def test_a_volume_can_be_used_where_its_class_allows_and_the_scheduler_has_chosen() -> None:
    zones = [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]
    assert topology_terms([], None) == []
    anywhere = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]
    assert topology_terms(zones, None) == topology_terms(zones, node("n", zone="c")) == anywhere
    assert topology_terms(zones, node("n", zone="b")) == [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]


def test_the_scheduler_is_asked_again_when_its_node_is_gone() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class(volumeBindingMode="WaitForFirstConsumer"))
            chosen = {"volume.kubernetes.io/selected-node": "gone"}
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast", annotations=chosen))

            def annotations() -> Object:
                return dict(api.all(PERSISTENTVOLUMECLAIMS)[0]["metadata"]["annotations"])

            await wait_for(lambda: "volume.kubernetes.io/selected-node" not in annotations())
            api.put(NODES, node("here"))
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "here"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: phases(api) == ["Bound"])

    run(test)


RECLAIMED = [
    ({"hostPath": {"path": "/tmp/data"}}, [], ()),
    ({"hostPath": {"path": "/data"}}, ["Failed"],
     ("VolumeFailedDelete", "host_path deleter only supports /tmp/.+ but received provided /data")),
    ({"nfs": {"server": "s", "path": "/"}}, ["Failed"],
     ("VolumeFailedDelete", 'error getting deleter volume plugin for volume "v": no deletable volume plugin matched')),
    ({"csi": {"driver": "d", "volumeHandle": "h"}}, ["Released"], ()),
    ({"nfs": {"server": "s", "path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}, ["Available"],
     ("VolumeRecycled", "Volume recycled")),
    ({"csi": {"driver": "d", "volumeHandle": "h"}, "persistentVolumeReclaimPolicy": "Recycle"}, ["Failed"],
     ("VolumeFailedRecycle", "No recycler plugin found for the volume!")),
]  # fmt: skip


@pytest.mark.parametrize(("source", "left", "event"), RECLAIMED)
def test_what_becomes_of_a_left_volume_depends_on_its_policy_and_its_kind(source: Object, left: list[str], event: tuple[str, ...]) -> None:
    async def test(api: FakeApi) -> None:
        made = volume(persistentVolumeReclaimPolicy="Delete")
        made["spec"] = {**{k: v for k, v in made["spec"].items() if k != "hostPath"}, **source}
        async with controllers(api, *BINDING):
            await api.create(PERSISTENTVOLUMES, made)
            await api.create(PERSISTENTVOLUMECLAIMS, claim())
            await wait_for(lambda: phases(api) == ["Bound"])
            await api.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
            await wait_for(lambda: phases(api, PERSISTENTVOLUMES) == left)
            await settle()
            assert phases(api, PERSISTENTVOLUMES) == left
        assert [found[1:] for found in told(api, "PersistentVolume")] == ([event] if event else [])
        for found in api.all(PERSISTENTVOLUMES):
            assert ("claimRef" in found["spec"]) == (left != ["Available"])
            assert (found["status"].get("message") or "") == (event[1] if left == ["Failed"] else "")

    run(test)


def test_a_volume_whose_claim_has_another_one_is_free_again() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *BINDING):
            await api.create(PERSISTENTVOLUMES, volume("has"))
            bound = await api.create(PERSISTENTVOLUMECLAIMS, claim())
            await wait_for(lambda: phases(api) == ["Bound"])
            ref = {"namespace": "default", "name": "c", "uid": bound["metadata"]["uid"]}
            await api.create(PERSISTENTVOLUMES, volume("reserved", claimRef=ref))
            await api.create(PERSISTENTVOLUMES, volume("surplus", {"pv.kubernetes.io/bound-by-controller": "yes"}, claimRef=ref))
            await wait_for(lambda: sorted(phases(api, PERSISTENTVOLUMES)) == ["Available", "Available", "Bound"])
            reserved, surplus = await api.get(PERSISTENTVOLUMES, "reserved"), await api.get(PERSISTENTVOLUMES, "surplus")
            assert reserved["spec"]["claimRef"] == {"namespace": "default", "name": "c"}
            assert "claimRef" not in surplus["spec"]
            assert "annotations" not in surplus["metadata"]

    run(test)


def test_a_volume_heard_of_before_its_claim_is_not_released() -> None:
    bound = volume(claimRef={"namespace": "default", "name": "c", "uid": "u"})
    bound["status"] = {"phase": "Bound"}
    assert volumes.plan_volume_life(bound, None) == volumes.Plan("Released", reclaim=True)

    async def test(api: FakeApi) -> None:
        async with controllers(api, volumes):
            made = await api.create(PERSISTENTVOLUMECLAIMS, claim(volumeName="v"))
            await settle()
            api.streams = [stream for stream in api.streams if stream.resource != PERSISTENTVOLUMECLAIMS]  # deaf to claims
            later = await api.create(PERSISTENTVOLUMECLAIMS, claim("later", volumeName="w"))
            for name, owner in (("v", made), ("w", later)):
                ref = {"namespace": "default", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
                await api.create(PERSISTENTVOLUMES, volume(name, claimRef=ref))
            await wait_for(lambda: phases(api, PERSISTENTVOLUMES) == ["Bound", "Bound"])

    run(test)


def test_a_growing_claim_tells_each_step() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class(allowVolumeExpansion=True))
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast"))
            await wait_for(lambda: phases(api) == ["Bound"])
            seen: list[Object] = []
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            stream = await api.open_watch(PERSISTENTVOLUMECLAIMS, resource_version=found["metadata"]["resourceVersion"])
            found["spec"]["resources"]["requests"]["storage"] = "3Gi"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]["capacity"] == {"storage": "3Gi"})
            seen += [event.object["status"] for event in await stream.read() or ()]
            growing = next(status for status in seen if status.get("conditions"))
            assert [(one["type"], one["status"]) for one in growing["conditions"]] == [("Resizing", "True")]
            assert growing["allocatedResourceStatuses"] == {"storage": "ControllerResizeInProgress"}
            final = api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]
            assert "conditions" not in final
            assert "allocatedResourceStatuses" not in final
            assert final["allocatedResources"] == {"storage": "3Gi"}
        assert [found[1] for found in told(api)][-2:] == ["Resizing", "VolumeResizeSuccessful"]

    run(test)


def test_others_volumes_are_for_others_to_expand() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(PERSISTENTVOLUMES, volume())
            await api.create(PERSISTENTVOLUMECLAIMS, claim())
            await wait_for(lambda: phases(api) == ["Bound"])
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            found["spec"]["resources"]["requests"]["storage"] = "3Gi"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: ("Normal", "ExternalExpanding", "waiting for an external controller to expand this PVC") in told(api))
            assert api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]["capacity"] == {"storage": "1Gi"}

    run(test)


def test_attributes_of_a_volume_change_with_the_class_that_its_claim_names() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *PROVISIONING):
            await api.create(STORAGECLASSES, storage_class())
            await api.create(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "silver"}, "driverName": "disk.example.com"})
            await api.create(PERSISTENTVOLUMECLAIMS, claim("c", "fast", volumeAttributesClassName="silver"))
            await wait_for(lambda: phases(api) == ["Bound"])
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            assert found["status"]["currentVolumeAttributesClassName"] == "silver"
            found["spec"]["volumeAttributesClassName"] = "gold"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            pending = {"status": "Pending", "targetVolumeAttributesClassName": "gold"}
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS)[0]["status"].get("modifyVolumeStatus") == pending)
            await api.create(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "gold"}, "driverName": "disk.example.com"})
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]["currentVolumeAttributesClassName"] == "gold")
            status = api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]
            assert "modifyVolumeStatus" not in status
            assert "conditions" not in status
            assert api.all(PERSISTENTVOLUMES)[0]["spec"]["volumeAttributesClassName"] == "gold"
            assert [found[1] for found in told(api)][-2:] == ["VolumeModify", "VolumeModifySuccessful"]
            await api.create(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "foreign"}, "driverName": "other.io"})
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            found["spec"]["volumeAttributesClassName"] = "foreign"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            why = "VAC foreign referenced in PVC is for driver other.io which does not match driver name disk.example.com"
            await wait_for(lambda: ("Warning", "VolumeModifyFailed", why) in told(api))

    run(test)

"""Claims, volumes, quotas and aggregated roles in virtual time."""

from __future__ import annotations

from typing import Any

from kubecosm.api.errors import Forbidden
from kubecosm.api.meta import is_deleting
from kubecosm.api.resources import (
    CLUSTERROLES,
    EVENTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SERVICES,
    STORAGECLASSES,
    VOLUMEATTRIBUTESCLASSES,
    Object,
)
from kubecosm.services.controller.caches import slimming
from kubecosm.services.controller.cluster import clusterrole_aggregation
from kubecosm.services.controller.cluster.resource_quota import ResourceQuotas
from kubecosm.services.controller.storage import class_protection, ephemeral, expansion, protection, provisioner, pv_binder, volumes

from .fake_api import FakeApi
from .harness import controllers, node, pod_template, run, running, settle, wait_for

STORAGE = (pv_binder, volumes, provisioner.Provisioner("standard"), expansion, protection)


def claim(name: str = "c", class_name: str | None = "standard", size: str = "1Gi", **spec: Any) -> Object:
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    if class_name is not None:
        body["storageClassName"] = class_name
    return {"metadata": {"name": name, "namespace": "default"}, "spec": body}


def phase(api: FakeApi, resource: Any = PERSISTENTVOLUMECLAIMS) -> list[str]:
    return [(found.get("status") or {}).get("phase", "") for found in api.all(resource)]


def test_the_default_class_is_created_once_and_its_claims_get_volumes() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *STORAGE):
            await wait_for(lambda: [found["metadata"]["name"] for found in api.all(STORAGECLASSES)] == ["standard"])
            await api.create(PERSISTENTVOLUMECLAIMS, claim(class_name=None))
            await wait_for(lambda: phase(api) == ["Bound"] and phase(api, PERSISTENTVOLUMES) == ["Bound"])
        found, volume = api.all(PERSISTENTVOLUMECLAIMS)[0], api.all(PERSISTENTVOLUMES)[0]
        assert found["spec"]["storageClassName"] == "standard"
        assert found["spec"]["volumeName"] == volume["metadata"]["name"] == f"pvc-{found['metadata']['uid']}"
        assert found["status"]["capacity"] == {"storage": "1Gi"}
        assert volume["spec"]["claimRef"]["uid"] == found["metadata"]["uid"]

    run(test)


def test_a_volume_goes_with_its_claim_but_not_under_a_pod() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *STORAGE):
            await api.create(PERSISTENTVOLUMECLAIMS, claim())
            await wait_for(lambda: phase(api) == ["Bound"])
            spec = {**pod_template()["spec"], "nodeName": "n", "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}
            pod = api.put(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": spec, "status": running(api)})
            await settle()
            await api.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
            await settle(30)
            assert is_deleting(api.all(PERSISTENTVOLUMECLAIMS)[0])
            api.remove(PODS, pod)
            await wait_for(lambda: not api.all(PERSISTENTVOLUMECLAIMS) and not api.all(PERSISTENTVOLUMES))

    run(test)


def test_a_retained_volume_is_released() -> None:
    async def test(api: FakeApi) -> None:
        made = {"metadata": {"name": "kept"}, "provisioner": "example.com/any", "reclaimPolicy": "Retain"}
        async with controllers(api, *STORAGE):
            await api.create(STORAGECLASSES, made)
            await api.create(PERSISTENTVOLUMECLAIMS, claim(class_name="kept"))
            await wait_for(lambda: phase(api) == ["Bound"])
            await api.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
            await wait_for(lambda: phase(api, PERSISTENTVOLUMES) == ["Released"])

    run(test)


def test_late_binding_waits_for_the_scheduler() -> None:
    async def test(api: FakeApi) -> None:
        late = {"metadata": {"name": "late"}, "provisioner": "example.com/any", "volumeBindingMode": "WaitForFirstConsumer"}
        async with controllers(api, *STORAGE):
            await api.create(STORAGECLASSES, late)
            await api.create(PERSISTENTVOLUMECLAIMS, claim(class_name="late"))
            await wait_for(lambda: any(event["reason"] == "WaitForFirstConsumer" for event in api.all(EVENTS)))
            volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
            await api.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": {"volumes": volumes}})
            await wait_for(lambda: any(event["message"] == "waiting for pod p to be scheduled" for event in api.all(EVENTS)))
            await settle(10)
            assert not api.all(PERSISTENTVOLUMES)
            api.put(NODES, node("n"))
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            found["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n"}
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: phase(api) == ["Bound"])

    run(test)


def test_a_static_volume_is_bound_to_the_claim_it_suits() -> None:
    async def test(api: FakeApi) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "storageClassName": "manual", "hostPath": {"path": "/x"}}
        async with controllers(api, *STORAGE):
            await api.create(PERSISTENTVOLUMES, {"metadata": {"name": "static"}, "spec": spec})
            await wait_for(lambda: phase(api, PERSISTENTVOLUMES) == ["Available"])
            await api.create(PERSISTENTVOLUMECLAIMS, claim(class_name="manual"))
            await wait_for(lambda: phase(api) == ["Bound"])
            assert api.all(PERSISTENTVOLUMECLAIMS)[0]["spec"]["volumeName"] == "static"
            api.remove(PERSISTENTVOLUMES, api.all(PERSISTENTVOLUMES)[0])
            await wait_for(lambda: phase(api) == ["Lost"])

    run(test)


def test_a_claim_that_asks_for_more_grows() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *STORAGE):
            await wait_for(lambda: api.all(STORAGECLASSES))
            await api.create(PERSISTENTVOLUMECLAIMS, claim())
            await wait_for(lambda: phase(api) == ["Bound"])
            found = await api.get(PERSISTENTVOLUMECLAIMS, "c", "default")
            found["spec"]["resources"]["requests"]["storage"] = "3Gi"
            await api.update(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS)[0]["status"]["capacity"] == {"storage": "3Gi"})
            assert api.all(PERSISTENTVOLUMES)[0]["spec"]["capacity"] == {"storage": "3Gi"}

    run(test)


def scratch_pod() -> Object:
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}}}
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [], "volumes": [volume]}}


def test_an_ephemeral_volume_gets_a_claim_that_the_pod_owns() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ephemeral):
            await api.create(PODS, scratch_pod())
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS))
            found = api.all(PERSISTENTVOLUMECLAIMS)[0]
            assert found["metadata"]["name"] == "p-scratch"
            assert found["metadata"]["ownerReferences"][0]["name"] == "p"
            api.remove(PERSISTENTVOLUMECLAIMS, found)
            await wait_for(lambda: api.all(PERSISTENTVOLUMECLAIMS), "one that is gone is made anew")

    run(test)


def test_an_ephemeral_volume_that_cannot_be_claimed_says_why() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ephemeral):
            await api.create(PERSISTENTVOLUMECLAIMS, claim("p-scratch"))
            await api.create(PODS, scratch_pod())
            foreign = "ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)"
            await wait_for(lambda: ("FailedBinding", foreign) in {(event["reason"], event["message"]) for event in api.all(EVENTS)})
            api.answer_with(Forbidden("exceeded quota"), "create", "persistentvolumeclaims")
            await api.delete(PERSISTENTVOLUMECLAIMS, "p-scratch", "default")
            refused = "ephemeral volume scratch: create PVC p-scratch: exceeded quota"
            await wait_for(lambda: ("FailedBinding", refused) in {(event["reason"], event["message"]) for event in api.all(EVENTS)})

    run(test)


def test_a_claim_stays_while_a_pod_that_used_it_exists_even_if_it_has_ended() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, protection):
            await api.create(PERSISTENTVOLUMECLAIMS, claim())
            volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
            waiting = api.put(PODS, {"metadata": {"name": "w", "namespace": "default"}, "spec": {"volumes": volumes}})
            ended = {"metadata": {"name": "e", "namespace": "default"}, "spec": {"nodeName": "n", "volumes": volumes}}
            pod = api.put(PODS, {**ended, "status": {"phase": "Succeeded"}})
            await settle()
            await api.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
            await settle()
            assert is_deleting(api.all(PERSISTENTVOLUMECLAIMS)[0])
            api.remove(PODS, pod)
            await wait_for(lambda: not api.all(PERSISTENTVOLUMECLAIMS))
            assert waiting["metadata"]["name"] == "w", "a pod without a node holds nothing"

    run(test)


def test_the_claim_of_an_ephemeral_volume_is_free_when_the_kubelet_is_done() -> None:
    pod = {**scratch_pod(), "metadata": {"name": "p", "namespace": "default", "uid": "u"}}
    pod["spec"]["nodeName"] = "n"
    made = ephemeral.plan_claim(pod, pod["spec"]["volumes"][0])
    assert protection.uses_claim(pod, made)
    leaving = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}}
    assert protection.uses_claim(leaving, made)
    leaving["metadata"]["deletionGracePeriodSeconds"] = 0
    assert not protection.uses_claim(leaving, made)


def test_a_quota_counts_what_its_namespace_uses() -> None:
    async def test(api: FakeApi) -> None:
        hard = {"pods": "10", "requests.cpu": "2", "limits.memory": "1Gi", "services.nodeports": "2", "count/deployments.apps": "5"}
        async with controllers(api, ResourceQuotas(5, 300.0)):
            await api.create(RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}})
            resources = {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}
            for index in range(3):
                spec = {"containers": [{"name": "c", "resources": resources}]}
                await api.create(PODS, {"metadata": {"name": f"p{index}", "namespace": "default"}, "spec": spec})
            await api.create(PODS, {"metadata": {"name": "elsewhere", "namespace": "other"}, "spec": {"containers": []}})
            await api.create(SERVICES, {"metadata": {"name": "s", "namespace": "default"}, "spec": {"type": "NodePort", "ports": [{}]}})
            wanted = {
                "pods": "3",
                "requests.cpu": "750m",
                "limits.memory": "192Mi",
                "services.nodeports": "1",
                "count/deployments.apps": "0",
            }
            await wait_for(lambda: (api.all(RESOURCEQUOTAS)[0].get("status") or {}).get("used") == wanted)
            api.set_status(PODS, api.all(PODS, "default")[0], phase="Succeeded")
            await wait_for(lambda: api.all(RESOURCEQUOTAS)[0]["status"]["used"]["requests.cpu"] == "500m")

    run(test)


def test_less_is_counted_only_once_the_quota_has_come_to_rest() -> None:
    """Between its charge and its own write an object is not there to be counted."""

    async def test(api: FakeApi) -> None:
        async with controllers(api, ResourceQuotas(5, 300.0)):
            quota = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "10"}}}
            await api.create(RESOURCEQUOTAS, quota)
            await wait_for(lambda: (api.all(RESOURCEQUOTAS)[0].get("status") or {}).get("used") == {"pods": "0"})
            await api.create(PODS, {"metadata": {"name": "gone", "namespace": "default"}, "spec": {"containers": []}})
            await wait_for(lambda: api.all(RESOURCEQUOTAS)[0]["status"]["used"] == {"pods": "1"})
            for charged in range(2, 8):  # admission charges one pod after the other
                api.set_status(RESOURCEQUOTAS, api.all(RESOURCEQUOTAS)[0], used={"pods": str(charged)})
                if charged == 4:
                    await api.delete(PODS, "gone", "default")
                await settle(0.1)
                assert api.all(RESOURCEQUOTAS)[0]["status"]["used"] == {"pods": str(charged)}
            await wait_for(lambda: api.all(RESOURCEQUOTAS)[0]["status"]["used"] == {"pods": "0"})

    run(test)


def test_a_charge_for_an_object_that_never_came_is_found_out() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ResourceQuotas(5, 300.0)):
            await api.create(RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "9"}}})
            await wait_for(lambda: (api.all(RESOURCEQUOTAS)[0].get("status") or {}).get("used") == {"pods": "0"})
            api.set_status(RESOURCEQUOTAS, api.all(RESOURCEQUOTAS)[0], used={"pods": "3"})
            await settle(2)
            assert api.all(RESOURCEQUOTAS)[0]["status"]["used"] == {"pods": "0"}

    run(test)


def test_a_quota_counts_any_kind_by_number() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ResourceQuotas(5, 300.0)):
            hard = {"count/leases.coordination.k8s.io": "5", "count/nothing.example.com": "1"}
            await api.create(RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}})
            await api.create(LEASES, {"metadata": {"name": "l", "namespace": "default"}, "spec": {}})
            used = {"count/leases.coordination.k8s.io": "1"}
            await wait_for(lambda: (api.all(RESOURCEQUOTAS)[0].get("status") or {}).get("used") == used)
            await api.delete(LEASES, "l", "default")
            await wait_for(lambda: api.all(RESOURCEQUOTAS)[0]["status"]["used"] == {"count/leases.coordination.k8s.io": "0"})

    run(test)


def test_an_aggregated_role_has_the_rules_of_those_it_selects() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, clusterrole_aggregation):
            selectors = [{"matchLabels": {"to-view": "true"}}]
            await api.create(
                CLUSTERROLES, {"metadata": {"name": "view"}, "aggregationRule": {"clusterRoleSelectors": selectors}, "rules": []}
            )
            for name in ("b", "a"):
                rules = [{"apiGroups": [""], "resources": [name], "verbs": ["get"]}]
                await api.create(CLUSTERROLES, {"metadata": {"name": name, "labels": {"to-view": "true"}}, "rules": rules})

            def resources() -> list[str]:
                view = next(role for role in api.all(CLUSTERROLES) if role["metadata"]["name"] == "view")
                return [rule["resources"][0] for rule in view["rules"]]

            await wait_for(lambda: resources() == ["a", "b"])
            await api.delete(CLUSTERROLES, "a")
            await wait_for(lambda: resources() == ["b"])

    run(test)


def test_caches_keep_no_secret_data() -> None:
    slim = slimming([ResourceQuotas(5, 300.0)])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "uid": "u", "managedFields": [1]}, "data": {"k": "dg=="}}
    assert slim(secret) == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "uid": "u"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "managedFields": [1]}, "spec": {}}
    assert slim(pod) == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}
    root_ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "PEM"}}
    assert slim(root_ca)["data"] == {"ca.crt": "PEM"}


def test_a_quota_measures_the_devices_that_claims_ask_for() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, ResourceQuotas(5, 300.0)):
            name = "gpu.deviceclass.resource.k8s.io/devices"
            await api.create(RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {name: "9"}}})
            requests = [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 4}}]
            spec = {"devices": {"requests": requests}}
            await api.create(RESOURCECLAIMS, {"metadata": {"name": "c", "namespace": "default"}, "spec": spec})
            await wait_for(lambda: (api.all(RESOURCEQUOTAS)[0].get("status") or {}).get("used") == {name: "4"})

    run(test)
    slim = slimming([ResourceQuotas(5, 300.0)])
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": {"devices": {}}}
    assert slim(claim) == claim


def test_a_class_of_attributes_goes_when_no_claim_and_no_volume_has_it() -> None:
    async def test(api: FakeApi) -> None:
        def finalizers(name: str) -> list[str]:
            found = [obj["metadata"].get("finalizers") or [] for obj in api.all(VOLUMEATTRIBUTESCLASSES) if obj["metadata"]["name"] == name]
            return found[0] if found else ["gone"]

        async with controllers(api, class_protection):
            for name in ("free", "used"):
                api.put(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": name}, "driverName": "x.io"})
            await wait_for(lambda: finalizers("free") == finalizers("used") == ["kubernetes.io/vac-protection"])
            held = api.put(PERSISTENTVOLUMECLAIMS, claim(volumeAttributesClassName="used"))
            for name in ("free", "used"):
                await api.delete(VOLUMEATTRIBUTESCLASSES, name)
            await wait_for(lambda: finalizers("free") == ["gone"])
            await settle()
            assert finalizers("used") == ["kubernetes.io/vac-protection"]
            api.put(PERSISTENTVOLUMECLAIMS, {**held, "spec": {**held["spec"], "volumeAttributesClassName": "other"}})
            await wait_for(lambda: finalizers("used") == ["gone"])

    run(test)


def test_a_volume_that_was_deleted_first_goes_when_its_claim_goes() -> None:
    async def test(api: FakeApi) -> None:
        async with controllers(api, *STORAGE):
            held = {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}, "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
            }  # fmt: skip
            await api.create(PERSISTENTVOLUMES, {"metadata": {"name": "disk"}, "spec": held})
            await api.create(PERSISTENTVOLUMECLAIMS, claim(class_name=""))
            await wait_for(lambda: phase(api) == ["Bound"] and phase(api, PERSISTENTVOLUMES) == ["Bound"])
            await api.delete(PERSISTENTVOLUMES, "disk")
            await settle()
            assert phase(api, PERSISTENTVOLUMES) == ["Bound"]
            await api.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
            await wait_for(lambda: not api.all(PERSISTENTVOLUMES))

    run(test)

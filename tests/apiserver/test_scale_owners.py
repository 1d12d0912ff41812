"""Who owns the replicas of a workload, when they are written through its Scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubecosm.api.managedfields import owners_of_scale, owners_of_workload
from kubecosm.api.managedfields.sets import from_paths

from .harness import Api, deployment, with_api
from .test_customresources import CRDS, definition, version

SPEC = deployment("test")["spec"]
CONTROLLER = {"replicas": 1, "selector": {"app": "test"}, "template": SPEC["template"]}
WORKLOADS = {
    "deployments": ("apps/v1", "Deployment", SPEC), "replicasets": ("apps/v1", "ReplicaSet", SPEC),
    "statefulsets": ("apps/v1", "StatefulSet", {**SPEC, "serviceName": "s"}),
    "replicationcontrollers": ("v1", "ReplicationController", CONTROLLER),
    "crontabs": ("stable.example.com/v1", "CronTab", {"replicas": 1}),
}  # fmt: skip
COUNTED = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
SCALED = {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}
CRONTABS = definition(version("v1", schema={"type": "object", "properties": {"spec": COUNTED, "status": COUNTED}}, subresources=SCALED))


class Workload:
    """One object, written by several managers."""

    def __init__(self, api: Api, plural: str) -> None:
        version, self.kind, self.spec = WORKLOADS[plural]
        self.api, self.version = api, version
        self.path = f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/default/{plural}/test"

    async def patch(self, manager: str, body: Any, kind: str, *, scale: bool = False, force: bool = False) -> tuple[int, Any]:
        query = f"fieldManager={manager}{'&force=true' if force else ''}"
        path = f"{self.path}{'/scale' if scale else ''}?{query}"
        return await self.api.call("PATCH", path, body, Content_Type=f"application/{kind}")

    async def apply(self, manager: str, **options: Any) -> tuple[int, Any]:
        body = {"apiVersion": self.version, "kind": self.kind, "metadata": {"name": "test"}, "spec": self.spec}
        return await self.patch(manager, body, "apply-patch+yaml", **options)

    async def apply_scale(self, manager: str, replicas: int, **options: Any) -> tuple[int, Any]:
        body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "test"}, "spec": {"replicas": replicas}}
        return await self.patch(manager, body, "apply-patch+yaml", scale=True, **options)

    async def check(self, replicas: int, *owners: tuple[str, str, str]) -> None:
        obj = await self.api.get(self.path)
        assert obj["spec"]["replicas"] == replicas
        entries = [e for e in obj["metadata"]["managedFields"] if "f:replicas" in e["fieldsV1"].get("f:spec", {})]
        assert {(e["manager"], e["operation"], e.get("subresource", "")) for e in entries} == set(owners)
        assert {e["apiVersion"] for e in obj["metadata"]["managedFields"]} == {self.version}


@pytest.mark.parametrize("plural", WORKLOADS)
def test_replicas_belong_to_who_wrote_them_through_the_scale(tmp_path: Path, plural: str) -> None:
    async def test(api: Api) -> None:
        if plural == "crontabs":
            await api.create(CRDS, CRONTABS)
        workload = Workload(api, plural)
        assert (await workload.apply("apply_test"))[0] == 201
        await workload.check(1, ("apply_test", "Apply", ""))
        await workload.patch("scale_test", {"spec": {"replicas": 5}}, "merge-patch+json", scale=True)
        await workload.check(5, ("scale_test", "Update", "scale"))
        assert (await workload.apply("apply_test"))[0] == 409
        assert (await workload.apply("apply_test", force=True))[0] == 200
        await workload.check(1, ("apply_test", "Apply", ""))
        code, status = await workload.apply_scale("apply_scale", 17)
        why = 'Apply failed with 1 conflict: conflict with "apply_test": .spec.replicas'
        assert (code, status["message"]) == (409, why)
        assert (await workload.apply_scale("apply_scale", 17, force=True))[0] == 200
        await workload.check(17, ("apply_scale", "Apply", "scale"))
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "test"}, "spec": {"replicas": 7}}
        await api.put(f"{workload.path}/scale?fieldManager=replace_test", scale)
        await workload.check(7, ("replace_test", "Update", "scale"))
        assert (await workload.apply_scale("co_owner", 7))[0] == 200
        await workload.check(7, ("replace_test", "Update", "scale"), ("co_owner", "Apply", "scale"))
        code, status = await workload.apply_scale("third", 8)
        assert 'conflict with "replace_test" with subresource "scale" using autoscaling/v1' in str(status["details"]["causes"])
        await workload.patch("scale_test", {"spec": {"replicas": 5}}, "merge-patch+json", scale=True)
        await workload.check(5, ("scale_test", "Update", "scale"))
        await workload.patch("other", {"status": {"replicas": 42}}, "merge-patch+json", scale=True)
        await workload.check(5, ("scale_test", "Update", "scale"))

    with_api(tmp_path, test)


def test_an_instance_without_replicas_gets_them_through_its_scale(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CRDS, CRONTABS)
        workload = Workload(api, "crontabs")
        workload.spec = {}
        await workload.apply("applier")
        assert (await api.refused("GET", f"{workload.path}/scale"))["code"] == 500
        code, scale = await workload.patch("scaler", {"spec": {"replicas": 2}}, "merge-patch+json", scale=True)
        assert (code, scale["spec"]) == (200, {"replicas": 2})

    with_api(tmp_path, test)


def test_a_scale_of_another_object_of_that_name_is_refused(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        workload = Workload(api, "deployments")
        await workload.apply("applier")
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "test", "uid": "other"}, "spec": {"replicas": 2}}
        status = await api.refused("PUT", f"{workload.path}/scale", scale)
        why = 'Operation cannot be fulfilled on deployments/scale.apps "test": Precondition failed: UID in precondition: other, UID in'
        assert (status["code"], status["message"][:len(why)]) == (409, why)

    with_api(tmp_path, test)


def entry(manager: str, fields: str, version: str = "apps/v1", operation: str = "Update", **more: str) -> dict[str, Any]:
    owned = from_paths(*fields.split())
    return {"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": owned, **more}


def owned_by(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


PATHS = {"apps/v1": from_paths("spec.replicas"), "apps/v2": from_paths("spec.size"), "apps/v3": None}


def test_owners_of_replicas_are_seen_in_the_scale_and_no_others() -> None:
    workload = owned_by(
        entry("a", "spec.replicas spec.x", time="2026-01-01T00:00:00Z"), entry("b", "spec.x"), entry("c", "spec.size", "apps/v2"),
        entry("d", "spec.replicas", "apps/v3"), entry("e", "spec.replicas", "apps/v9"),
    )  # fmt: skip
    assert owners_of_scale(workload, PATHS) == [
        entry("c", "spec.replicas", "autoscaling/v1"), entry("a", "spec.replicas", "autoscaling/v1", time="2026-01-01T00:00:00Z"),
    ]  # fmt: skip


def test_what_a_scale_does_not_touch_stays_as_it_was() -> None:
    before = [entry("b", "spec.replicas", "apps/v3"), entry("a", "spec.replicas spec.x", time="2026-01-01T00:00:00Z")]
    workload = owned_by(*before)
    kept = owned_by(*owners_of_scale(workload, PATHS))
    assert owners_of_workload(workload, kept, PATHS, "apps/v1") == before


def test_entries_of_versions_that_are_not_known_are_dropped() -> None:
    workload = owned_by(entry("a", "spec.x", "apps/v9"), entry("b", "spec.size spec.x", "apps/v2"))
    scale = owned_by(entry("s", "spec.replicas", "autoscaling/v1", subresource="scale"), entry("t", "status.replicas", "autoscaling/v1"))
    assert owners_of_workload(workload, scale, PATHS, "apps/v2") == [
        entry("b", "spec.x", "apps/v2"), entry("s", "spec.size", "apps/v2", subresource="scale"),
    ]  # fmt: skip

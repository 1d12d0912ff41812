"""What operators rely on: definitions serve their resources at once, check and default them, and take them along when they go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.apiserver.customresources.jsonpath import find
from kubecosm.services.apiserver.customresources.validation import validate

from .harness import Api, api_server, with_api

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRONTABS = "/apis/stable.example.com/v1/namespaces/default/crontabs"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["cronSpec"],
            "properties": {
                "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                "image": {"type": "string", "default": "busybox", "maxLength": 20},
                "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                "policy": {"type": "string", "enum": ["Allow", "Forbid"]},
                "port": {"x-kubernetes-int-or-string": True},
                "since": {"type": "string", "format": "date-time", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "steps": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "command": {"type": "string"}, "retries": {"type": "integer", "default": 3},
                    }},
                },
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    },
}  # fmt: skip


def version(name: str = "v1", *, storage: bool = True, schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema or SCHEMA}, **more}


def definition(*versions: dict[str, Any], plural: str = "crontabs", kind: str = "CronTab", **names: Any) -> dict[str, Any]:
    both = {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind, **names},
            "versions": list(versions) or [version(subresources=both)],
        },
    }  # fmt: skip


def crontab(name: str, *, api: str = "v1", finalizers: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, **({"finalizers": finalizers} if finalizers else {})}
    return {"apiVersion": f"stable.example.com/{api}", "kind": "CronTab", "metadata": meta, "spec": {"cronSpec": "* * * * */5", **spec}}


async def until(api: Api, path: str, wanted: Any) -> Any:
    """The object at a path, followed by its events, once `wanted(obj)` is true; None once it is deleted."""
    collection, _, name = path.rpartition("/")
    async with api.watch(f"{collection}?watch=1&fieldSelector=metadata.name={name}") as watch:
        while True:
            event = await watch.next()
            if event["type"] == "DELETED":
                return None
            if wanted(event["object"]):
                return event["object"]


def conditions(crd: Any) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in crd["status"].get("conditions") or ()}


ESTABLISHED = {"NamesAccepted": ("True", "NoConflicts"), "Established": ("True", "InitialNamesAccepted")}


def test_a_definition_serves_its_resource_before_its_writer_has_the_answer(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition(shortNames=["ct"], categories=["all"]))
        made = await api.create(CRONTABS, crontab("a"))
        assert made["spec"] == {"cronSpec": "* * * * */5", "image": "busybox", "replicas": 1}
        assert made["metadata"]["generation"] == 1
        assert "status" not in made
        crd = await until(api, f"{CRDS}/crontabs.stable.example.com", lambda crd: "Established" in conditions(crd))
        assert conditions(crd) == ESTABLISHED
        assert crd["status"]["acceptedNames"]["listKind"] == "CronTabList"
        assert crd["status"]["storedVersions"] == ["v1"]
        listed = await api.get(CRONTABS)
        assert listed["kind"] == "CronTabList"
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
        found = (await api.get("/apis/stable.example.com/v1"))["resources"]
        assert [entry["name"] for entry in found] == ["crontabs", "crontabs/status", "crontabs/scale"]
        assert found[0]["shortNames"] == ["ct"]
        assert found[0]["storageVersionHash"]
        document = await api.get("/openapi/v3/apis/stable.example.com/v1")
        patches = document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"]["requestBody"]["content"]
        assert "application/merge-patch+json" in patches
        assert "application/strategic-merge-patch+json" not in patches  # kubectl apply asks here
        assert "cronSpec" in str(document["components"]["schemas"]["com.example.stable.v1.CronTab"])

    with_api(tmp_path, check)


def test_wrong_objects_are_refused_in_the_words_of_kubernetes(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        wrong = crontab("a", cronSpec="x", replicas=11, policy="No", image=5, port=True, since="yesterday", tags=["a", "a"],
                        steps=[{"name": "s"}, {"name": "s"}])  # fmt: skip
        code, answer = await api.call("POST", CRONTABS, wrong)
        assert (code, answer["reason"]) == (422, "Invalid")
        causes = {cause["field"]: cause["message"] for cause in answer["details"]["causes"]}
        pattern = SCHEMA["properties"]["spec"]["properties"]["cronSpec"]["pattern"]
        assert causes == {
            "spec.cronSpec": f'Invalid value: "x": spec.cronSpec in body should match \'{pattern}\'',
            "spec.replicas": "Invalid value: 11: spec.replicas in body should be less than or equal to 10",
            "spec.policy": 'Unsupported value: "No": supported values: "Allow", "Forbid"',
            "spec.image": 'Invalid value: "integer": spec.image in body must be of type string: "integer"',
            "spec.port": 'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"',
            "spec.since": 'Invalid value: "yesterday": spec.since in body must be of type date-time: "yesterday"',
            "spec.tags[1]": 'Duplicate value: "a"',
            "spec.steps[1]": 'Duplicate value: {"name":"s"}',
        }
        missing = crontab("a")
        del missing["spec"]["cronSpec"]
        _, answer = await api.call("POST", CRONTABS, missing)
        assert answer["message"] == 'CronTab.stable.example.com "a" is invalid: spec.cronSpec: Required value'

    with_api(tmp_path, check)


def test_unknown_fields_are_pruned_warned_of_or_refused(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        body = crontab("a", what=1, free={"any": {"thing": 1}}, since=None, image=None)
        code, answer = await api.call("POST", f"{CRONTABS}?fieldValidation=Strict", body)
        assert code == 400
        assert answer["message"] == (
            'CronTab in version "v1" cannot be handled as a CronTab: strict decoding error: unknown field "spec.what"'
        )
        reply = await api.raw("POST", CRONTABS, body)
        assert reply.status == 201
        assert 'unknown field \\"spec.what\\"' in reply.headers["Warning"]
        made = await api.get(f"{CRONTABS}/a")
        spec = {"cronSpec": "* * * * */5", "free": {"any": {"thing": 1}}, "since": None, "image": "busybox", "replicas": 1}
        assert made["spec"] == spec
        merged = await api.merge(f"{CRONTABS}/a", {"spec": {"other": 1, "replicas": 2}})
        assert merged["spec"] == {**spec, "replicas": 2}
        assert merged["metadata"]["generation"] == 2

    with_api(tmp_path, check)


def test_status_and_scale_are_apart_from_the_spec(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        await api.create(CRONTABS, {**crontab("a"), "status": {"replicas": 9}})
        patch = {"spec": {"replicas": 7}, "status": {"replicas": 1}, "metadata": {"labels": {"x": "y"}}}
        changed = await api.merge(f"{CRONTABS}/a/status", patch)
        assert (changed["spec"]["replicas"], changed["status"], changed["metadata"]["generation"]) == (1, {"replicas": 1}, 1)
        assert "labels" not in changed["metadata"]
        scale = await api.get(f"{CRONTABS}/a/scale")
        assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1})
        scale = await api.merge(f"{CRONTABS}/a/scale", {"spec": {"replicas": 4}})
        assert scale["spec"] == {"replicas": 4}
        seen = await api.merge(f"{CRONTABS}/a", {"status": {"replicas": 5}})
        assert (seen["spec"]["replicas"], seen["status"]["replicas"], seen["metadata"]["generation"]) == (4, 1, 2)
        wrong = {"status": {"replicas": "x"}}
        code, answer = await api.call("PATCH", f"{CRONTABS}/a/status", wrong, Content_Type="application/merge-patch+json")
        assert code == 422
        assert "status.replicas in body must be of type integer" in answer["message"]

    with_api(tmp_path, check)


def test_apply_merges_keyed_lists_and_knows_conflicts(tmp_path: Path) -> None:
    async def apply(api: Api, manager: str, **spec: Any) -> tuple[int, Any]:
        path = f"{CRONTABS}/a?fieldManager={manager}"
        return await api.call("PATCH", path, crontab("a", **spec), Content_Type="application/apply-patch+yaml")

    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        code, made = await apply(api, "one", steps=[{"name": "x", "command": "run"}], tags=["t"])
        assert code == 201
        assert made["spec"]["steps"] == [{"name": "x", "command": "run", "retries": 3}]
        code, made = await apply(api, "two", steps=[{"name": "y"}], tags=["u"])
        assert code == 200
        assert [step["name"] for step in made["spec"]["steps"]] == ["x", "y"]
        assert made["spec"]["tags"] == ["t", "u"]
        code, answer = await apply(api, "two", steps=[{"name": "x", "command": "walk"}])
        assert code == 409
        assert answer["details"]["causes"][0]["field"] == '.spec.steps[name="x"].command'
        code, made = await apply(api, "two")
        assert [step["name"] for step in made["spec"]["steps"]] == ["x"]
        assert made["spec"]["tags"] == ["t"]
        code, answer = await apply(api, "one", unknown=1)
        assert code == 500
        assert ".spec.unknown: field not declared in schema" in answer["message"]
        code, made = await api.call(
            "PATCH", f"{CRONTABS}/a", [{"op": "replace", "path": "/spec/replicas", "value": 3}], Content_Type="application/json-patch+json"
        )
        assert code == 200
        assert made["spec"]["replicas"] == 3

    with_api(tmp_path, check)


def test_tables_show_the_columns_of_the_definition(tmp_path: Path) -> None:
    columns = [
        {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
        {"name": "First", "type": "string", "jsonPath": '.spec.steps[?(@.name=="b")].command'},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]

    async def check(api: Api) -> None:
        await api.create(CRDS, definition(version(additionalPrinterColumns=columns)))
        await api.create(CRONTABS, crontab("a", steps=[{"name": "a", "command": "1"}, {"name": "b", "command": "2"}]))
        await api.create(CRONTABS, crontab("b"))
        table = await api.get(CRONTABS, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Spec", "Replicas", "First", "Age"]
        assert [row["cells"][:4] for row in table["rows"]] == [["a", "* * * * */5", 1, "2"], ["b", "* * * * */5", 1, None]]
        assert table["rows"][0]["cells"][4].endswith("s")

    with_api(tmp_path, check)


def test_a_changed_definition_takes_effect_at_once_and_watches_go_on(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        await api.create(CRONTABS, crontab("a"))
        async with api.watch(f"{CRONTABS}?watch=1") as watch:
            assert await watch.names(1) == [("ADDED", "a")]
            spec = SCHEMA["properties"]["spec"]
            wider = {**spec, "properties": {**spec["properties"], "extra": {"type": "string", "default": "e"}}}
            newer = version("v2", storage=False, schema={**SCHEMA, "properties": {**SCHEMA["properties"], "spec": wider}})
            await api.merge(f"{CRDS}/crontabs.stable.example.com", {"spec": {"versions": [version(), newer]}})
            made = await api.create(CRONTABS.replace("v1", "v2"), crontab("b", api="v2"))
            assert made["apiVersion"] == "stable.example.com/v2"
            assert made["spec"]["extra"] == "e"
            assert await watch.names(1) == [("ADDED", "b")]
        assert (await api.get(f"{CRONTABS}/b"))["apiVersion"] == "stable.example.com/v1"
        assert (await api.get(f"{CRONTABS.replace('v1', 'v2')}/a"))["spec"]["extra"] == "e"
        group = await api.get("/apis/stable.example.com")
        assert [entry["version"] for entry in group["versions"]] == ["v2", "v1"]
        assert group["preferredVersion"]["version"] == "v2"

    with_api(tmp_path, check)


def test_a_name_in_use_is_not_accepted_until_it_is_free(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        await api.create(CRDS, definition(plural="tabs"))
        crd = await until(api, f"{CRDS}/tabs.stable.example.com", lambda crd: "NamesAccepted" in conditions(crd))
        assert conditions(crd) == {"NamesAccepted": ("False", "ListKindConflict"), "Established": ("False", "NotAccepted")}
        code, _ = await api.call("GET", CRONTABS.replace("crontabs", "tabs"))
        assert code == 404
        await api.delete(f"{CRDS}/crontabs.stable.example.com")
        crd = await until(api, f"{CRDS}/tabs.stable.example.com", lambda crd: conditions(crd) == ESTABLISHED)
        assert (await api.get(CRONTABS.replace("crontabs", "tabs")))["items"] == []

    with_api(tmp_path, check)


def test_a_deleted_definition_waits_for_the_finalizers_of_its_instances(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition())
        await api.create(CRONTABS, crontab("plain"))
        await api.create(CRONTABS, crontab("held", finalizers=["example.com/operator"]))
        path = f"{CRDS}/crontabs.stable.example.com"
        async with api.watch(f"{CRONTABS}?watch=1") as watch:
            await watch.names(2)
            await api.delete(path)
            assert set(await watch.names(2)) == {("DELETED", "plain"), ("MODIFIED", "held")}
            crd = await api.get(path)
            assert conditions(crd)["Terminating"][0] == "True"
            assert crd["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
            code, answer = await api.call("POST", CRONTABS, crontab("late"))
            assert (code, answer["message"]) == (405, "create not allowed while custom resource definition is terminating")
            assert "create" not in (await api.get("/apis/stable.example.com/v1"))["resources"][0]["verbs"]
            held = await api.get(f"{CRONTABS}/held")
            held["metadata"]["finalizers"] = []
            await api.put(f"{CRONTABS}/held", held)
            await watch.wait_end()
        code, _ = await api.call("GET", path)
        assert code == 404
        assert (await api.raw("GET", CRONTABS)).status == 404

    with_api(tmp_path, check)


def test_custom_resources_are_served_again_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"storage_backend": "sqlite", "data_dir": str(tmp_path / "data")}
        async with api_server(tmp_path, **settings) as api:
            await api.create(CRDS, definition())
            made = await api.create(CRONTABS, crontab("a"))
        async with api_server(tmp_path, **settings) as api:
            assert (await api.get(f"{CRONTABS}/a"))["metadata"]["uid"] == made["metadata"]["uid"]
            async with api.watch(f"{CRONTABS}?watch=1&resourceVersion={made['metadata']['resourceVersion']}") as watch:
                await api.create(CRONTABS, crontab("b"))
                assert await watch.names(1) == [("ADDED", "b")]
            removed = await api.delete(CRONTABS)
            assert len(removed["items"]) == 2
            assert (await api.get(CRONTABS))["items"] == []

    asyncio.run(main())


def test_what_was_wrong_before_a_stricter_schema_is_no_fault_of_an_update(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        loose = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
        await api.create(CRDS, definition(version(schema=loose)))
        await api.create(CRONTABS, crontab("a", policy="Odd", image="ok"))
        await api.merge(f"{CRDS}/crontabs.stable.example.com", {"spec": {"versions": [version()]}})
        assert (await api.merge(f"{CRONTABS}/a", {"spec": {"image": "new"}}))["spec"]["policy"] == "Odd"
        code, answer = await api.call(
            "PATCH", f"{CRONTABS}/a", {"spec": {"policy": "Other"}}, Content_Type="application/merge-patch+json"
        )
        assert (code, answer["details"]["causes"][0]["field"]) == (422, "spec.policy")

    with_api(tmp_path, check)


def test_a_version_that_is_not_served_is_gone_and_subresources_may_come_later(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        path = f"{CRDS}/crontabs.stable.example.com"
        await api.create(CRDS, definition(version(), version("v1beta1", storage=False)))
        await api.create(CRONTABS, {**crontab("a"), "status": {"replicas": 2}})
        assert (await api.get(f"{CRONTABS.replace('v1', 'v1beta1')}/a"))["apiVersion"] == "stable.example.com/v1beta1"
        assert (await api.raw("GET", f"{CRONTABS}/a/status")).status == 404
        hidden = {**version("v1beta1", storage=False), "served": False}
        await api.merge(path, {"spec": {"versions": [version(subresources={"status": {}}), hidden]}})
        assert (await api.raw("GET", f"{CRONTABS.replace('v1', 'v1beta1')}/a")).status == 404
        changed = await api.merge(f"{CRONTABS}/a", {"status": {"replicas": 3}})
        assert changed["status"] == {"replicas": 2}

    with_api(tmp_path, check)


@pytest.mark.parametrize(("path", "found"), [
    (".a.b", [1]), ("{.a.b}", [1]), (".list[0].x", ["p"]), (".list[-1].x", ["q"]), (".list[*].x", ["p", "q"]),
    ('.list[?(@.x=="q")].n', [2]), (".list[?(@.n>1)].x", ["q"]), (".a['b']", [1]), (r".a.dotted\.name", [3]), (".none.at.all", []),
    (".list[1:2]", []),
])  # fmt: skip
def test_json_paths_find_what_columns_ask_for(path: str, found: list[Any]) -> None:
    obj = {"a": {"b": 1, "dotted.name": 3}, "list": [{"x": "p", "n": 1}, {"x": "q", "n": 2}]}
    assert find(path, obj) == found


@pytest.mark.parametrize(("schema", "value", "complaint"), [
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {},
     '<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found none valid'),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 1},
     '<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found 2 valid alternatives'),
    ({"anyOf": [{"minimum": 5}]}, 1, '<nil>: Invalid value: "": "f" must validate at least one schema (anyOf)'),
    ({"not": {"required": ["a"]}}, {"a": 1}, '<nil>: Invalid value: "": "f" must not validate the schema (not)'),
    ({"type": "string", "maxLength": 2}, "abc", "f: Too long: may not be more than 2 bytes"),
    ({"type": "array", "maxItems": 1}, [1, 2], "f: Too many: 2: must have at most 1 item"),
    ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1, "f: Invalid value: 1: f in body should be greater than 1"),
    ({"type": "integer", "maximum": 1234567}, 2000000, "f: Invalid value: 2000000: f in body should be less than or equal to 1234567"),
    ({"type": "number", "maximum": 1234567}, 2e6 + 0.5,
     "f: Invalid value: 2000000.5: f in body should be less than or equal to 1.234567e+06"),
    ({"type": "number", "maximum": 0.5}, 0.75, "f: Invalid value: 0.75: f in body should be less than or equal to 0.5"),
    ({"type": "string"}, None, 'f: Invalid value: "null": f in body must be of type string: "null"'),
    ({"type": "object", "x-kubernetes-embedded-resource": True}, {"kind": "X"}, "f.apiVersion: Required value: must not be empty"),
])  # fmt: skip
def test_complaints_about_values_are_worded_as_kubernetes_does(schema: Any, value: Any, complaint: str) -> None:
    found = validate({"type": "object", "properties": {"f": schema}}, {"f": value})
    assert str(found[0]) == complaint


def test_requests_in_a_deprecated_version_are_warned(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        old = {"storage": False, "deprecated": True}
        await api.create(CRDS, definition(
            version("v1"), version("v2", storage=False), {**version("v1beta1"), **old},
            {**version("v1alpha1"), **old, "deprecationWarning": "go away"},
        ))  # fmt: skip
        for name, warning in (
            ("v2", None), ("v1beta1", '299 - "stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v2 CronTab"'),
            ("v1alpha1", '299 - "go away"'),
        ):  # fmt: skip
            reply = await api.raw("GET", CRONTABS.replace("/v1/", f"/{name}/"))
            assert (reply.status, reply.headers.get("Warning")) == (200, warning)
        counted = (await api.raw("GET", "/metrics")).text
        for name, is_counted in (("v1", False), ("v2", False), ("v1beta1", True)):
            labels = f'group="stable.example.com",removed_release="",resource="crontabs",subresource="",version="{name}"'
            assert (f"apiserver_requested_deprecated_apis{{{labels}}} 1.0" in counted) == is_counted

    with_api(tmp_path, check)

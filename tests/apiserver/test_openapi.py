"""The API describes itself: documents are complete, consistent, cheap to ask for again, and readable by kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from kubecosm.api.resources import BUILTIN, CustomResource, ResourceTable, Subresource, load_builtin
from kubecosm.api.schema import schemas
from kubecosm.services.apiserver.customresources.publishing import published_schema
from kubecosm.services.apiserver.openapi import descriptions, protobuf
from kubecosm.services.apiserver.openapi.definitions import schema_of
from kubecosm.services.apiserver.openapi.documents import v2, v3
from kubecosm.services.apiserver.openapi.handlers import JSON, V2_PROTOBUF, OpenAPI
from kubecosm.services.apiserver.openapi.upgrade import v3_of_v2

APPS = [row for row in BUILTIN if row.prefix == "/apis/apps/v1"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_a_definition_tells_types_lists_and_patch_rules() -> None:
    container = schema_of(schemas().definition("core.v1.Container"), 2)
    assert container["required"] == ["name"]
    assert container["properties"]["ports"] == {
        "type": "array", "items": {"$ref": "#/definitions/io.k8s.api.core.v1.ContainerPort"}, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"], "x-kubernetes-patch-merge-key": "containerPort",
        "x-kubernetes-patch-strategy": "merge",
    }  # fmt: skip


def test_descriptions_come_from_the_explain_extra_and_are_left_out_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = v3(APPS)["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]
    assert pod["properties"]["replicas"]["description"].startswith("Number of desired pods.")
    assert pod["properties"]["template"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"}]
    monkeypatch.setattr(descriptions, "source", lambda: None)
    assert "description" not in v3(APPS)["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"]


def test_v3_adds_defaults_and_unions_of_types() -> None:
    port = schema_of(schemas().definition("core.v1.ContainerPort"), 3)["properties"]
    assert port["protocol"] == {"type": "string", "default": "TCP"}
    assert port["containerPort"] == {"type": "integer", "format": "int32", "default": 0}
    pod = schema_of(schemas().definition("core.v1.Pod"), 3)["properties"]
    assert pod["spec"] == {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}], "default": {}}
    assert "oneOf" in schema_of(schemas().definition("apimachinery.pkg.api.resource.Quantity"), 3)


@pytest.mark.parametrize("group", sorted({row.prefix for row in BUILTIN}))
def test_every_reference_of_a_v3_document_is_resolved_in_it(group: str) -> None:
    document = v3([row for row in BUILTIN if row.prefix == group])
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    ids = [op["operationId"] for item in document["paths"].values() for key, op in item.items() if key != "parameters"]
    assert len(ids) == len(set(ids))


def test_every_reference_of_the_v2_document_is_resolved_in_it() -> None:
    document = v2(BUILTIN)
    known = {f"#/definitions/{name}" for name in document["definitions"]} | {f"#/parameters/{name}" for name in document["parameters"]}
    assert set(references(document)) <= known


def test_patch_operations_tell_kubectl_that_the_server_validates_fields() -> None:
    operation = v3(APPS)["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert {"dryRun", "fieldValidation", "force"} <= {parameter["name"] for parameter in operation["parameters"]}
    assert operation["operationId"] == "patchAppsV1NamespacedDeployment"


def custom_row(schema: dict[str, Any]) -> CustomResource:
    parts = tuple(Subresource(name, "Widget", "example.com", "v1", ("get", "patch", "update")) for name in ("status", "scale"))
    return CustomResource(
        "example.com", "v1", "Widget", "widgets", "widget", True, ("get", "list"), subresources=parts, schema=schema, listed_as="Widgets"
    )


def published(version: int, **properties: Any) -> dict[str, Any]:
    """The properties of spec as documents of a version publish them."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    found = published_schema(custom_row(schema), version)
    assert found is not None
    spec: dict[str, Any] = found["properties"]["spec"]["properties"]
    return spec


def test_custom_resources_appear_with_the_schema_they_were_given() -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object"}}}
    document = v3([custom_row(schema)], lambda row, version: schema)
    found = document["components"]["schemas"]["com.example.v1.Widget"]
    assert found["properties"] == schema["properties"]
    assert found["x-kubernetes-group-version-kind"] == [{"group": "example.com", "kind": "Widget", "version": "v1"}]
    listed = document["components"]["schemas"]["com.example.v1.Widgets"]
    assert listed["properties"]["items"]["items"] == {"$ref": "#/components/schemas/com.example.v1.Widget"}
    assert listed["x-kubernetes-group-version-kind"][0]["kind"] == "Widgets"
    missing = {name for name in references(document) if name.rpartition("/")[2] not in document["components"]["schemas"]}
    assert missing == set()


@pytest.mark.parametrize("part", ["", "/status", "/scale"])
def test_every_patch_of_a_custom_resource_tells_that_the_server_validates_fields(part: str) -> None:
    operation = v3([custom_row({})])["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}" + part]["patch"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "example.com", "kind": "Widget", "version": "v1"}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["dryRun", "fieldManager", "fieldValidation"]
    assert list(operation["requestBody"]["content"]) == [
        "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml",
    ]  # fmt: skip
    assert operation["operationId"] == f"patchExampleComV1NamespacedWidget{part[1:].capitalize()}"


def test_older_format_leaves_out_what_kubectl_cannot_read_in_it() -> None:
    text, keep = {"type": "string"}, {"x-kubernetes-preserve-unknown-fields": True}
    group = {"type": "object", "required": ["a", "b"], "properties": {"a": text, "b": {**text, "nullable": True}}}
    assert published(
        2, choice={**text, "anyOf": [{"minLength": 1}], "maxLength": 3}, maybe={**group, "nullable": True}, open={**group, **keep},
        group=group, items={"type": "array", "items": text, **keep}, any=keep,
    ) == {
        "choice": {**text, "maxLength": 3}, "maybe": {"required": ["a", "b"]}, "open": {"required": ["a", "b"], **keep},
        "group": {"type": "object", "required": ["a"], "properties": {"a": text, "b": {}}}, "items": keep, "any": keep,
    }  # fmt: skip
    assert published_schema(custom_row({"type": "object", **keep, "properties": {"spec": text}}), 2) == {"type": "object"}


def test_published_schemas_write_shortcuts_out() -> None:
    either, embedded = {"x-kubernetes-int-or-string": True}, {"type": "object", "x-kubernetes-embedded-resource": True}
    keep = {**embedded, "x-kubernetes-preserve-unknown-fields": True}
    found = published(3, port=either, sized={**either, "anyOf": [{"minimum": 1}]}, whole=keep)
    types = [{"type": "integer"}, {"type": "string"}]
    assert found["port"] == {**either, "anyOf": types}
    assert found["sized"] == {**either, "anyOf": [{"minimum": 1}], "allOf": [{"anyOf": types}]}
    assert found["whole"]["required"] == ["kind", "apiVersion"]
    assert found["whole"]["properties"].keys() == {"apiVersion", "kind", "metadata"}
    assert published(2, whole=keep)["whole"] == {name: value for name, value in keep.items() if name != "type"}


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a protobuf message by number: bytes or ints."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            found.setdefault(tag >> 3, []).append(varint())
        else:
            assert tag & 7 == 2
            size = varint()
            found.setdefault(tag >> 3, []).append(data[at : at + size])
            at += size
    return found


def test_the_protobuf_form_holds_the_same_definitions_and_paths() -> None:
    document = v2(BUILTIN)
    message = fields(protobuf.document(document))
    assert message[1] == [b"2.0"]
    definitions = {fields(entry)[1][0].decode(): fields(fields(entry)[2][0]) for entry in fields(message[9][0])[1]}
    assert definitions.keys() == document["definitions"].keys()
    pod = definitions["io.k8s.api.core.v1.Pod"]
    assert {fields(entry)[1][0].decode() for entry in fields(pod[25][0])[1]} == set(
        document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]
    )
    paths = {fields(entry)[1][0].decode() for entry in fields(message[8][0])[2]}
    assert paths == document["paths"].keys()


def test_the_index_names_documents_by_hash_and_documents_are_cacheable() -> None:
    api = OpenAPI(load_builtin())
    status, headers, body = api.handle("/openapi/v3", JSON)
    assert (status, headers["Content-Type"]) == (200, JSON)
    url = orjson.loads(body)["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?")
    status, headers, body = api.handle(path, JSON, query=query)
    assert status == 200
    assert headers["Cache-Control"] == "public, immutable"
    assert orjson.loads(body)["openapi"] == "3.0.0"
    assert api.handle(path, JSON, headers={"If-None-Match": headers["ETag"]})[0] == 304
    status, moved, _ = api.handle(path, JSON, query="hash=OLD")
    assert (status, moved["Location"]) == (301, url)
    packed = api.handle(path, JSON, headers={"Accept-Encoding": "gzip"})
    assert packed[1]["Content-Encoding"] == "gzip"
    assert len(packed[2]) < len(body) / 3


def test_v2_is_served_in_the_form_that_is_asked_for() -> None:
    api = OpenAPI(load_builtin())
    assert orjson.loads(api.handle("/openapi/v2", "*/*")[2])["swagger"] == "2.0"
    status, headers, body = api.handle("/openapi/v2", V2_PROTOBUF)
    assert (status, fields(body)[1]) == (200, [b"2.0"])
    assert headers["Content-Type"].startswith("application/com.github.proto-openapi.spec.v2")
    assert api.handle("/openapi/v2", "text/html")[0] == 406
    assert api.handle("/openapi/v3/apis/nope/v1", JSON)[0] == 404


def test_a_changed_table_changes_hashes_and_documents() -> None:
    table = ResourceTable(APPS)
    api = OpenAPI(table)
    before = api.handle("/openapi/v3", JSON)[2]
    table.add(CustomResource("example.com", "v1", "Widget", "widgets", "widget", True, ("get", "list", "create", "patch")))
    after = orjson.loads(api.handle("/openapi/v3", JSON)[2])["paths"]
    assert after.keys() - orjson.loads(before)["paths"].keys() == {"apis/example.com/v1"}
    assert api.handle("/openapi/v3/apis/example.com/v1", JSON)[0] == 200


def test_the_index_names_what_is_no_resource_too_and_each_has_a_document() -> None:
    api = OpenAPI(load_builtin())
    paths = orjson.loads(api.handle("/openapi/v3", JSON)[2])["paths"]
    general = {".well-known/openid-configuration", "api", "apis", "apis/apps", "apis/policy", "openid/v1/jwks", "version"}
    assert general <= paths.keys()
    assert list(paths) == sorted(paths)
    for name in general:
        path, _, query = paths[name]["serverRelativeURL"].partition("?")
        status, _, body = api.handle(path, JSON, query=query)
        document = orjson.loads(body)
        assert (status, list(document["paths"])) == (200, [f"/{name}/"])
        assert set(references(document)) <= {f"#/components/schemas/{found}" for found in document["components"]["schemas"]}
    version = orjson.loads(api.handle("/openapi/v3/version", JSON)[2])
    assert version["paths"]["/version/"] == {"get": {
        "tags": ["version"], "description": "get the version information for this server", "operationId": "getCodeVersion",
        "responses": {
            "200": {"description": "OK", "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.version.Info"}}}},
            "401": {"description": "Unauthorized"},
        },
    }}  # fmt: skip


def test_discovery_of_a_group_version_is_described_beside_its_resources() -> None:
    assert v3(APPS)["paths"]["/apis/apps/v1/"]["get"]["operationId"] == "getAppsV1APIResources"
    operation = v2(BUILTIN)["paths"]["/apis/apps/"]["get"]
    assert (operation["operationId"], operation["tags"]) == ("getAppsAPIGroup", ["apps"])
    assert "x-kubernetes-action" not in operation


@pytest.mark.parametrize(("accept", "status"), [("", 200), ("*", 200), ("json", 406), (";;", 406), (",", 406), ("text/html", 406)])
def test_an_accept_header_that_names_nothing_served_is_not_acceptable(accept: str, status: int) -> None:
    api = OpenAPI(load_builtin())
    assert api.handle("/openapi/v3/version", accept)[0] == status
    assert api.handle("/openapi/v2", accept)[0] == status
    assert api.handle("/openapi/v3", accept)[0] == 200  # the index is not negotiated


def test_a_v2_document_becomes_v3_with_bodies_types_and_references_moved() -> None:
    item = {
        "parameters": [{"$ref": "#/parameters/ns"}],
        "post": {
            "consumes": ["application/json", "application/yaml"], "produces": ["application/json"], "operationId": "createFlunder",
            "schemes": ["https"], "x-kubernetes-action": "post",
            "parameters": [{"in": "body", "name": "body", "required": True, "schema": {"$ref": "#/definitions/F"}},
                           {"in": "query", "name": "limit", "type": "integer", "uniqueItems": True}],
            "responses": {"201": {"description": "Created", "schema": {"$ref": "#/definitions/F"}}},
        },
    }  # fmt: skip
    document = v3_of_v2({
        "swagger": "2.0", "info": {"title": "x", "version": "1"}, "paths": {"/f": item},
        "parameters": {"ns": {"in": "path", "name": "namespace", "required": True, "type": "string"}},
        "definitions": {"F": {"properties": {"meta": {"description": "m", "$ref": "#/definitions/M"}}}},
    })  # fmt: skip
    reference = {"$ref": "#/components/schemas/F"}
    path = document["paths"]["/f"]
    assert path["parameters"] == [{"in": "path", "name": "namespace", "required": True, "schema": {"type": "string"}}]
    assert path["post"] == {
        "operationId": "createFlunder", "x-kubernetes-action": "post",
        "parameters": [{"in": "query", "name": "limit", "schema": {"type": "integer", "uniqueItems": True}}],
        "requestBody": {"content": {media: {"schema": reference} for media in ("application/json", "application/yaml")}, "required": True},
        "responses": {"201": {"description": "Created", "content": {"application/json": {"schema": reference}}}},
    }  # fmt: skip
    meta = document["components"]["schemas"]["F"]["properties"]["meta"]
    assert meta == {"description": "m", "allOf": [{"$ref": "#/components/schemas/M"}]}

"""Field validation: what a server asked for strictness says of fields it does not know, and of those given twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.customs import ANYTHING, custom, definition
from tests.conformance.wire import APPLY, MERGE, Reply, Wire
from tests.promises import promise

pytestmark = pytest.mark.process

DEPLOYMENT = b"""{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"%(meta)b},"spec":{%(spec)b"replicas":1,"paused":true,
"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"""
SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cronSpec": {"type": "string"},
        "ports": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
    },
}
SCHEMA = {"type": "object", "properties": {"spec": SPEC}}


def create(wire: Wire, path: str, body: Any, validation: str = "Strict") -> Reply:
    return wire.send("POST", path, body, fieldValidation=validation)


def apply(wire: Wire, path: str, body: Any) -> Reply:
    options: dict[str, Any] = {"fieldManager": "test", "fieldValidation": "Strict"}
    return wire.send("PATCH", path, body, headers={"Content-Type": APPLY}, **options)


@promise("FieldValidation should detect unknown and duplicate fields of a typed object")
def test_unknown_and_duplicate_fields_are_refused_or_warned_of_or_let_pass(wire: Wire, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    body = DEPLOYMENT % {b"meta": b"", b"spec": b'"unknownField":1,"replicas":2,'}
    refused = create(wire, path, body)
    assert (refused.status, refused.json["reason"]) == (400, "BadRequest")
    assert refused.json["message"] == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "spec.unknownField", duplicate field "spec.replicas"'
    )
    warned = create(wire, path, body, "Warn")
    assert (warned.status, warned.json["spec"]["replicas"]) == (201, 1)
    assert warned.warnings == ['unknown field "spec.unknownField"', 'duplicate field "spec.replicas"']
    silent = wire.send("PUT", f"{path}/web", body, fieldValidation="Ignore")
    assert (silent.status, silent.warnings) == (200, [])


@promise("FieldValidation should detect unknown metadata fields of a typed object")
def test_unknown_fields_of_the_metadata_are_refused(wire: Wire, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    refused = create(wire, path, DEPLOYMENT % {b"meta": b',"unknownMeta":"x"', b"spec": b""})
    assert refused.status == 400
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in refused.json["message"]
    assert create(wire, path, DEPLOYMENT % {b"meta": b"", b"spec": b""}).status == 201
    patched = wire.send(
        "PATCH", f"{path}/web", {"metadata": {"unknownMeta": "x"}}, headers={"Content-Type": MERGE}, fieldValidation="Strict"
    )  # fmt: skip
    assert (patched.status, patched.json["reason"]) == (422, "Invalid")
    assert 'unknown field "metadata.unknownMeta"' in patched.json["message"]


@promise("FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema")
def test_a_definition_that_knows_no_fields_takes_any(wire: Wire, namespace: str) -> None:
    with custom(wire, definition(ANYTHING)) as foos:
        path = foos.collection(namespace)
        assert create(wire, path, foos.object("made", foo="bar", spec={"x": [1]})).status == 201
        applied = apply(wire, f"{path}/applied", foos.object("applied", foo="bar"))
        assert (applied.status, applied.json["foo"]) == (201, "bar")


@promise("FieldValidation should create/apply a valid CR for CRD with validation schema")
def test_what_fits_the_schema_is_taken(wire: Wire, namespace: str) -> None:
    spec = {"cronSpec": "* * * * *", "ports": [{"port": 80}]}
    with custom(wire, definition(SCHEMA)) as foos:
        path = foos.collection(namespace)
        assert create(wire, path, foos.object("made", spec=spec)).json["spec"] == spec
        assert apply(wire, f"{path}/applied", foos.object("applied", spec=spec)).json["spec"] == spec


@promise("FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema")
def test_extra_properties_are_refused(wire: Wire, namespace: str) -> None:
    with custom(wire, definition(SCHEMA)) as foos:
        path = foos.collection(namespace)
        for refused in (
            create(wire, path, foos.object("made", spec={"extra": 1})),
            apply(wire, f"{path}/applied", foos.object("applied", spec={"extra": 1})),
        ):
            assert refused.status in (400, 500)  # what cannot even be typed before it is merged is an internal error
            assert "spec.extra" in refused.json["message"]


@promise("FieldValidation should detect duplicates in a CR when preserving unknown fields")
def test_duplicates_are_refused_even_where_unknown_fields_are_kept(wire: Wire, namespace: str) -> None:
    with custom(wire, definition({"type": "object", "properties": {"spec": ANYTHING}})) as foos:
        body = b'{"apiVersion":"%b/v1","kind":"Foo","metadata":{"name":"a"},"spec":{"unknown":1,"twice":1,"twice":2}}'
        refused = create(wire, foos.collection(namespace), body % foos.group.encode())
        assert refused.status == 400
        assert 'duplicate field "spec.twice"' in refused.json["message"]
        assert "unknown field" not in refused.json["message"]


@promise("FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR")
def test_unknown_metadata_is_refused_in_the_root_and_in_embedded_objects(wire: Wire, namespace: str) -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    with custom(wire, definition({"type": "object", "properties": {"template": embedded}})) as foos:
        inner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "unknownInner": 1}}
        body = foos.object("a", template=inner)
        body["metadata"]["unknownOuter"] = 1
        refused = create(wire, foos.collection(namespace), body)
        assert refused.status == 400
        assert 'unknown field "metadata.unknownOuter"' in refused.json["message"]
        assert 'unknown field "template.metadata.unknownInner"' in refused.json["message"]

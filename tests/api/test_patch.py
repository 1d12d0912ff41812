"""Patches change what they say and nothing else, and are refused as Kubernetes refuses them."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecosm.api.errors import ApiError, BadRequest, Invalid, RequestEntityTooLarge, UnsupportedMediaType
from kubecosm.api.patch import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, apply_patch
from kubecosm.api.patch.json_patch import OPERATIONS_MAX, PatchFailed, apply_operations
from kubecosm.api.patch.merge_patch import merge
from kubecosm.api.patch.strategic import merge as strategic
from kubecosm.api.resources import CONFIGMAPS, DEPLOYMENTS, PODS, Object, Resource
from kubecosm.api.schema import STRICT, decode

WIDGETS = Resource("example.com", "v1", "Widget", "widgets", "widget", True)


def pod(*containers: Any, **spec: Any) -> Object:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}}
    return {**body, "spec": {"containers": list(containers) or [{"name": "c", "image": "i", "resources": {}}], **spec}}


def configmap(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


def patched(resource: Resource, live: Object, patch: Any, kind: str = STRATEGIC_MERGE_PATCH, validation: str = "Warn") -> Object:
    before = copy.deepcopy(live)
    result, warnings = apply_patch(resource, live, json.dumps(patch).encode(), kind, validation)
    assert warnings == []
    assert live == before
    return result


@pytest.mark.parametrize(
    ("operation", "expected"),
    [({"op": "add", "path": "/l/1", "value": 9}, {"l": [1, 9, 2], "d": {"a/b": 1}}),
     ({"op": "add", "path": "/l/-", "value": 9}, {"l": [1, 2, 9], "d": {"a/b": 1}}),
     ({"op": "add", "path": "/l/-1", "value": 9}, {"l": [1, 2, 9], "d": {"a/b": 1}}),
     ({"op": "remove", "path": "/l/0"}, {"l": [2], "d": {"a/b": 1}}),
     ({"op": "replace", "path": "/d/a~1b", "value": 2}, {"l": [1, 2], "d": {"a/b": 2}}),
     ({"op": "move", "from": "/l/0", "path": "/d/x"}, {"l": [2], "d": {"a/b": 1, "x": 1}}),
     ({"op": "copy", "from": "/d", "path": "/e"}, {"l": [1, 2], "d": {"a/b": 1}, "e": {"a/b": 1}}),
     ({"op": "test", "path": "/nothing", "value": None}, {"l": [1, 2], "d": {"a/b": 1}})],
    ids=lambda value: value.get("op", ""),
)  # fmt: skip
def test_json_patch_operations_do_what_the_standard_says(operation: Any, expected: Any) -> None:
    assert apply_operations({"l": [1, 2], "d": {"a/b": 1}}, [operation]) == expected


@pytest.mark.parametrize(
    "operation",
    [{"op": "remove", "path": "/x"}, {"op": "replace", "path": "/x", "value": 1}, {"op": "add", "path": "/x/y", "value": 1},
     {"op": "add", "path": "/l/3", "value": 1}, {"op": "remove", "path": "/l/2"}, {"op": "test", "path": "/l/0", "value": True},
     {"op": "test", "path": "/l/0", "value": 1.0}, {"op": "add", "path": "", "value": {}}, {"op": "jump", "path": "/l"}, {"op": "add"},
     {"op": "move", "path": "/l"}, {"op": "add", "path": "/l/x", "value": 1}],
)  # fmt: skip
def test_json_patch_operations_that_do_not_apply_fail(operation: Any) -> None:
    with pytest.raises(PatchFailed):
        apply_operations({"l": [1, 2]}, [operation])


def test_a_json_patch_that_does_not_apply_is_rejected_without_details() -> None:
    with pytest.raises(Invalid) as caught:
        patched(PODS, pod(), [{"op": "test", "path": "/metadata/name", "value": "other"}], JSON_PATCH)
    assert caught.value.message == "the server rejected our request due to an error in our request"
    assert caught.value.details == {}


BAD_PATCHES = [
    (JSON_PATCH, b"{}", "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
    (JSON_PATCH, b'[{"op": 1}]', "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
    (JSON_PATCH, b"[", "error decoding patch: unexpected end of JSON input"),
    (MERGE_PATCH, b"[]", "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
    (MERGE_PATCH, b"{", "error decoding patch: unexpected end of JSON input"),
    (STRATEGIC_MERGE_PATCH, b"{", "unexpected end of JSON input"),
    (STRATEGIC_MERGE_PATCH, b'{"spec":{"$retainKeys":1}}', "invalid patch format of retainKeys"),
    (STRATEGIC_MERGE_PATCH, b'{"spec":{"$retainKeys":["a"],"hostNetwork":true}}', "invalid patch format of retainKeys"),
    (STRATEGIC_MERGE_PATCH, b'{"metadata":{"$deleteFromPrimitiveListfinalizers":["a"]}}', "invalid patch format of primitive list"),
]


@pytest.mark.parametrize(("kind", "patch", "message"), BAD_PATCHES)
def test_a_malformed_patch_is_a_bad_request(kind: str, patch: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        apply_patch(PODS, pod(), patch, kind)
    assert caught.value.message == message


def test_limits_and_media_types_are_kept() -> None:
    many = [{"op": "test", "path": "/x", "value": None}] * (OPERATIONS_MAX + 1)
    with pytest.raises(RequestEntityTooLarge, match="The allowed maximum operations in a JSON patch is 10000, got 10001"):
        patched(PODS, pod(), many, JSON_PATCH)
    with pytest.raises(UnsupportedMediaType):
        apply_patch(WIDGETS, {"apiVersion": "example.com/v1", "kind": "Widget"}, b"{}", STRATEGIC_MERGE_PATCH)


def test_merge_patches_remove_by_null_and_replace_lists() -> None:
    live = configmap(a="1", b="2")
    assert patched(CONFIGMAPS, live, {"data": {"a": None, "c": "3"}}, MERGE_PATCH)["data"] == {"b": "2", "c": "3"}
    assert patched(CONFIGMAPS, live, {"data": None}, MERGE_PATCH) == {k: v for k, v in live.items() if k != "data"}


def test_a_result_that_does_not_fit_its_kind_is_invalid() -> None:
    with pytest.raises(Invalid) as caught:
        patched(CONFIGMAPS, configmap(a="1"), {"data": {"a": 5}}, MERGE_PATCH)
    why = "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    assert caught.value.message.startswith(' "" is invalid: patch: Invalid value: "{\\"apiVersion\\":\\"v1\\",')
    assert caught.value.message.endswith(f': {why}')
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["field"] == "patch"
    with pytest.raises(Invalid, match=r'^ "" is invalid: patch: Invalid value: "map\[data:map\[a:5\]\]": '):
        patched(CONFIGMAPS, configmap(a="1"), {"data": {"a": 5}})


def test_unknown_and_repeated_fields_of_a_patch_are_warned_of_or_refused() -> None:
    patch = b'{"spec":{"foo":1},"metadata":{"labels":{"a":"1","a":"2"}}}'
    warnings = ['duplicate field "metadata.labels.a"', 'unknown field "spec.foo"']
    for kind in (MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        result, found = apply_patch(PODS, pod(), patch, kind)
        assert found == warnings
        assert result["metadata"]["labels"] == {"a": "2"}
        assert apply_patch(PODS, pod(), patch, kind, "Ignore")[1] == []
        with pytest.raises(Invalid, match="strict decoding error: duplicate field"):
            apply_patch(PODS, pod(), patch, kind, "Strict")
    found = apply_patch(PODS, pod(), b'[{"op":"add","path":"/metadata/labels","value":{},"why":1}]', JSON_PATCH)[1]
    assert found == ['json patch unknown field "[0].why"']


A, B = {"name": "a", "image": "1", "resources": {}}, {"name": "b", "image": "1", "resources": {}}


def names(obj: Object) -> list[str]:
    return [container["name"] for container in obj["spec"]["containers"]]


def test_strategic_patches_merge_keyed_lists_and_keep_their_order() -> None:
    result = patched(PODS, pod(A, B), {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "1"}]}})
    assert names(result) == ["a", "b", "c"]
    assert result["spec"]["containers"][1]["image"] == "2"


def test_strategic_patches_delete_and_replace_items() -> None:
    deleted = patched(PODS, pod(A, B), {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})
    assert names(deleted) == ["b"]
    replaced = patched(PODS, pod(A, B), {"spec": {"containers": [{"name": "z", "image": "1"}, {"$patch": "replace"}]}})
    assert names(replaced) == ["z"]


def test_strategic_patches_delete_and_replace_maps() -> None:
    live = pod(nodeSelector={"a": "1", "b": "2"})
    assert patched(PODS, live, {"spec": {"nodeSelector": {"$patch": "replace", "c": "3"}}})["spec"]["nodeSelector"] == {"c": "3"}
    assert patched(PODS, live, {"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"] == {}
    assert patched(PODS, live, {"spec": {"nodeSelector": {"a": None}}})["spec"]["nodeSelector"] == {"b": "2"}


def test_what_a_strategic_patch_calls_itself_does_not_count() -> None:
    live: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    for wrong in ({"kind": "Deployment"}, {"kind": None, "apiVersion": None}, {"apiVersion": "apps/v1", "kind": "Pod"}):
        patched, _ = apply_patch(CONFIGMAPS, live, json.dumps({**wrong, "data": {"a": "2"}}).encode(), STRATEGIC_MERGE_PATCH, "Strict")
        assert patched == {**live, "data": {"a": "2"}}
    with pytest.raises(Invalid, match="unknown conversion"):
        apply_patch(CONFIGMAPS, live, b'{"kind": "Pod"}', MERGE_PATCH, "Strict")


def test_retain_keys_clears_the_other_members_of_a_union() -> None:
    template = {"metadata": {}, "spec": {"containers": [{"name": "c"}]}}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    live = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template, "strategy": strategy}}
    result = patched(DEPLOYMENTS, live, {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})
    assert result["spec"]["strategy"] == {"type": "Recreate"}


def test_primitive_lists_merge_and_shrink() -> None:
    live = configmap()
    live["metadata"]["finalizers"] = ["a/x", "b/x"]
    assert patched(CONFIGMAPS, live, {"metadata": {"finalizers": ["c/x"]}})["metadata"]["finalizers"] == ["c/x", "a/x", "b/x"]
    shrunk = patched(CONFIGMAPS, live, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x", "z/x"]}})
    assert shrunk["metadata"]["finalizers"] == ["b/x"]


def test_element_order_is_set_by_the_patch() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
                      "containers": [{"name": "new", "image": "1"}]}}  # fmt: skip
    assert names(patched(PODS, pod(A, B), patch)) == ["b", "new", "a"]
    wrong = {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "new"}]}}
    with pytest.raises(ApiError, match="The order in patch list"):
        patched(PODS, pod(A, B), wrong)


def test_atomic_lists_are_replaced() -> None:
    live = pod(tolerations=[{"key": "a", "operator": "Exists"}])
    assert patched(PODS, live, {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}})["spec"]["tolerations"] == [
        {"key": "b", "operator": "Exists"}
    ]


def test_directives_and_nulls_of_new_parts_leave_no_trace() -> None:
    affinity = {"nodeAffinity": None, "podAffinity": {"$patch": "replace"}}
    spec = patched(PODS, pod(), {"spec": {"affinity": affinity, "nodeSelector": {"$retainKeys": ["a"], "a": "1"}}})["spec"]
    assert spec["affinity"] == {"podAffinity": {}}
    assert spec["nodeSelector"] == {"a": "1"}


@pytest.mark.parametrize(
    ("patch", "message"),
    [({"spec": {"containers": [{"image": "x"}]}}, "map: map[image:x] does not contain declared merge key: name"),
     ({"spec": {"containers": [{"name": "c", "$patch": "merge"}]}}, "merging lists cannot yet be specified in the patch"),
     ({"spec": {"containers": [{"name": "c", "$patch": "no"}]}}, "unknown patch type: no in map: map[$patch:no name:c]"),
     ({"spec": {"$patch": "no"}}, "unknown patch type: no in map: map[$patch:no]")],
)  # fmt: skip
def test_strategic_patches_that_make_no_sense_fail(patch: Any, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        patched(PODS, pod(), patch)
    assert (caught.value.code, caught.value.message) == (500, message)


values = st.recursive(
    st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(documents, documents)
def test_merging_a_document_into_itself_changes_nothing_and_merging_is_idempotent(document: Any, patch: Any) -> None:
    assert merge(document, document) == document
    assert merge(merge(document, patch), patch) == merge(document, patch)


@given(documents, documents)
def test_a_replacing_json_patch_leads_to_the_target(document: Any, target: Any) -> None:
    operations = [{"op": "remove", "path": f"/{key}"} for key in document]
    operations += [{"op": "add", "path": f"/{key}", "value": value} for key, value in target.items()]
    assert apply_operations(copy.deepcopy(document), operations) == target


images = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)


@given(images, images)
def test_strategic_merging_of_keyed_lists_is_the_union_and_idempotent(live: Any, change: Any) -> None:
    def spec(images: dict[str, str]) -> Any:
        return {"spec": {"containers": [{"name": name, "image": image} for name, image in images.items()]}}

    once = strategic("core.v1.Pod", spec(live), spec(change))
    assert {c["name"]: c["image"] for c in once["spec"]["containers"]} == {**live, **change}
    assert strategic("core.v1.Pod", once, spec(change)) == once


def test_what_a_patch_leaves_alone_is_not_decoded_again_and_what_it_changes_is() -> None:
    pod = {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    live = decode(PODS, orjson.dumps({**pod, "status": {"phase": "Pending"}}), "application/json", STRICT)[0]
    before = orjson.dumps(live)
    for media_type in (MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        patch = {"status": {"phase": "Running", "startTime": "2026-11-21T08:00:00.5Z", "message": "", "conditions": None}}
        new, warnings = apply_patch(PODS, live, orjson.dumps(patch), media_type, STRICT)
        assert warnings == []
        assert new["spec"] is live["spec"]
        assert new["status"] == {"phase": "Running", "startTime": "2026-11-21T08:00:00Z"}
        new["metadata"]["uid"] = "u"
        assert orjson.dumps(live) == before
        gone, _ = apply_patch(PODS, live, b'{"status": null, "apiVersion": null}', media_type, STRICT)
        assert (gone["status"], gone["apiVersion"], gone["kind"]) == ({}, "v1", "Pod")
        with pytest.raises(Invalid):
            apply_patch(PODS, live, b'{"status": {"phase": 7}}', media_type, STRICT)
        with pytest.raises(Invalid):
            apply_patch(PODS, live, b'{"nothing": {"of": "the kind"}}', media_type, STRICT)

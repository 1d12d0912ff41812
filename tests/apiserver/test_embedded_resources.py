"""Whole objects within custom resources: their metadata is ObjectMeta; and what an update leaves as it was is not held against it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from kubecosm.services.apiserver.customresources.validation import validate, validate_update

from .harness import Api, with_api
from .test_customresources import CRDS, CRONTABS, crontab, definition, version

TEXT = {"type": "string"}
WHOLE = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}


def schema_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def whole(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


@pytest.mark.parametrize(("base", "why"), [
    (whole(name=5), 'spec.base.metadata: Invalid value: {"name":5}: json: cannot unmarshal number into Go struct field ObjectMeta.name of '
                    "type string"),
    ({"apiVersion": 1, "kind": "Pod"}, "spec.base.apiVersion: Invalid value: 1: must be a string"),
], ids=["metadata", "apiVersion"])  # fmt: skip
def test_metadata_of_a_wrong_type_is_refused_when_it_is_decoded(base: Any, why: str, tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition(version(schema=schema_of(cronSpec=TEXT, base=WHOLE))))
        code, answer = await api.call("POST", CRONTABS, crontab("a", base=base))
        assert (code, answer["message"]) == (400, f'CronTab in version "v1" cannot be handled as a CronTab: {why}')

    with_api(tmp_path, check)


def test_metadata_is_kept_as_objectmeta_and_the_rest_as_it_is(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        await api.create(CRDS, definition(version(schema=schema_of(cronSpec=TEXT, base=WHOLE))))
        base = {**whole(name="n", labels={"a": "b"}, unknown=1, creationTimestamp=None), "spec": {"any": ["thing"]}}
        made = await api.create(f"{CRONTABS}?fieldValidation=Ignore", crontab("a", base=base))
        assert made["spec"]["base"] == {**whole(name="n", labels={"a": "b"}), "spec": {"any": ["thing"]}}

    with_api(tmp_path, check)


@pytest.mark.parametrize(("base", "complaint"), [
    ({"kind": "X"}, "spec.base.apiVersion: Required value: must not be empty"),
    ({"apiVersion": "a/b/c", "kind": "X"}, 'spec.base.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'),
    ({"apiVersion": "v1", "kind": "No_Kind"},
     'spec.base.kind: Invalid value: "No_Kind": may have mixed case, but should otherwise match: '),
    (whole(name="a/b"), "spec.base.metadata.name: Invalid value: \"a/b\": may not contain '/'"),
    (whole(namespace="No"), 'spec.base.metadata.namespace: Invalid value: "No": '),
    (whole(labels={"a": "no good"}), 'spec.base.metadata.labels: Invalid value: "no good": '),
], ids=str)  # fmt: skip
def test_identity_and_metadata_are_validated(base: Any, complaint: str) -> None:
    found = [str(error) for error in validate(schema_of(base=WHOLE), {"spec": {"base": base}})]
    assert len(found) == 1
    assert found[0].startswith(complaint)
    assert validate(schema_of(base=WHOLE), {"spec": {"base": {"apiVersion": "v1", "kind": "Pod"}}}) == []


ITEM = {"type": "object", "properties": {"k": TEXT, "v": {"type": "string", "maxLength": 2}, "n": {"type": "integer"}}}
MAP = {"type": "array", "items": ITEM, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}


def complaints(schema: Any, old: Any, new: Any) -> list[str]:
    wrapped = schema_of(part=schema)
    return [str(error) for error in validate_update(wrapped, {"spec": {"part": new}}, {"spec": {"part": old}})]


def test_items_of_a_map_list_correspond_by_their_keys() -> None:
    old = [{"k": "a", "v": "long"}, {"k": "b", "v": "x"}]
    moved = [{"k": "b", "v": "y"}, {"k": "a", "v": "long"}]
    assert complaints(MAP, old, moved) == []
    assert complaints({**MAP, "x-kubernetes-list-type": "atomic"}, old, moved) == ["spec.part[1].v: Too long: may not be more than 2 bytes"]
    changed = [{"k": "b", "v": "y"}, {"k": "a", "v": "longer"}]
    assert complaints(MAP, old, changed) == ["spec.part[1].v: Too long: may not be more than 2 bytes"]
    other = [{"k": "a", "v": "long", "n": 1}, {"k": "c", "v": "long"}]
    assert complaints(MAP, old, other) == ["spec.part[1].v: Too long: may not be more than 2 bytes"]


def test_an_atomic_map_is_as_it_was_only_as_a_whole() -> None:
    old = {"v": "long", "n": 1}
    assert complaints(ITEM, old, {"v": "long", "n": 2}) == []
    atomic = {**ITEM, "x-kubernetes-map-type": "atomic"}
    assert complaints(atomic, old, {"v": "long", "n": 2}) == ["spec.part.v: Too long: may not be more than 2 bytes"]
    assert complaints(atomic, old, copy.deepcopy(old)) == []


def test_lists_that_repeated_items_may_go_on_doing_so() -> None:
    tags = {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}
    assert complaints(tags, ["a", "a"], ["a", "a", "b", "b"]) == []
    assert complaints(tags, ["a"], ["a", "a"]) == ['spec.part[1]: Duplicate value: "a"']


def test_update_is_warned_of_rules_that_failed_before_and_are_left_so(tmp_path: Path) -> None:
    def defined(*rules: str) -> dict[str, Any]:
        part = {"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": rule} for rule in rules]}
        return definition(version(schema=schema_of(cronSpec=TEXT, part=part)))

    async def check(api: Api) -> None:
        await api.create(CRDS, defined("true"))
        made = await api.create(CRONTABS, crontab("a", part={"n": 3}))
        stored = await api.get(f"{CRDS}/crontabs.stable.example.com")
        await api.put(f"{CRDS}/crontabs.stable.example.com", {**stored, "spec": defined("self.n < 3")["spec"]})
        reply = await api.raw("PUT", f"{CRONTABS}/a", {**made, "spec": {**made["spec"], "cronSpec": "other"}})
        assert reply.status == 200
        assert reply.headers["Warning"] == '299 - "spec.part: Invalid value: \\"object\\": failed rule: self.n < 3"'

    with_api(tmp_path, check)

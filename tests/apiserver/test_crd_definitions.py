"""What definitions may say of identity, status, columns and selectable fields, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import CUSTOMRESOURCEDEFINITIONS
from kubecosm.services.apiserver.customresources.names import decide
from kubecosm.services.apiserver.registry.apiextensions.crd import CustomResourceDefinitionStrategy

from .test_customresources import definition, version

TEXT, NUMBER, PART = {"type": "string"}, {"type": "integer"}, {"type": "object"}
AT = "spec.validation.openAPIV3Schema"


def complaints(schema: Any, **more: Any) -> list[str]:
    strategy = CustomResourceDefinitionStrategy(CUSTOMRESOURCEDEFINITIONS)
    crd = definition(version(schema=schema, **more))
    strategy.default(crd)
    return [str(error) for error in strategy.validate(crd)]


def root(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


A = f"{AT}.properties[a]"
META = "must not specify anything other than name and generateName, but metadata is implicitly specified"


@pytest.mark.parametrize(("schema", "told"), [
    (root(metadata={**PART, "properties": {"labels": PART}}), [f"{AT}.properties[metadata]: Forbidden: {META}"]),
    (root(metadata={**PART, "properties": {"name": {**TEXT, "maxLength": 9}}}), []),
    (root(metadata=TEXT), [f'{AT}.properties[metadata].type: Invalid value: "string": must be object']),
    (root(kind=NUMBER), [f'{AT}.properties[kind].type: Invalid value: "integer": must be string']),
    (root(apiVersion={**TEXT, "default": "a/v1"}),
     [f"{AT}.properties[apiVersion].default: Forbidden: must not be set in top-level apiVersion"]),
    ({**PART, "additionalProperties": TEXT}, [f"{AT}.additionalProperties: Forbidden: must not be used at the root"]),
    (root(a={"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True}),
     [f"{A}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"]),
    (root(a={"type": "array", "items": {}}),
     [f"{A}.items.type: Required value: must not be empty for specified array items"]),
    (root(a={"type": "array", "items": PART, "x-kubernetes-list-type": "set"}),
     [f"{A}.items.x-kubernetes-map-type: Invalid value: null: "
      "must be atomic as item of a list with x-kubernetes-list-type=set"]),
    (root(a={**TEXT, "x-kubernetes-list-type": "atomic"}),
     [f'{A}.type: Invalid value: "string": must be array if x-kubernetes-list-type is specified']),
], ids=str)  # fmt: skip
def test_schema_that_says_what_it_may_not_is_refused(schema: Any, told: list[str]) -> None:
    assert complaints(schema) == told


def test_root_says_nothing_of_the_whole_where_status_stands_apart() -> None:
    schema = {**root(spec=PART), "oneOf": [{"required": ["spec"]}]}
    assert complaints(schema) == []
    assert "fields are allowed at the root of the schema if the status subresource is enabled" in complaints(
        schema, subresources={"status": {}}
    )[0]


@pytest.mark.parametrize(("path", "told"), [
    (".spec.color", []),
    (".spec.nope", ["[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field"]),
    (".metadata.name", ['[0]: Invalid value: ".metadata.name": must not point to fields in metadata']),
    (".spec.part", ['[0]: Invalid value: ".spec.part": must point to a field of type string, boolean or integer. Enum string fields and '
                    "strings with formats are allowed."]),
    ("", ["[0].jsonPath: Required value"]),
])  # fmt: skip
def test_selectable_fields_are_scalars_of_the_schema(path: str, told: list[str]) -> None:
    schema = root(metadata={**PART, "properties": {"name": TEXT}}, spec={**PART, "properties": {"color": TEXT, "part": PART}})
    assert complaints(schema, selectableFields=[{"jsonPath": path}]) == [f"spec.selectableFields{text}" for text in told]


def test_selectable_fields_are_few_and_different() -> None:
    schema = root(spec={**PART, "properties": {f"f{i}": TEXT for i in range(9)}})
    fields = [{"jsonPath": f".spec.f{i}"} for i in range(9)]
    assert complaints(schema, selectableFields=fields) == ["spec.selectableFields: Too many: 9: must have at most 8 items"]
    twice = [{"jsonPath": ".spec.f1"}] * 2
    assert complaints(schema, selectableFields=twice) == ['spec.selectableFields[1]: Duplicate value: ".spec.f1"']


def test_paths_begin_with_a_dot() -> None:
    told = "must be a simple json path starting with ."
    column = {"name": "A", "type": "string", "jsonPath": "spec.a"}
    assert complaints(root(), additionalPrinterColumns=[column]) == [
        f'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec.a": {told}'
    ]
    scale = {"specReplicasPath": "spec.replicas", "statusReplicasPath": ".spec.n", "labelSelectorPath": "x"}
    assert complaints(root(), subresources={"scale": scale}) == [
        f'spec.subresources.scale.specReplicasPath: Invalid value: "spec.replicas": {told}',
        'spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.n": should be a json path under .status',
        f'spec.subresources.scale.labelSelectorPath: Invalid value: "x": {told}',
    ]


@pytest.mark.parametrize(("requested", "present", "reason", "message"), [
    ({"shortNames": ["a"], "kind": "Foo"}, {}, "ShortNamesConflict", '"a" is already in use'),
    ({"shortNames": ["a", "b", "a"], "kind": "Foo"}, {}, "ShortNamesConflict", '["a" is already in use, "b" is already in use]'),
    ({"shortNames": ["a"], "kind": "Other"}, {}, "KindConflict", '"Other" is already in use'),
    ({"singular": "a", "listKind": "Other"}, {}, "ListKindConflict", '"Other" is already in use'),
    ({"shortNames": ["foo"], "singular": "foo"}, {}, "", ""),
    ({"shortNames": ["foo"], "singular": "foo"}, {"singular": "foo"}, "ShortNamesConflict", '"foo" is already in use'),
    ({"shortNames": ["foo"], "singular": "foo"}, {"singular": "foo", "shortNames": ["foo"]}, "", ""),
])  # fmt: skip
def test_of_several_conflicts_of_names_the_last_is_told(requested, present, reason, message) -> None:
    crd = {"spec": {"names": {"plural": "foos", **requested}}, "status": {"acceptedNames": present}}
    decision = decide(crd, [{"plural": "as", "singular": "a", "shortNames": ["b"], "kind": "Other", "listKind": "OtherList"}])
    assert (decision.conflict, decision.message) == (reason, message)
    assert decision.names["plural"] == "foos"

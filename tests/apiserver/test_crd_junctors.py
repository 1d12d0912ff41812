"""What is told of values that fit no schema, or too many, of allOf, anyOf, oneOf and not."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.services.apiserver.customresources.matches import match_count
from kubecosm.services.apiserver.customresources.validation import validate

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def of(junctor: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {**junctor, **more}}}


def told(schema: dict[str, Any], spec: Any) -> list[str]:
    return [str(error) for error in validate(schema, {"spec": spec})]


def needs(**properties: Any) -> dict[str, Any]:
    return {"required": list(properties), "properties": properties}


@pytest.mark.parametrize("junctor", ["anyOf", "oneOf"])
def test_the_complaints_of_the_schema_with_most_in_common_are_told(junctor: str) -> None:
    """The second has the fewer complaints, but the first recognizes more of the value."""
    first = {"properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1}}}
    schema = of({junctor: [{"required": ["x"]}, first, {"required": ["y"]}]}, type="object")
    found = told(schema, {"a": "long", "b": "long"})
    assert found[1:] == ["spec.a: Too long: may not be more than 1 bytes", "spec.b: Too long: may not be more than 1 bytes"]
    text = "at least one schema (anyOf)" if junctor == "anyOf" else "one and only one schema (oneOf). Found none valid"
    assert found[0] == f'<nil>: Invalid value: "": "spec" must validate {text}'


def test_of_equals_the_first_is_told() -> None:
    schema = of({"oneOf": [{"required": ["x"]}, {"required": ["y"]}]}, type="object")
    assert told(schema, {})[1:] == ["spec.x: Required value"]


def test_too_many_that_fit_are_counted_and_have_no_complaints() -> None:
    schema = of({"oneOf": [{"minLength": 1}, {"minLength": 2}, {"minLength": 9}]}, type="string")
    assert told(schema, "abc") == [
        '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives'
    ]


@pytest.mark.parametrize(("second", "more"), [({"minLength": 1}, ""), ({"maxLength": 2}, ". None validated")])
def test_all_of_tells_every_complaint_and_whether_any_fits(second: dict[str, int], more: str) -> None:
    found = told(of({"allOf": [{"minLength": 9}, second]}, type="string"), "abc")
    assert found[-1] == f'<nil>: Invalid value: "": "spec" must validate all the schemas (allOf){more}'
    assert found[0] == 'spec: Invalid value: "abc": spec in body should be at least 9 chars long'


def test_the_same_complaint_is_told_once() -> None:
    found = told(of({"allOf": [{"minLength": 9}]}, type="string", minLength=9), "abc")
    assert [text for text in found if "9 chars" in text] == ['spec: Invalid value: "abc": spec in body should be at least 9 chars long']


def test_junctors_come_behind_the_type_and_before_all_else() -> None:
    found = told(of({"not": {}}, type="string", minLength=9, enum=["x"]), "abc")
    assert [text.partition(": ")[2].partition(":")[0] for text in found] == ["Invalid value", "Invalid value", "Unsupported value"]
    assert "must not validate the schema (not)" in found[0]


def test_of_a_text_and_of_an_object_that_is_too_large_the_first_complaint_is_told() -> None:
    assert len(told(of({}, type="string", minLength=9, pattern="^x"), "abc")) == 1
    schema = of({}, type="object", maxProperties=1, required=["c"], properties={"a": NUMBER})
    assert told(schema, {"a": "x", "b": 1}) == ["spec: Too many: 2: must have at most 1 item"]


@pytest.mark.parametrize(
    ("schema", "value", "count"),
    [
        ({}, True, 4),
        (TEXT, "x", 7),
        (NUMBER, "x", 6),
        ({"type": "string", "format": "date"}, "x", 8),
        (NUMBER, 5, 8),
        ({}, [], 6),
        ({"items": NUMBER}, [1, 2], 22),
        ({"properties": {"a": NUMBER}}, {"a": 1, "b": 2}, 13),
        ({"properties": {"a": NUMBER}, "maxProperties": 1}, {"a": 1, "b": 2}, 5),
        ({"type": "string", "nullable": True}, None, 1),
        (TEXT, None, 0),
        ({"anyOf": [NUMBER, TEXT]}, "x", 12),
        ({"oneOf": [{}, {}]}, True, 4),
        ({"allOf": [{}, TEXT]}, "x", 17),
    ],
)
def test_every_check_that_applies_counts(schema: dict[str, Any], value: Any, count: int) -> None:
    def fits(part: Any, inner: Any) -> bool:
        return not validate({"properties": {"v": part}}, {"v": inner})

    assert match_count(schema, value, fits) == count

"""Formats of custom resources' fields: texts and numbers have them or are refused; what no one knows is told when a definition is made."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.resources import CUSTOMRESOURCEDEFINITIONS
from kubecosm.services.apiserver.customresources.formats import has_format
from kubecosm.services.apiserver.customresources.validation import validate, validate_update
from kubecosm.services.apiserver.registry.apiextensions.crd import CustomResourceDefinitionStrategy

from .test_customresources import definition, version

ROOT: dict[str, Any] = {"type": "object"}


@pytest.mark.parametrize(("form", "good", "bad"), [
    ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"), ("byte", "aGk=", "!"), ("cidr", "10.0.0.0/8", "10.0.0.0"),
    ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"), ("date", "2026-01-31", "2026-02-31"),
    ("date-time", "2026-01-31T00:00:00Z", "2026-01-31"), ("duration", "1h30m", "soon"), ("email", "a@b.c", "a"),
    ("hexcolor", "#ffaa00", "#ff"), ("hostname", "a.b", "a..b"), ("ipv4", "1.2.3.4", "::1"), ("ipv6", "::1", "1.2.3.4"),
    ("isbn", "0-306-40615-2", "0-306-40615-3"), ("isbn10", "080442957X", "9780306406157"), ("isbn13", "978-0-306-40615-7", "0-306-40615-2"),
    ("k8s-long-name", "a.b", "a_b"), ("k8s-short-name", "a-b", "a.b"), ("mac", "00:1b:63:84:45:e6", "00"),
    ("rgbcolor", "rgb(0, 128, 255)", "rgb(0, 128, 256)"), ("ssn", "111-11-1111", "11"), ("uri", "http://a", "a"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000", "{123e4567-e89b-12d3-a456-426614174000}"),
    ("uuid3", "bcd02e22-68f0-3046-a512-327cca9def8f", "57b73598-8764-4ad0-a76a-679bb6640eb1"),
    ("uuid4", "57b73598-8764-4ad0-a76a-679bb6640eb1", "987fbc97-4bed-3078-af07-9141ba07c9f3"),
    ("uuid5", "987fbc97-4bed-5078-af07-9141ba07c9f3", "57b73598-8764-4ad0-a76a-679bb6640eb1"),
])  # fmt: skip
def test_texts_have_the_formats_that_are_asked_for(form: str, good: str, bad: str) -> None:
    schema = {**ROOT, "properties": {"f": {"type": "string", "format": form}}}
    assert validate(schema, {"f": good}) == []
    assert [str(error) for error in validate(schema, {"f": bad})] == [
        f'f: Invalid value: "{bad}": f in body must be of type {form}: "{bad}"'
    ]


def test_formats_that_nobody_knows_fit_everything() -> None:
    assert all(has_format(form, "anything") for form in ("nope", "password"))


@pytest.mark.parametrize(("schema", "value", "complaints"), [
    ({"type": "integer", "format": "int32"}, 2147483647, []),
    ({"type": "integer", "format": "int32"}, 2147483648, ["Checked value must be of type integer with format int32 in f"]),
    ({"type": "integer", "format": "int32", "maximum": 4294967295}, 1,
     ["Maximum boundary value must be of type integer with format int32 in f"]),
    ({"type": "integer", "format": "int32", "minimum": -4294967295}, 1,
     ["Minimum boundary value must be of type integer with format int32 in f"]),
    ({"type": "integer", "format": "int64"}, 2**63 - 1, []),
    ({"type": "number", "format": "float"}, 3.5e38, ["Checked value must be of type number with format float in f"]),
    ({"type": "number", "format": "float"}, 0.1, []), ({"type": "number", "format": "double"}, 1e300, []),
    ({"type": "number", "format": "int32"}, 2147483648, []), ({"type": "integer", "format": "uint8"}, 256, []),
])  # fmt: skip
def test_numbers_stay_in_the_range_of_their_format(schema: dict[str, Any], value: float, complaints: list[str]) -> None:
    whole = {**ROOT, "properties": {"f": schema}}
    assert [str(error) for error in validate(whole, {"f": value})] == [f'<nil>: Invalid value: "": {text}' for text in complaints]
    assert validate_update(whole, {"f": value, "g": 1}, {"f": value}) == []


def test_defaults_stay_in_range_too() -> None:
    strategy = CustomResourceDefinitionStrategy(CUSTOMRESOURCEDEFINITIONS)
    crd = definition(version(schema={**ROOT, "properties": {"f": {"type": "integer", "format": "int32", "default": 2**31}}}))
    strategy.default(crd)
    at = "spec.validation.openAPIV3Schema.properties[f].default"
    assert [str(error) for error in strategy.validate(crd)] == [
        f'{at}: Invalid value: "": Checked value must be of type integer with format int32 in {at}'
    ]


def test_whole_numbers_beyond_64_bits_are_no_integers() -> None:
    schema = {**ROOT, "properties": {"f": {"type": "integer"}}}
    assert [str(error) for error in validate(schema, {"f": 2**63})] == [
        'f: Invalid value: "number": f in body must be of type integer: "number"'
    ]


def test_definitions_with_unknown_formats_are_warned_once() -> None:
    strategy = CustomResourceDefinitionStrategy(CUSTOMRESOURCEDEFINITIONS)
    fields: dict[str, Any] = {
        "a": {"type": "string", "format": "date-time"}, "b": {"type": "integer", "format": "int32"},
        "c": {"type": "array", "format": "cidr", "items": {"type": "integer", "format": "uint8"}},
        "d": {"type": "object", "additionalProperties": {"type": "integer", "format": "uint8"}},
    }  # fmt: skip
    old = definition(version(schema={**ROOT, "properties": fields}))
    assert strategy.warnings(old) == ['unrecognized format "cidr"', 'unrecognized format "uint8"']
    new = definition(version(schema={**ROOT, "properties": {**fields, "e": {"type": "string", "format": "nope"}}}))
    assert strategy.warnings(new, old) == ['unrecognized format "nope"']
    assert strategy.warnings({**new, "spec": {}}) == [], "warnings are asked for before it is known to be valid"

"""What an expression may cost at most is told from its declared types, in the numbers of cel-go and Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.cel.environment import Environment
from kubecosm.cel.estimation import estimate
from kubecosm.cel.spans import UNLIMITED
from kubecosm.services.apiserver.customresources.celschema import declared_type

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}


def most(schema: Schema, source: str) -> int:
    typed = declared_type(schema, "selfType", is_root=False)
    assert typed is not None
    return estimate(Environment({"self": typed, "oldSelf": typed}).compile(source).tree, typed).most


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def mapping(values: Schema, **more: Any) -> Schema:
    return {"type": "object", "additionalProperties": values, **more}


def record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(("schema", "unbounded", "bound", "bounded"), [
    (array(NUMBER), 4718591, {"maxItems": 10}, 32), (array(TEXT), 3145727, {"maxItems": 20}, 62),
    (array({"type": "boolean"}), 1887437, {"maxItems": 5}, 17), (array(array(NUMBER)), 3145727, {"maxItems": 100}, 302),
    (array({"type": "string", "format": "date-time"}), 428963, {"maxItems": 25}, 77),
    (array({"x-kubernetes-int-or-string": True}), 4718591, {"maxItems": 10}, 32),
    (array({**record(required=TEXT, optional=TEXT), "required": ["required"]}), 555128, {"maxItems": 50}, 152),
    (mapping(NUMBER), 1348169, {"maxProperties": 10}, 32), (mapping(TEXT), 1179647, {"maxProperties": 3}, 11),
    (mapping({"type": "string", "format": "duration"}), 1048577, {"maxProperties": 5}, 17),
])  # fmt: skip
def test_fold_counts_as_many_rounds_as_fit_into_a_request_or_a_bound(schema: Schema, unbounded: int, bound: Schema, bounded: int) -> None:
    assert most(schema, "self.all(x, true)") == unbounded
    assert most({**schema, **bound}, "self.all(x, true)") == bounded


@pytest.mark.parametrize(("source", "unbounded", "bounded"), [
    ("self.contains('test')", 314574, 5), ("self.startsWith('test')", 2, 2), ("self.matches('x')", 314574, 6), ("self.matches('')", 1, 1),
    ("size(self + 'hello') > size('hello')", 314578, 9), ("self.find('[0-9]+') == ''", 629147, 11),
    ("self.lowerAscii() == 'lower!'", 314575, 6), ("self == 'x'", 2, 2), ("self in ['a', 'b']", 13, 13),
])  # fmt: skip
def test_function_of_a_text_counts_its_characters(source: str, unbounded: int, bounded: int) -> None:
    assert most(TEXT, source) == unbounded
    assert most({**TEXT, "maxLength": 10}, source) == bounded


@pytest.mark.parametrize(("schema", "source", "cost"), [
    (record(s=TEXT, old={**TEXT, "maxLength": 2}, new={**TEXT, "maxLength": 4}),
     "self.s.replace(self.old, self.new) == 'never mind'", 629153),
    (record(s=TEXT, by=TEXT), "self.s.split(self.by) == []", 629160), (array(TEXT), "self.join(' ') == 'aa bb'", 329853068905),
    (array(TEXT), "self.isSorted() == true", 329854432052), (mapping(TEXT), "self.all(x, x.contains(self[x]))", 2752507),
    (array(NUMBER), "self[1] == 0.0", 2), (array(TEXT), "self[1] == self[1]", 314577), (array(mapping(NUMBER)), "self[0].x > 2.0", 4),
    (mapping({"type": "string", "format": "date-time"}), "self['a'] == self['b']", 8),
    ({"type": "string", "enum": ["A", "LongValue"]}, "self.contains('A')", 2), (mapping(NUMBER), "oldSelf.size() == self.size()", 5),
    (array(NUMBER, maxItems=10), "self.all(x, self.all(y, self.all(z, true)))", 3552),
    (array(NUMBER, maxItems=10), "self.map(x, x * 2.0).filter(x, x > 1.0).size() > 1", 315),
    (record(n={"type": "integer"}), "string(self.n) + 'a' == 'b'", UNLIMITED // 10),
    (record(n={"type": "integer"}), "self.n > 1 ? self.n < 5 : true", 6),
    (array(NUMBER, maxItems=10), "sets.equivalent(self, [1.0, 2.0])", 52),
    (array(NUMBER, maxItems=10), "self.all(i, x, x > 0.0 && i < 5)", 72), (record(a=TEXT), "ip(self.a).family() == 4", 5),
    (record(a=TEXT), "url(self.a).getScheme() == 'https'", 314577),
    (record(a={**TEXT, "maxLength": 5}), "format.dns1123Label().validate(self.a).hasValue()", 68),
], ids=str)  # fmt: skip
def test_sizes_of_results_are_followed(schema: Schema, source: str, cost: int) -> None:
    assert most(schema, source) == pytest.approx(cost, rel=1e-15)


def test_what_has_no_end_does_not_overflow() -> None:
    nested = array(array(array(array(TEXT))))
    assert most(nested, "self.all(a, a.all(b, b.all(c, c.all(d, d.contains('x')))))") == UNLIMITED

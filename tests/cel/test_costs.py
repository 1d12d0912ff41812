"""What evaluations cost, counted as cel-go and Kubernetes count them."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.cel.environment import Environment
from kubecosm.cel.libraries.authorization import Authorizer
from kubecosm.cel.types import DURATION, DYN, INT, STRING, list_of, map_of, object_of, opaque
from kubecosm.cel.values import CelError, Duration

SELF = object_of("S", {
    "n": INT, "text": STRING, "span": DURATION, "numbers": list_of(INT), "words": list_of(STRING), "limits": map_of(STRING, INT),
    "parts": list_of(object_of("P", {"k": STRING, "v": STRING})), "any": DYN,
})  # fmt: skip
VALUES: dict[str, Any] = {
    "self": {
        "n": 3, "text": "twelve chars", "span": Duration(10**9), "numbers": [1, 2, 3], "words": ["alphabetical", "b"],
        "limits": {"a": 1, "b": 2}, "parts": [{"k": "a"}, {"k": "b", "v": "z"}], "any": {"x": 1},
    },
    "authorizer": Authorizer(lambda attributes: (True, "", "")),
}  # fmt: skip
ENVIRONMENT = Environment({"self": SELF, "authorizer": opaque("kubernetes.authorization.Authorizer")})


def cost_of(source: str) -> int:
    return ENVIRONMENT.compile(source).evaluate(VALUES)[1]


@pytest.mark.parametrize(("source", "cost"), [
    ("true", 0), ("self.n == 3", 3), ("has(self.any.x)", 2), ("self.text == 'twelve chars'", 4), ("self.n + 1 > 1 + 1", 5),
    ("[self.n].size() == 1", 14), ("{'a': self.n}.size() == 1", 34), ("!has(self.any.y) || self.any.y == 1", 3),
], ids=str)  # fmt: skip
def test_names_selections_calls_and_what_is_made_have_their_cost(source: str, cost: int) -> None:
    assert cost_of(source) == cost


@pytest.mark.parametrize(("source", "cost"), [
    ("self.span == duration('1h')", 3), ("double(5) < 10.0", 1), ("type(self.n) == int", 4), ("self.text in ['a', 'b']", 2),
    ("self.limits == {'a': 1, 'b': 2}", 3), ("self.words == []", 2),
], ids=str)  # fmt: skip
def test_constants_cost_nothing(source: str, cost: int) -> None:
    assert cost_of(source) == cost


@pytest.mark.parametrize(("source", "cost"), [
    ("self.numbers.all(i, i > 0)", 18), ("self.numbers.map(i, i) == [1, 2, 3]", 43), ("self.numbers.exists_one(i, i == 2)", 12),
    ("self.numbers.filter(i, i > 1).size() == 2", 37), ("self.limits.all(k, self.limits[k] > 0)", 17),
    ("self.n > 1 ? self.n > 2 : self.n > 0", 6), ("(self.n > 1 ? self.text : 'x') == 'x'", 5),
], ids=str)  # fmt: skip
def test_folds_and_choices_cost_what_they_evaluate(source: str, cost: int) -> None:
    assert cost_of(source) == cost


@pytest.mark.parametrize(("source", "cost"), [
    ("self.text.startsWith('t')", 4), ("self.text.contains('el')", 4), ("self.text.matches('^t')", 4), ("self.text.indexOf('e') == 2", 4),
    ("self.text.replace('e', 'x') == 'x'", 6), ("self.words.join('') == 'x'", 6), ("self.numbers.sum() == 6", 6),
    ("self.words.isSorted()", 3), ("sets.contains(self.numbers, [1])", 6), ("sets.equivalent(self.numbers, [1])", 9),
    ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", 3), ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", 6),
    ("format.dns1123Label().validate(self.text).hasValue()", 20), ("url('https://a.b').getHost() == 'a.b'", 4),
    ("authorizer.group('').resource('pods').check('get').allowed()", 350_004),
    ("authorizer.group('').resource('pods').labelSelector('a=b').check('get').allowed()", 350_115),
], ids=str)  # fmt: skip
def test_functions_cost_what_they_look_at(source: str, cost: int) -> None:
    assert cost_of(source) == cost


def test_call_counts_though_its_argument_failed() -> None:
    assert cost_of("self.parts.exists(p, p.v == 'z')") == 2 + (2 + 1 + 1 + 2 + 1) + (2 + 1 + 1 + 2 + 1) + 1


def test_moment_is_printed_on_the_clock_it_was_written_by() -> None:
    assert ENVIRONMENT.compile("string(timestamp('2011-08-18T19:03:37.01+01:00'))").evaluate(VALUES)[0] == "2011-08-18T19:03:37.01+01:00"


def test_conversion_that_fails_is_told_when_it_is_evaluated() -> None:
    with pytest.raises(CelError, match="invalid syntax"):
        ENVIRONMENT.compile("self.n == int('x')").evaluate(VALUES)

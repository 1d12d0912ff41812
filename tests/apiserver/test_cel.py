"""Kubernetes' dialect of CEL: what expressions come to, what they cost, and the words of their errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from kubecosm.cel.environment import Environment
from kubecosm.cel.issues import CompileError
from kubecosm.cel.libraries.authorization import Authorizer
from kubecosm.cel.types import DYN, INT, STRING, list_of, map_of, object_of, opaque
from kubecosm.cel.values import CelError, CostExceeded

SELF = object_of("S", {"a": INT, "s": STRING, "l": list_of(INT), "m": map_of(STRING, STRING)})
ENVIRONMENT = Environment({"self": SELF, "x": DYN})
VALUES: dict[str, Any] = {
    "self": {"a": 3, "s": "hello", "l": [1, 2, 3], "m": {"k": "v"}},
    "x": {"spec": {"replicas": 1, "max": 3, "name": "abc", "nothing": None}, "items": ["b", "a"]},
}


@pytest.mark.parametrize("source", [
    "self.a + 1 == 4", "self.l.all(i, i > 0)", "!self.l.all(i, i > 1)", "self.l.exists(i, i == 2)", "self.l.exists_one(i, i == 2)",
    "self.l.map(i, i * 2) == [2, 4, 6]", "self.l.map(i, i > 1, i * 2) == [4, 6]", "self.l.filter(i, i > 1).size() == 2",
    "self.m.all(k, k == 'k')", "self.l.all(i, v, v == i + 1)", "self.l.transformList(i, v, i * v) == [0, 2, 6]",
    "self.m.transformMap(k, v, v + k) == {'k': 'vk'}", "self.m.transformMapEntry(k, v, {v: k}) == {'v': 'k'}",
    "self.l.existsOne(i, v, v == 3)",
    "self.l.first().value() == 1 && self.l.last() == optional.of(3) && !self.l.filter(i, i > 9).first().hasValue()",
    "optional.unwrap([optional.of(1), optional.none()]) == [1] && [self.?s, x.?nope].unwrapOpt() == ['hello']",
    "has(self.a)", "!has(x.nope)", "has(x.spec.nothing)", "x.spec.nothing == null", "x.?nope.orValue(3) == 3",
    "x.?spec.?replicas.value() == 1", "x[?'nope'].hasValue() == false", "optional.of(1).optMap(v, v + 1).value() == 2",
    "optional.none().or(optional.of(2)).value() == 2", "optional.ofNonZeroValue('').hasValue() == false", "[?x.?nope, 1] == [1]",
    "{?'a': x.?nope} == {}", "x.spec.replicas <= x.spec.max", "true || x.nope", "x.nope || true", "!(false && x.nope)",
    "self.a > 2 ? true : x.nope", "-7 / 2 == -3", "-7 % 2 == -1", "7u / 2u == 3u", "1.5 + 1.5 == 3.0", "1 < 2.5", "dyn(1) == 1.0",
    "dyn(1) != dyn('1')", "type(1) == int", "type('') == string", "type(null) == null_type", "'k' in self.m", "2 in self.l",
    "'a' + 'b' == 'ab'", "[1] + [2] == [1, 2]", "b'abc'.size() == 3", "'\\u00e9'.size() == 1", "r'\\d' == '\\\\d'", "'''a'b''' == \"a'b\"",
    "0x1F == 31", "size('abc') == 3", "string(1.5) == '1.5'", "string(2.0) == '2'", "int('-5') == -5", "double('1e3') == 1000.0",
    "bool('true')",
    "string(b'a') == 'a'", "self.s.matches('^h.*o$')", "self.s.contains('ell')", "self.s.find('l+') == 'll'",
    "'a1b22'.findAll('[0-9]+') == ['1', '22']", "self.s.charAt(1) == 'e'", "self.s.indexOf('l') == 2", "self.s.lastIndexOf('l') == 3",
    "self.s.upperAscii() == 'HELLO'", "'a,b'.split(',') == ['a', 'b']", "['a', 'b'].join('-') == 'a-b'", "' a '.trim() == 'a'",
    "self.s.substring(1, 3) == 'el'", "self.s.replace('l', 'L', 1) == 'heLlo'",
    "'%s is %d, %.2f %x'.format([self.s, 3, 1.0, 255]) == 'hello is 3, 1.00 ff'", "strings.quote('a\"b') == '\"a\\\\\"b\"'",
    "self.l.isSorted()", "!x.items.isSorted()", "self.l.sum() == 6", "self.l.min() == 1", "self.l.max() == 3",
    "[1, 2, 1].lastIndexOf(1) == 2",
    "sets.contains([1, 2, 3], [2])", "sets.equivalent([1, 2, 2], [2, 1])", "sets.intersects([1], [1, 4])",
    "timestamp('2024-01-02T03:04:05.5Z').getFullYear() == 2024", "timestamp('2024-01-02T03:04:05Z').getDayOfWeek() == 2",
    "timestamp('2024-01-02T23:00:00Z').getDate('+02:00') == 3",
    "timestamp('2024-01-02T00:00:00Z') + duration('24h') == timestamp('2024-01-03T00:00:00Z')", "duration('1h30m').getMinutes() == 90",
    "string(duration('90s')) == '90s'", "duration('1m') > duration('59s')", "string(timestamp(0)) == '1970-01-01T00:00:00Z'",
    "quantity('1Gi').isGreaterThan(quantity('500M'))", "quantity('500m').add(quantity('500m')) == quantity('1')",
    "quantity('50k').asInteger() == 50000", "!isQuantity('1x')", "quantity('-1').sign() == -1",
    "ip('10.0.0.1').family() == 4", "ip.isCanonical('::1')", "!isIP('10.0.0.256')", "ip('127.0.0.1').isLoopback()",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3')", "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
    "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
    "cidr('10.0.0.0/8').prefixLength() == 8", "string(ip('::1')) == '::1'", "isCIDR('::/0')",
    "url('https://a.b:80/c?d=e').getHostname() == 'a.b'", "url('https://a.b:80/c?d=e').getQuery()['d'] == ['e']", "!isURL('a b')",
    "url('https://[::1]:80/').getHostname() == '::1'", "url('https://a.b:80').getHost() == 'a.b:80'",
    "semver('1.2.3').isLessThan(semver('1.10.0'))", "semver('1.0.0-alpha').compareTo(semver('1.0.0')) == -1", "isSemver('v1.2', true)",
    "!isSemver('1.2')", "format.dns1123Label().validate('A B').hasValue()", "!format.dns1123Label().validate('a-b').hasValue()",
    "format.named('uuid').value().validate('x').value() == ['does not match the UUID format']", "!format.named('nope').hasValue()",
    "[[1, 2], [3]].all(l, l.exists(i, i < 4))", "'a' == \"a\" // and why",
])  # fmt: skip
def test_expression_holds(source: str) -> None:
    assert ENVIRONMENT.compile(source).evaluate(VALUES)[0] is True


@pytest.mark.parametrize(("source", "message"), [
    ("self.nope", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^"),
    ("has(self.nope)", "ERROR: <input>:1:9: undefined field 'nope'\n | has(self.nope)\n | ........^"),
    ("self.a +\n'x'", "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n | self.a +\n | .......^"),
    ("self.s.size(1)", "found no matching overload for 'size' applied to 'string.(int)'"),
    ("nope", "undeclared reference to 'nope' (in container '')"), ("self.s.nope()", "undeclared reference to 'nope' (in container '')"),
    ("[1, 'a']", "expected type 'int' but found 'string'"), ("self.a.b", "type 'int' does not support field selection"),
    ("self.a.all(x, true)", "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)"),
    ("self.a +", "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT,"),
    ("1 2", "Syntax error: mismatched input '2' expecting <EOF>"), ("has(self)", "invalid argument to has() macro"),
    ("'a'.matches('(')", "invalid matches argument"), ("duration('x')", "invalid duration argument"), ("while",
    "reserved identifier: while"),
    ("9223372036854775808", "invalid int literal"), ("'abc", "token recognition error"),
    ("(" * 200 + "1" + ")" * 200, "expression recursion limit exceeded"),
])  # fmt: skip
def test_expression_is_refused_in_the_words_of_cel_go(source: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(source)
    assert message in str(caught.value)


@pytest.mark.parametrize(("source", "message"), [
    ("x.a.b", "no such key: a"), ("[1, 2][5]", "index out of bounds: 5"), ("1 / 0", "division by zero"), ("1 % 0", "modulus by zero"),
    ("9223372036854775807 + 1", "integer overflow"), ("1u - 2u", "unsigned integer overflow"), ("x.spec.replicas + 'a'",
    "no such overload"),
    ("{'a': 1}['b']", "no such key: b"), ("optional.none().value()", "optional.none() dereference"), ("x.spec.name.nope",
    "no such overload"),
    ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'), ("self.l.all(i, x.nope)", "no such key: nope"), ("x.nope && true",
    "no such key"),
    ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
])  # fmt: skip
def test_evaluation_fails_in_the_words_of_cel_go(source: str, message: str) -> None:
    with pytest.raises(CelError) as caught:
        ENVIRONMENT.compile(source).evaluate(VALUES)
    assert message in str(caught.value)


def test_only_mutations_may_escape_keys_for_patches() -> None:
    with pytest.raises(CompileError, match="undeclared reference to 'jsonpatch'"):
        ENVIRONMENT.compile("jsonpatch.escapeKey('a/b') == 'a~1b'")


def test_only_expressions_about_devices_may_bind_variables() -> None:
    source = "cel.bind(q, self.a * 2, q + q) == 12"
    assert Environment({"self": SELF}, binds=True).compile(source).evaluate(VALUES)[0] is True
    with pytest.raises(CompileError, match="undeclared reference to 'cel'"):
        ENVIRONMENT.compile(source)


def test_evaluation_ends_when_it_costs_too_much() -> None:
    program = ENVIRONMENT.compile("x.items.all(a, x.items.all(b, x.items.all(c, a + b + c != 'z')))")
    with pytest.raises(CostExceeded, match="actual cost limit exceeded"):
        program.evaluate({"x": {"items": ["a"] * 200}})


def test_authorizer_is_asked_with_what_the_calls_said() -> None:
    asked: list[dict[str, Any]] = []

    def decide(attributes: dict[str, Any]) -> tuple[bool, str, str]:
        asked.append(attributes)
        return attributes["verb"] == "get", "because", ""

    environment = Environment({"authorizer": opaque("kubernetes.authorization.Authorizer")})
    resource = "authorizer.group('apps').resource('deployments').namespace('n')"
    source = f"{resource}.check('get').allowed() && !authorizer.path('/x').check('put').allowed()"
    assert environment.compile(source).evaluate({"authorizer": Authorizer(decide)})[0] is True
    assert asked == [{"group": "apps", "resource": "deployments", "namespace": "n", "verb": "get"}, {"path": "/x", "verb": "put"}]


def test_the_server_starts_without_loading_cel() -> None:
    code = (
        "import sys, kubecosm.services.apiserver.app; "
        "sys.exit(any(name.startswith('kubecosm.cel') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Label and field selectors: the query grammar with Kubernetes' own error texts, LabelSelector objects, and fast matching.

Imitates k8s.io/apimachinery/pkg/labels and pkg/fields. A selector is parsed once and compiled to a closure over a labels dict.
Which fields of a kind may be selected is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import orjson

from kubecosm.api import validation

Labels = Mapping[str, str]
Match = Callable[[Labels], bool]

IN, NOT_IN, EXISTS, NOT_EXISTS = "in", "notin", "exists", "!"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "gt", "lt"
_BINARY_OPERATORS = "in, notin, =, ==, !=, gt, lt"

CACHE_SIZE = 1024


class SelectorError(ValueError):
    """The selector is malformed; the message is the one Kubernetes gives (reason BadRequest)."""


class Requirement(NamedTuple):
    """One clause; values are sorted and without repeats."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == NOT_EXISTS:
            return f"!{self.key}"
        joined = ",".join(self.values)
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({joined})"
        return f"{self.key}{ {GREATER: '>', LESS: '<'}.get(self.operator, self.operator) }{joined}"

    def compiled(self) -> Match:
        """A test of this clause alone."""
        key, values = self.key, self.values
        if self.operator in (IN, EQUALS, DOUBLE_EQUALS):
            if len(values) == 1:
                value = values[0]
                return lambda labels: labels.get(key) == value
            accepted = frozenset(values)
            return lambda labels: labels.get(key) in accepted
        if self.operator in (NOT_IN, NOT_EQUALS):
            refused = frozenset(values)
            return lambda labels: labels.get(key) not in refused
        if self.operator == EXISTS:
            return lambda labels: key in labels
        if self.operator == NOT_EXISTS:
            return lambda labels: key not in labels
        return _compare(key, int(values[0]), greater=self.operator == GREATER)


@dataclass(frozen=True)
class LabelSelector:
    """All requirements must hold. Without any it matches everything; `nothing` matches nothing at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @cached_property
    def matches(self) -> Match:
        """The compiled test: `selector.matches(labels)`."""
        if self.nothing:
            return lambda labels: False
        return _all_of([requirement.compiled() for requirement in self.requirements])

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.nothing

    def exact_value(self, key: str) -> str | None:
        """The single value that label `key` must have, if the selector demands one."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in (EQUALS, DOUBLE_EQUALS, IN) and len(requirement.values) == 1:
                return requirement.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


@lru_cache(maxsize=CACHE_SIZE)
def parse_labels(text: str) -> LabelSelector:
    """Parse a `labelSelector` query such as `app=web,tier in (a,b),!old`; SelectorError if malformed."""
    return LabelSelector(tuple(sorted(_Parser(text).requirements(), key=lambda requirement: requirement.key))) if text else EVERYTHING


_MATCH_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS}


def from_label_selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A LabelSelector object (matchLabels, matchExpressions): none selects nothing, an empty one everything.

    SelectorError if an expression is invalid (metav1.LabelSelectorAsSelector).
    """
    if selector is None:
        return NOTHING
    requirements = [new_requirement(key, EQUALS, [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = _MATCH_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f"{_quote(expression.get('operator', ''))} is not a valid label selector operator")
        requirements.append(new_requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def from_labels(labels: Labels | None) -> LabelSelector:
    """A selector that demands exactly these labels, as in a Service's spec.selector; none or empty selects everything."""
    return LabelSelector(tuple(Requirement(key, EQUALS, (labels[key],)) for key in sorted(labels or ()))) if labels else EVERYTHING


def new_requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    """A checked clause; SelectorError with the words of labels.NewRequirement."""
    chosen = tuple(sorted(set(values)))
    errors = [f"key: Invalid value: {_quote(key)}: {'; '.join(found)}"] if (found := validation.qualified_name(key)) else []
    printed = orjson.dumps(list(chosen)).decode()
    if operator in (IN, NOT_IN) and not chosen:
        errors.append("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS) and len(chosen) != 1:
        errors.append(f"values: Invalid value: {printed}: exact-match compatibility requires one single value")
    elif operator in (EXISTS, NOT_EXISTS) and chosen:
        errors.append(f"values: Invalid value: {printed}: values set must be empty for exists and does not exist")
    elif operator in (GREATER, LESS):
        errors += _integer_errors(chosen, printed)
    for index, value in enumerate(chosen):
        if found := validation.label_value(value):
            errors.append(f"values[{index}][{key}]: Invalid value: {_quote(value)}: {'; '.join(found)}")
    if errors:
        raise SelectorError(errors[0] if len(errors) == 1 else f"[{', '.join(dict.fromkeys(errors))}]")
    return Requirement(key, operator, chosen)


def _integer_errors(values: tuple[str, ...], printed: str) -> list[str]:
    errors = []
    if len(values) != 1:
        errors.append(f"values: Invalid value: {printed}: for 'Gt', 'Lt' operators, exactly one value is required")
    for index, value in enumerate(values):
        if _int64(value) is None:
            why = "for 'Gt', 'Lt' operators, the value must be an integer"
            errors.append(f"values[{index}]: Invalid value: {_quote(value)}: {why}")
    return errors


def _compare(key: str, bound: int, *, greater: bool) -> Match:
    def test(labels: Labels) -> bool:
        number = _int64(labels.get(key, ""))
        return number is not None and (number > bound if greater else number < bound)

    return test


def _all_of(tests: list[Match]) -> Match:
    if not tests:
        return lambda labels: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda labels: first(labels) and second(labels)
    return lambda labels: all(test(labels) for test in tests)


def _int64(text: str) -> int | None:
    """strconv.ParseInt(text, 10, 64)."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text, re.ASCII):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _quote(text: str) -> str:
    """Go's %q for ordinary text."""
    return orjson.dumps(text).decode()


# ---- grammar

_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<symbol>[=!(),><]+)|(?P<word>[^ \t\r\n=!(),><]+))")
_SYMBOLS = {")", ",", "!", "==", "=", ">", "<", "!=", "("}
_END, _WORD = "end", "word"


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, literal) pairs; the kind of a symbol or of the words `in`, `notin` is itself. A zero byte ends the text as in Go."""
    text = text.partition("\0")[0].rstrip(" \t\r\n")
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, "every character is space, symbol or word"
        position = match.end()
        if word := match["word"]:
            tokens.append((word if word in (IN, NOT_IN) else _WORD, word))
            continue
        symbols = match["symbol"]
        while symbols:
            size = 2 if symbols[:2] in _SYMBOLS else 1
            tokens.append((symbols[:size], symbols[:size]))
            symbols = symbols[size:]
    tokens.append((_END, ""))
    return tokens


_OPERATORS = {IN: IN, NOT_IN: NOT_IN, "=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}


class _Parser:
    """Recursive descent over the tokens; where Go reads `in` and `notin` as values, so does this."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0

    def _peek(self) -> tuple[str, str]:
        kind, literal = self._tokens[min(self._position, len(self._tokens) - 1)]
        return (_WORD if kind in (IN, NOT_IN) else kind), literal

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._position += 1
        return token

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            kind, literal = self._peek()
            if kind == _END:
                return found
            if kind not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            kind, literal = self._take()
            if kind == _END:
                return found
            if kind != ",":
                raise SelectorError(f"found '{literal}', expected: ',' or 'end of string'")
            kind, literal = self._peek()
            if kind not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        kind, key = self._take()
        negated = kind == "!"
        if negated:
            kind, key = self._take()
        if kind != _WORD:
            raise SelectorError(f"found '{key}', expected: identifier")
        if errors := validation.qualified_name(key):
            raise SelectorError(f"<nil>: Invalid value: {_quote(key)}: {'; '.join(errors)}")
        if negated:
            return new_requirement(key, NOT_EXISTS, ())
        if self._peek()[0] in (_END, ","):
            return new_requirement(key, EXISTS, ())
        operator = self._operator()
        return new_requirement(key, operator, self._set() if operator in (IN, NOT_IN) else self._exact())

    def _operator(self) -> str:
        kind, literal = self._tokens[self._position]
        self._position += 1
        if kind not in _OPERATORS:
            raise SelectorError(f"found '{literal}', expected: {_BINARY_OPERATORS}")
        return _OPERATORS[kind]

    def _exact(self) -> list[str]:
        if self._peek()[0] in (_END, ","):
            return [""]
        kind, literal = self._take()
        if kind != _WORD:
            raise SelectorError(f"found '{literal}', expected: identifier")
        return [literal]

    def _set(self) -> set[str]:
        kind, literal = self._take()
        if kind != "(":
            raise SelectorError(f"found '{literal}' expected: '('")
        kind, literal = self._peek()
        if kind == ")":
            self._take()
            return {""}
        if kind not in (_WORD, ","):
            raise SelectorError(f"found '{literal}', expected: ',', ')' or identifier")
        values = self._identifiers()
        if self._take()[0] != ")":
            raise SelectorError(f"found '{literal}', expected: ')'")
        return values

    def _identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            kind, literal = self._take()
            following, next_literal = self._peek()
            if kind == _WORD:
                values.add(literal)
                if following == ")":
                    return values
                if following != ",":
                    raise SelectorError(f"found '{next_literal}', expected: ',' or ')'")
            elif kind == ",":
                if not values:
                    values.add("")
                if following == ")":
                    values.add("")
                    return values
                if following == ",":
                    self._take()
                    values.add("")
            else:
                raise SelectorError(f"found '{literal}', expected: ',', or identifier")


# ---- field selectors


class FieldRequirement(NamedTuple):
    """`field = value`, or `field != value` when negated."""

    field: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{_escape(self.value)}"


@dataclass(frozen=True)
class FieldSelector:
    """All requirements must hold; a field that an object lacks counts as empty text."""

    requirements: tuple[FieldRequirement, ...] = ()

    @cached_property
    def matches(self) -> Match:
        """The compiled test over a dict of selectable fields."""
        return _all_of([_field_test(requirement) for requirement in self.requirements])

    @property
    def is_everything(self) -> bool:
        return not self.requirements

    def exact_value(self, field: str) -> str | None:
        """The value that `field` must have, if the selector demands one."""
        return next((r.value for r in self.requirements if r.field == field and not r.negated), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


ALL_FIELDS = FieldSelector()
_TERM = re.compile(r"((?:[^\\,]|\\.)*?)(!=|==|=)(.*)\Z", re.DOTALL)


@lru_cache(maxsize=CACHE_SIZE)
def parse_fields(text: str) -> FieldSelector:
    """Parse a `fieldSelector` query such as `spec.nodeName=a,status.phase!=Failed`; SelectorError if malformed."""
    requirements = []
    for term in sorted(_split_terms(text)):
        match = _TERM.match(term)
        if match is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        requirements.append(FieldRequirement(match[1], _unescape(match[3]), match[2] == "!="))
    return FieldSelector(tuple(requirements)) if requirements else ALL_FIELDS


def _field_test(requirement: FieldRequirement) -> Match:
    field, value, negated = requirement
    if negated:
        return lambda fields: fields.get(field, "") != value
    return lambda fields: fields.get(field, "") == value


def _split_terms(text: str) -> list[str]:
    return [term for term in re.findall(r"(?:[^\\,]|\\.|\\\Z)+", text, re.DOTALL) if term]


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)


def _unescape(value: str) -> str:
    if not re.search(r"[\\,=]", value):
        return value

    def plain(match: re.Match[str]) -> str:
        sequence = match[0]
        if len(sequence) == 2 and sequence[1] in "\\,=":
            return sequence[1]
        if sequence[0] == "\\":
            raise SelectorError(f"invalid field selector: invalid escape sequence: {sequence}")
        raise SelectorError(f"invalid field selector: unescaped character in value: {ord(sequence)}")

    return re.sub(r"\\.|\\\Z|[,=]", plain, value, flags=re.DOTALL)

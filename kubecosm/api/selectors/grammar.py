"""The grammar of label selector queries: `app=web,tier in (a,b),!old`."""

from __future__ import annotations

import re
from functools import lru_cache

from kubecosm.api import validation
from kubecosm.api.selectors.labels import (
    BINARY_OPERATORS,
    DOUBLE_EQUALS,
    EQUALS,
    EVERYTHING,
    EXISTS,
    GREATER,
    IN,
    LESS,
    NOT_EQUALS,
    NOT_EXISTS,
    NOT_IN,
    LabelSelector,
    Requirement,
    new_requirement,
    quote,
)
from kubecosm.api.selectors.matching import CACHE_SIZE, SelectorError


@lru_cache(maxsize=CACHE_SIZE)
def parse_labels(text: str) -> LabelSelector:
    """Parse a `labelSelector` query such as `app=web,tier in (a,b),!old`; SelectorError if malformed."""
    return LabelSelector(tuple(sorted(_Parser(text).requirements(), key=lambda requirement: requirement.key))) if text else EVERYTHING


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
            raise SelectorError(f"<nil>: Invalid value: {quote(key)}: {'; '.join(errors)}")
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
            raise SelectorError(f"found '{literal}', expected: {BINARY_OPERATORS}")
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

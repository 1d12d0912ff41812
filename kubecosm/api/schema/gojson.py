"""Go's JSON syntax errors, and a parse that forgets nothing: key order, duplicate keys and number texts.

For bodies that are not plainly right. Imitates the scanner of encoding/json. Left out: byte offsets, which Kubernetes does not show.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_END = "unexpected end of JSON input"
DEPTH_MAX = 10000
"""encoding/json's limit of nesting."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written: every key, in order, repeats included."""


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()

    def plain(self) -> int | float:
        """An int where it fits 64 bits, else a float."""
        if len(self) > 20 or not re.fullmatch(r"-?[0-9]+", self, re.ASCII):
            return float(self)
        number = int(self)
        return number if -(2**63) <= number < 2**64 else float(self)


def parse(body: bytes) -> Any:
    """The document as Pairs, lists, str, Number, bool and None; SyntaxProblem in Go's words if it is not JSON."""
    text = body.decode("utf-8", "replace")
    problem = syntax_problem(text)
    if problem:
        raise SyntaxProblem(problem)
    node = json.loads(text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)
    return _mended(node) if _SURROGATE.search(text) else node


def _mended(node: Any) -> Any:
    """The node with halves of surrogate pairs replaced, as Go does; UTF-8 cannot hold them."""
    if isinstance(node, Number):
        return node
    if isinstance(node, str):
        return node.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(node, Pairs):
        return Pairs([(_mended(key), _mended(value)) for key, value in node])
    return [_mended(value) for value in node] if isinstance(node, list) else node


def plain(node: Any) -> Any:
    """The ordinary Python value of a parsed node; the last of repeated keys wins."""
    if isinstance(node, Pairs):
        return {key: plain(value) for key, value in node}
    if isinstance(node, Number):
        return node.plain()
    if isinstance(node, list):
        return [plain(value) for value in node]
    return node


def repeats(node: Any, path: str = "") -> list[str]:
    """The paths of keys that an object has twice, in order."""
    found: list[str] = []
    if isinstance(node, Pairs):
        seen: set[str] = set()
        for key, value in node:
            below = f"{path}.{key}" if path else key
            if key in seen and below not in found:
                found.append(below)
            seen.add(key)
            found += repeats(value, below)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            found += repeats(value, f"{path}[{index}]")
    return found


class SyntaxProblem(ValueError):
    """The body is not JSON; the message is encoding/json's."""


def syntax_problem(text: str) -> str:
    """encoding/json's complaint about a text, or empty if it is one JSON value."""
    try:
        scanner = _Scanner(text)
        scanner.value(0)
        scanner.space()
        if scanner.at < len(text):
            scanner.fail("after top-level value")
    except SyntaxProblem as problem:
        return str(problem)
    return ""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, context: str, at: int | None = None) -> NoReturn:
        where = self.at if at is None else at
        if where >= len(self.text):
            raise SyntaxProblem(_END)
        raise SyntaxProblem(f"invalid character {_quote_char(self.text[where])} {context}")

    def space(self) -> str:
        """Skip white space; the next character, or empty at the end."""
        match = _SPACE.match(self.text, self.at)
        assert match is not None, "the pattern matches the empty text"
        self.at = match.end()
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> None:
        if depth > min(DEPTH_MAX, 900):
            raise SyntaxProblem("exceeded max depth")
        char = self.space()
        if char == "{":
            self._object(depth)
        elif char == "[":
            self._array(depth)
        elif char == '"':
            self._string()
        elif char in ("t", "f", "n"):
            self._literal({"t": "true", "f": "false", "n": "null"}[char])
        elif char and (char == "-" or char in "0123456789"):
            self._number()
        else:
            self.fail("looking for beginning of value")

    def _object(self, depth: int) -> None:
        self.at += 1
        if self.space() == "}":
            self.at += 1
            return
        while True:
            if self.space() != '"':
                self.fail("looking for beginning of object key string")
            self._string()
            if self.space() != ":":
                self.fail("after object key")
            self.at += 1
            self.value(depth + 1)
            char = self.space()
            self.at += 1
            if char == "}":
                return
            if char != ",":
                self.fail("after object key:value pair", self.at - 1)

    def _array(self, depth: int) -> None:
        self.at += 1
        if self.space() == "]":
            self.at += 1
            return
        while True:
            self.value(depth + 1)
            char = self.space()
            self.at += 1
            if char == "]":
                return
            if char != ",":
                self.fail("after array element", self.at - 1)

    def _literal(self, word: str) -> None:
        for index, char in enumerate(word):
            if self.text[self.at + index : self.at + index + 1] != char:
                self.fail(f"in literal {word} (expecting {_quote_char(char)})", self.at + index)
        self.at += len(word)

    def _number(self) -> None:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            self.fail("in numeric literal", self.at + 1)
        self.at = match.end()
        following = self.text[self.at : self.at + 1]
        if following == "." and "." not in match[0] and "e" not in match[0].lower():
            self.fail("after decimal point in numeric literal", self.at + 1)
        if following and following in "eE" and "e" not in match[0].lower():
            signed = self.text[self.at + 1 : self.at + 2] in ("+", "-")
            self.fail("in exponent of numeric literal", self.at + 1 + signed)

    def _string(self) -> None:
        match = _STRING.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return
        at = self.at + 1
        while at < len(self.text):
            char = self.text[at]
            if char < " ":
                self.fail("in string literal", at)
            if char == "\\":
                at += 1
                if self.text[at : at + 1] == "u":
                    for _ in range(4):
                        at += 1
                        if not re.match("[0-9a-fA-F]", self.text[at : at + 1]):
                            self.fail("in \\u hexadecimal character escape", at)
                elif self.text[at : at + 1] not in tuple('"\\/bfnrt'):
                    self.fail("in string escape code", at)
            at += 1
        raise SyntaxProblem(_END)


def _quote_char(char: str) -> str:
    if char == "'":
        return r"'\''"
    if char == '"':
        return "'\"'"
    escapes = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\0": r"\x00", "\\": "\\\\"}
    shown = escapes.get(char) or (char if char.isprintable() or ord(char) > 127 else f"\\x{ord(char):02x}")
    return f"'{shown}'"

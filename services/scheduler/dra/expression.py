"""Device selectors: the part of CEL that selects devices, parsed once per expression and evaluated per device.

Knows literals, lists, `device` with its fields, comparison, arithmetic, logic (an error on one side of `&&` and `||` does not matter if
the other side decides), `in`, `?:`, `has`, `exists`, `all`, `cel.bind`, and the string, quantity and semver functions of `values.py`.
Left out: maps, comprehensions that make lists, timestamps, byte strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from .values import CelError, call, index, operate, same, select

EXPRESSIONS_MAX = 1024
DEPTH_MAX = 64
Scope = Mapping[str, Any]
Node = Callable[[Scope], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?u?)|(?P<string>r?"(?:[^"\\\n]|\\.)*"|r?'(?:[^'\\\n]|\\.)*')|(?P<name>[A-Za-z_]\w*)|"""
    r"""(?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]]))""",
)
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
"""Operators from the loosest to the tightest, below || and &&."""


@lru_cache(maxsize=EXPRESSIONS_MAX)
def compile_expression(text: str) -> Node:
    """A function of the variables; CelError if the text is not understood."""
    parser = _Parser(text)
    node = parser.conditional(0)
    parser.expect("")
    return node


class _Parser:
    """Recursive descent; every method answers a node."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokenize(text)
        self._position = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._position]

    def _take(self, *operators: str) -> str:
        """The next token if it is one of these operators (or the word `in`), else nothing."""
        kind, text = self._peek()
        if text in operators and kind in ("operator", "name"):
            self._position += 1
            return text
        return ""

    def expect(self, operator: str) -> None:
        kind, text = self._peek()
        if (kind, text) != ("operator" if operator else "end", operator):
            raise CelError(f"Syntax error: unexpected {text or 'end'!r}")
        self._position += 1

    def conditional(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise CelError("Syntax error: expression is nested too deeply")
        condition = self._either(depth)
        if not self._take("?"):
            return condition
        yes = self._either(depth + 1)
        self.expect(":")
        no = self.conditional(depth + 1)
        return lambda scope: yes(scope) if _boolean(condition(scope)) else no(scope)

    def _either(self, depth: int) -> Node:
        left = self._both(depth)
        while self._take("||"):
            left = _logic(left, self._both(depth), decided_by=True)
        return left

    def _both(self, depth: int) -> Node:
        left = self._level(0, depth)
        while self._take("&&"):
            left = _logic(left, self._level(0, depth), decided_by=False)
        return left

    def _level(self, level: int, depth: int) -> Node:
        if level == len(_LEVELS):
            return self._unary(depth)
        left = self._level(level + 1, depth)
        while operator := self._take(*_LEVELS[level]):
            left = _binary(operator, left, self._level(level + 1, depth))
        return left

    def _unary(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise CelError("Syntax error: expression is nested too deeply")
        if self._take("!"):
            inner = self._unary(depth + 1)
            return lambda scope: not _boolean(inner(scope))
        if self._take("-"):
            inner = self._unary(depth + 1)
            return lambda scope: operate("-", 0, inner(scope))
        return self._postfix(self._primary(depth), depth)

    def _postfix(self, node: Node, depth: int) -> Node:
        while True:
            if self._take("["):
                node = _index(node, self.conditional(depth + 1))
                self.expect("]")
            elif self._take("."):
                name = self._name()
                node = self._method(node, name, depth) if self._take("(") else _select(node, name)
            else:
                return node

    def _method(self, target: Node, name: str, depth: int) -> Node:
        if name in ("exists", "all"):
            return self._quantifier(target, name, depth)
        if name == "bind":
            return self._bind(depth)
        arguments = self._arguments(depth)
        return lambda scope: call(name, target(scope), [argument(scope) for argument in arguments])

    def _quantifier(self, target: Node, name: str, depth: int) -> Node:
        """list.exists(x, condition) and list.all(x, condition)."""
        variable = self._name()
        self.expect(",")
        condition = self.conditional(depth + 1)
        self.expect(")")
        wanted = name == "exists"

        def run(scope: Scope) -> bool:
            found = (_boolean(condition({**scope, variable: item})) is wanted for item in target(scope))
            return any(found) if wanted else not any(found)

        return run

    def _bind(self, depth: int) -> Node:
        """cel.bind(name, value, expression)."""
        variable = self._name()
        self.expect(",")
        value = self.conditional(depth + 1)
        self.expect(",")
        body = self.conditional(depth + 1)
        self.expect(")")
        return lambda scope: body({**scope, variable: value(scope)})

    def _arguments(self, depth: int) -> list[Node]:
        """After the opening parenthesis."""
        found: list[Node] = []
        while not self._take(")"):
            if found:
                self.expect(",")
            found.append(self.conditional(depth + 1))
        return found

    def _name(self) -> str:
        kind, text = self._peek()
        if kind != "name":
            raise CelError(f"Syntax error: unexpected {text or 'end'!r}")
        self._position += 1
        return text

    def _primary(self, depth: int) -> Node:
        kind, text = self._peek()
        self._position += 1
        if kind == "number":
            number = float(text) if "." in text else int(text.rstrip("u"))
            return lambda scope: number
        if kind == "string":
            literal = _unquote(text)
            return lambda scope: literal
        if kind == "name":
            return self._named(text, depth)
        if text == "(":
            node = self.conditional(depth + 1)
            self.expect(")")
            return node
        if text == "[":
            return self._list(depth)
        raise CelError(f"Syntax error: unexpected {text or 'end'!r}")

    def _list(self, depth: int) -> Node:
        items: list[Node] = []
        while not self._take("]"):
            if items:
                self.expect(",")
            items.append(self.conditional(depth + 1))
        return lambda scope: [item(scope) for item in items]

    def _named(self, name: str, depth: int) -> Node:
        if name in _WORDS:
            value = _WORDS[name]
            return lambda scope: value
        if not self._take("("):
            return _variable(name)
        arguments = self._arguments(depth)
        if name == "has":
            if len(arguments) != 1:
                raise CelError("invalid argument to has() macro")
            return lambda scope: _has(arguments[0], scope)
        return lambda scope: call(name, None, [argument(scope) for argument in arguments])


def _tokenize(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise CelError(f"Syntax error: token recognition error at: {text[position:position + 10]!r}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return [*tokens, ("end", "")]


def _unquote(text: str) -> str:
    if text.startswith("r"):
        return text[2:-1]
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1])


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError("no such overload")
    return value


def _variable(name: str) -> Node:
    def read(scope: Scope) -> Any:
        if name in scope:
            return scope[name]
        if name == "cel":
            return None
        raise CelError(f"undeclared reference to '{name}'")

    return read


def _select(node: Node, name: str) -> Node:
    return lambda scope: select(node(scope), name)


def _index(node: Node, key: Node) -> Node:
    return lambda scope: index(node(scope), key(scope))


def _has(argument: Node, scope: Scope) -> bool:
    try:
        argument(scope)
    except CelError as error:
        if str(error).startswith("no such key"):
            return False
        raise
    return True


def _logic(left: Node, right: Node, *, decided_by: bool) -> Node:
    """|| is decided by true, && by false; an error matters only if the other side does not decide."""

    def run(scope: Scope) -> bool:
        try:
            if _boolean(left(scope)) is decided_by:
                return decided_by
        except CelError:
            if _boolean(right(scope)) is decided_by:
                return decided_by
            raise
        return _boolean(right(scope))

    return run


def _binary(operator: str, left: Node, right: Node) -> Node:
    if operator == "in":
        return lambda scope: _contains(right(scope), left(scope))
    return lambda scope: operate(operator, left(scope), right(scope))


def _contains(container: Any, item: Any) -> bool:
    if isinstance(container, Mapping):
        return item in container
    if isinstance(container, list):
        return any(same(item, one) for one in container)
    raise CelError("no such overload")

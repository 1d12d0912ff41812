"""Tokens → syntax tree, macros replaced by what they stand for. Imitates cel-go's parser, in the words of its messages."""

from __future__ import annotations

from typing import Any

from .issues import CompileError, Issue
from .lexer import RESERVED, Token, tokens_of
from .macros import MacroError, expand
from .nodes import Call, Ident, ListNode, Literal, MapNode, Node, Select, Struct, qualified_name
from .values import INT_MAX, INT_MIN, UINT_MAX, Uint

NESTING_MAX = 50
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_START = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
_OPERATORS = {**{symbol: f"_{symbol}_" for symbol in (*_RELATIONS, "+", "-", "*", "/", "%", "&&", "||")}, "in": "@in"}


def parse(source: str, *, binds: bool = False) -> Node:
    """The tree of an expression; `binds`: it may use cel.bind. Raises CompileError with all that is wrong as far as it can be told."""
    issues: list[Issue] = []
    tokens = tokens_of(source, issues)
    parser = _Parser(tokens, issues, binds)
    try:
        tree = parser.whole()
    except _SyntaxError:
        tree = None
    if issues or tree is None:
        raise CompileError(source, issues)
    return tree


class _SyntaxError(Exception):
    """Nothing sensible can be read from here on."""


class _Parser:
    def __init__(self, tokens: list[Token], issues: list[Issue], binds: bool) -> None:
        self._tokens, self._issues, self._binds = tokens, issues, binds
        self._at = 0
        self._depth = 0

    # ---- helpers

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _taken(self, *kinds: str) -> Token | None:
        return self._take() if self._next.kind in kinds else None

    def _expect(self, kind: str, expecting: str = "") -> Token:
        if self._next.kind != kind:
            self._fail(expecting or f"'{kind}'")
        return self._take()

    def _fail(self, expecting: str) -> None:
        token = self._next
        self._issues.append(Issue(token.position, f"Syntax error: mismatched input '{token.text}' expecting {expecting}"))
        raise _SyntaxError

    # ---- the grammar

    def whole(self) -> Node:
        tree = self._expression()
        if self._next.kind != "eof":
            self._fail("<EOF>")
        return tree

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > NESTING_MAX:
            self._issues.append(Issue(self._next.position, f"expression recursion limit exceeded: {NESTING_MAX}"))
            raise _SyntaxError
        condition = self._either()
        if mark := self._taken("?"):
            first = self._either()
            self._expect(":")
            condition = Call(mark.position, "_?_:_", None, [condition, first, self._expression()])
        self._depth -= 1
        return condition

    def _either(self) -> Node:
        left = self._both()
        while mark := self._taken("||"):
            left = Call(mark.position, "_||_", None, [left, self._both()])
        return left

    def _both(self) -> Node:
        left = self._relation()
        while mark := self._taken("&&"):
            left = Call(mark.position, "_&&_", None, [left, self._relation()])
        return left

    def _relation(self) -> Node:
        left = self._sum()
        while mark := self._taken(*_RELATIONS):
            left = Call(mark.position, _OPERATORS[mark.kind], None, [left, self._sum()])
        return left

    def _sum(self) -> Node:
        left = self._product()
        while mark := self._taken("+", "-"):
            left = Call(mark.position, _OPERATORS[mark.kind], None, [left, self._product()])
        return left

    def _product(self) -> Node:
        left = self._unary()
        while mark := self._taken("*", "/", "%"):
            left = Call(mark.position, _OPERATORS[mark.kind], None, [left, self._unary()])
        return left

    def _unary(self) -> Node:
        marks: list[Token] = []
        while self._next.kind in ("!", "-") and (not marks or self._next.kind == marks[0].kind):
            marks.append(self._take())
        if not marks:
            return self._member()
        if marks[0].kind == "-" and len(marks) == 1 and self._is_number():
            token = self._take()
            return self._rest_of_member(self._number(Token("literal", token.text, marks[0].position, -token.value)))
        inner = self._unary() if self._next.kind in ("!", "-") else self._member()
        if len(marks) % 2 == 0:
            return inner
        return Call(marks[0].position, "!_" if marks[0].kind == "!" else "-_", None, [inner])

    def _is_number(self) -> bool:
        token = self._next
        return token.kind == "literal" and type(token.value) in (int, float)

    def _number(self, token: Token) -> Node:
        value = token.value
        if type(value) is int and not INT_MIN <= value <= INT_MAX:
            self._issues.append(Issue(token.position, "invalid int literal"))
        elif type(value) is Uint and value > UINT_MAX:
            self._issues.append(Issue(token.position, "invalid uint literal"))
        return Literal(token.position, value)

    def _member(self) -> Node:
        return self._rest_of_member(self._primary())

    def _rest_of_member(self, node: Node) -> Node:
        while True:
            if mark := self._taken("."):
                node = self._after_dot(node, mark)
            elif mark := self._taken("["):
                is_optional = bool(self._taken("?"))
                index = self._expression()
                self._expect("]")
                node = Call(mark.position, "_[?_]" if is_optional else "_[_]", None, [node, index])
            elif self._next.kind == "{" and (name := qualified_name(node)):
                node = self._struct(name, self._take())
            else:
                return node

    def _after_dot(self, node: Node, mark: Token) -> Node:
        is_optional = bool(self._taken("?"))
        if self._next.kind not in ("name", "quoted"):
            self._fail("IDENTIFIER")
        name = self._take().text
        if is_optional:
            return Call(mark.position, "_?._", None, [node, Literal(mark.position, name)])
        if opening := self._taken("("):
            return self._called(opening.position, name, node, self._arguments(")"))
        return Select(mark.position, node, name)

    def _called(self, position: int, name: str, target: Node | None, args: list[Node]) -> Node:
        try:
            expanded = expand(position, name, target, args, binds=self._binds)
        except MacroError as error:
            self._issues.append(Issue(error.position, error.message))
            expanded = None
        return Call(position, name, target, args) if expanded is None else expanded

    def _arguments(self, closing: str) -> list[Node]:
        args: list[Node] = []
        while self._next.kind != closing:
            if self._next.kind == "eof" and not args:
                self._fail(_START.replace("'(', ", f"'(', '{closing}', "))
            args.append(self._expression())
            if not self._taken(","):
                break
        self._expect(closing, f"{{'{closing}', ','}}" if args else "")
        return args

    def _primary(self) -> Node:
        token = self._next
        if token.kind == "literal":
            self._take()
            numeric = isinstance(token.value, int | float) and not isinstance(token.value, bool)
            return self._number(token) if numeric else Literal(token.position, token.value)
        if token.kind == "(":
            self._take()
            inner = self._expression()
            self._expect(")")
            return inner
        if token.kind == "[":
            return self._list(self._take())
        if token.kind == "{":
            return self._map(self._take())
        leading = self._taken(".")
        if self._next.kind != "name":
            self._fail(_START)
        return self._named(self._take(), bool(leading))

    def _named(self, token: Token, absolute: bool) -> Node:
        if token.text in RESERVED:
            self._issues.append(Issue(token.position, f"reserved identifier: {token.text}"))
        if opening := self._taken("("):
            return self._called(opening.position, token.text, None, self._arguments(")"))
        return Ident(token.position, token.text)

    def _list(self, opening: Token) -> Node:
        elements: list[Node] = []
        optionals: set[int] = set()
        while self._next.kind != "]":
            if self._taken("?"):
                optionals.add(len(elements))
            elements.append(self._expression())
            if not self._taken(","):
                break
        self._expect("]", "{']', ','}" if elements else "")
        return ListNode(opening.position, elements, frozenset(optionals))

    def _map(self, opening: Token) -> Node:
        entries: list[tuple[int, Node, Node, bool]] = []
        while self._next.kind != "}":
            is_optional = bool(self._taken("?"))
            key = self._expression()
            colon = self._expect(":")
            entries.append((colon.position, key, self._expression(), is_optional))
            if not self._taken(","):
                break
        self._expect("}", "{'}', ','}" if entries else "")
        return MapNode(opening.position, entries)

    def _struct(self, name: str, opening: Token) -> Node:
        fields: list[tuple[int, str, Node, bool]] = []
        while self._next.kind != "}":
            is_optional = bool(self._taken("?"))
            if self._next.kind not in ("name", "quoted"):
                self._fail("{'}', ',', '?', IDENTIFIER}")
            field: Any = self._take().text
            colon = self._expect(":")
            fields.append((colon.position, field, self._expression(), is_optional))
            if not self._taken(","):
                break
        self._expect("}", "{'}', ','}" if fields else "")
        return Struct(opening.position, name, fields)

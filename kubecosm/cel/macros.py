"""Macros: calls that the parser replaces. Imitates cel-go's parser/macro.go, its optional types and two-variable comprehensions.

The expansions are the original's, step by step, since Kubernetes' costs of expressions count them.
"""

from __future__ import annotations

from collections.abc import Callable

from .nodes import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select

ACCU = "@result"


class MacroError(Exception):
    """A macro is used in a way it cannot be expanded."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position, self.message = position, message


Expansion = Callable[[int, Node, list[Node]], Node]


def expand(position: int, name: str, target: Node | None, args: list[Node], *, binds: bool) -> Node | None:
    """What a call stands for; None if it is no macro. `cel.bind` is one only if `binds`."""
    if target is None:
        return _has(args[0]) if name == "has" and len(args) == 1 else None
    if binds and isinstance(target, Ident) and target.name == "cel" and name == "bind" and len(args) == 3:
        return _bind(position, args)
    found = _MACROS.get((name, len(args)))
    return found(position, target, args) if found else None


def _has(argument: Node) -> Node:
    if not isinstance(argument, Select) or argument.tests:
        raise MacroError(argument.position, "invalid argument to has() macro")
    return Select(argument.position, argument.operand, argument.field, tests=True)


def _bind(position: int, args: list[Node]) -> Node:
    name = _variable(args[0], "cel.bind() variable names must be simple identifiers")
    empty, never = ListNode(position, []), Literal(position, False)
    return Fold(position, empty, "#unused", "", name, args[1], never, Ident(position, name), args[2])


def _variable(node: Node, message: str) -> str:
    if not isinstance(node, Ident):
        raise MacroError(node.position, message)
    if node.name in ("__result__", ACCU):
        raise MacroError(node.position, "iteration variable overwrites accumulator variable")
    return node.name


def _names(args: list[Node], count: int) -> tuple[str, str]:
    """The iteration variables: one, or two that differ."""
    if count == 1:
        return _variable(args[0], "argument must be a simple name"), ""
    first, second = (_variable(args[i], "argument must be a simple name") for i in range(2))
    if first == second:
        raise MacroError(args[1].position, f"duplicate variable name: {first}")
    return first, second


def _quantifier(symbol: str, start: bool, count: int) -> Expansion:
    """`all` and `exists`: they end as soon as the outcome is sure."""

    def expansion(position: int, target: Node, args: list[Node]) -> Node:
        var, var2 = _names(args, count)
        accu = Ident(position, ACCU)
        going: Node = accu if start else Call(position, "!_", None, [accu])
        condition = Call(position, "@not_strictly_false", None, [going])
        step = Call(position, symbol, None, [Ident(position, ACCU), args[count]])
        return Fold(position, target, var, var2, ACCU, Literal(position, start), condition, step, Ident(position, ACCU))

    return expansion


def _exists_one(count: int) -> Expansion:
    def expansion(position: int, target: Node, args: list[Node]) -> Node:
        var, var2 = _names(args, count)
        one = Literal(position, 1)
        more = Call(position, "_+_", None, [Ident(position, ACCU), one])
        step = Call(position, "_?_:_", None, [args[count], more, Ident(position, ACCU)])
        result = Call(position, "_==_", None, [Ident(position, ACCU), Literal(position, 1)])
        return Fold(position, target, var, var2, ACCU, Literal(position, 0), Literal(position, True), step, result)

    return expansion


def _collected(count: int, has_filter: bool) -> Expansion:
    """`map` and `transformList`: a list of what an expression gives for each, or for those that fit."""

    def expansion(position: int, target: Node, args: list[Node]) -> Node:
        var, var2 = _names(args, count)
        step: Node = Call(position, "_+_", None, [Ident(position, ACCU), ListNode(position, [args[-1]])])
        if has_filter:
            step = Call(position, "_?_:_", None, [args[count], step, Ident(position, ACCU)])
        return Fold(position, target, var, var2, ACCU, ListNode(position, []), Literal(position, True), step, Ident(position, ACCU))

    return expansion


def _filter(position: int, target: Node, args: list[Node]) -> Node:
    var, _ = _names(args, 1)
    more = Call(position, "_+_", None, [Ident(position, ACCU), ListNode(position, [args[0]])])
    step = Call(position, "_?_:_", None, [args[1], more, Ident(position, ACCU)])
    return Fold(position, target, var, "", ACCU, ListNode(position, []), Literal(position, True), step, Ident(position, ACCU))


def _map_made(has_filter: bool, whole_entry: bool) -> Expansion:
    """`transformMap` and `transformMapEntry`."""

    def expansion(position: int, target: Node, args: list[Node]) -> Node:
        var, var2 = _names(args, 2)
        added = [args[-1]] if whole_entry else [Ident(position, var), args[-1]]
        step: Node = Call(position, "cel.@mapInsert", None, [Ident(position, ACCU), *added])
        if has_filter:
            step = Call(position, "_?_:_", None, [args[2], step, Ident(position, ACCU)])
        return Fold(position, target, var, var2, ACCU, MapNode(position, []), Literal(position, True), step, Ident(position, ACCU))

    return expansion


def _optional(is_flat: bool) -> Expansion:
    """`optMap` and `optFlatMap`: an expression about the value of an optional, if it has one."""

    def expansion(position: int, target: Node, args: list[Node]) -> Node:
        word = "optFlatMap()" if is_flat else "optMap()"
        var = _variable(args[0], f"{word} variable name must be a simple identifier")
        empty, never = ListNode(position, []), Literal(position, False)
        value = Call(position, "value", target, [])
        inner: Node = Fold(position, empty, "#unused", "", var, value, never, Ident(position, var), args[1])
        if not is_flat:
            inner = Call(position, "optional.of", None, [inner])
        return Call(position, "_?_:_", None, [Call(position, "hasValue", target, []), inner, Call(position, "optional.none", None, [])])

    return expansion


_MACROS: dict[tuple[str, int], Expansion] = {
    ("all", 2): _quantifier("_&&_", True, 1), ("all", 3): _quantifier("_&&_", True, 2),
    ("exists", 2): _quantifier("_||_", False, 1), ("exists", 3): _quantifier("_||_", False, 2),
    ("exists_one", 2): _exists_one(1), ("existsOne", 2): _exists_one(1),
    ("exists_one", 3): _exists_one(2), ("existsOne", 3): _exists_one(2),
    ("map", 2): _collected(1, False), ("map", 3): _collected(1, True), ("filter", 2): _filter,
    ("transformList", 3): _collected(2, False), ("transformList", 4): _collected(2, True),
    ("transformMap", 3): _map_made(False, False), ("transformMap", 4): _map_made(True, False),
    ("transformMapEntry", 3): _map_made(False, True), ("transformMapEntry", 4): _map_made(True, True),
    ("optMap", 2): _optional(False), ("optFlatMap", 2): _optional(True),
}  # fmt: skip

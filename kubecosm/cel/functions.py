"""The table of functions: each overload by its signature, what it does and what a call costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .types import Type, parse_types
from .values import Impl, kind_of, size_of

TRAVERSAL, REGEX_LENGTH = 0.1, 0.25
"""Cost of a character that is looked at, and of a character of a regular expression."""
LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40
"""What making one costs (common.ListCreateBaseCost and its kin)."""
Cost = Callable[[tuple[Any, ...], Any], int]
"""(arguments, result) → what a call has cost."""


class Overload(NamedTuple):
    """`params` begin with the receiver's type if it `is_member`. No `cost` means 1 for each call."""

    id: str
    params: tuple[Type, ...]
    result: Type
    is_member: bool
    impl: Impl
    cost: Cost | None


Functions = dict[str, list[Overload]]


def overload(text: str, impl: Impl, cost: Cost | None = None, id: str = "") -> tuple[str, Overload]:
    """`string.find(string) string` or `url(string) kubernetes.URL` → (name, overload)."""
    head, _, result = text.rpartition(") ")
    before, _, inside = head.partition("(")
    if before.startswith(("list(", "map(", "optional(")) or before in ("list", "map", "optional"):
        end = _closing(head)
        receiver, (before, _, inside) = head[: end + 1], head[end + 2 :].partition("(")
        name, is_member = before, True
        inside = f"{receiver}, {inside}" if inside else receiver
    else:
        receiver, dot, name = before.rpartition(".")
        is_member = bool(dot) and not receiver.startswith("@")
        if is_member:
            inside = f"{receiver}, {inside}" if inside else receiver
    return name, Overload(id or text, tuple(parse_types(inside)), parse_types(result)[0], is_member, impl, cost)


def _closing(text: str) -> int:
    """Where the first opened bracket is closed."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == ")" and not depth:
            return index
    return len(text)


def static(name: str, text: str, impl: Impl, cost: Cost | None = None, id: str = "") -> tuple[str, Overload]:
    """A function of a dotted name or an operator: (`ip.isCanonical`, `(string) bool`, ...)."""
    inside, _, result = text.removeprefix("(").rpartition(") ")
    return name, Overload(id or f"{name}{text}", tuple(parse_types(inside)), parse_types(result)[0], False, impl, cost)


def table(*parts: Iterable[tuple[str, Overload]]) -> Functions:
    """Overloads by the names of their functions, in the order of their declaration."""
    found: Functions = {}
    for part in parts:
        for name, one in part:
            found.setdefault(name, []).append(one)
    return found


def accepts(overload: Overload, args: tuple[Any, ...] | list[Any]) -> bool:
    """Whether an overload can be called with these values."""
    return len(args) == len(overload.params) and all(map(_accepts, overload.params, args))


def _accepts(wanted: Type, value: Any) -> bool:
    kind = wanted.kind
    if kind in ("dyn", "param"):
        return True
    found = kind_of(value)
    return found == (wanted.name if kind == "opaque" else kind) or (kind == "object" and found == "map")


# ---- costs


def traversal(factor: float = 1.0, argument: int = 0) -> Cost:
    """Going over one argument."""

    def cost(args: tuple[Any, ...], result: Any) -> int:
        return math.ceil(size_of(args[argument]) * factor * TRAVERSAL)

    return cost


def of_result(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil(size_of(result) * 2 * TRAVERSAL)


def of_regex(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil((1 + size_of(args[0])) * TRAVERSAL) * math.ceil(size_of(args[1]) * REGEX_LENGTH)


def of_both(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil((size_of(args[0]) + size_of(args[1])) * TRAVERSAL)


def of_shorter(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil(min(size_of(args[0]), size_of(args[1])) * TRAVERSAL)


def of_product(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil(size_of(args[0]) * TRAVERSAL) * math.ceil(size_of(args[1]) * TRAVERSAL)


def of_tree(args: tuple[Any, ...], result: Any) -> int:
    """Going over a value and all that is in it, each text's share rounded down."""
    return _traversed(args[0])


def _traversed(value: Any) -> int:
    if isinstance(value, str | bytes):
        return int(len(value.encode() if isinstance(value, str) else value) * TRAVERSAL)
    if isinstance(value, list):
        return sum(map(_traversed, value))
    if isinstance(value, dict):
        return sum(_traversed(key) + _traversed(item) for key, item in value.items())
    return 1


def fixed(amount: int) -> Cost:
    return lambda args, result: amount

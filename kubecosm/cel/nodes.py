"""The syntax tree of CEL. Nodes know where they stand in the source; the checker adds what it finds out about them."""

from __future__ import annotations

from typing import Any

from .types import DYN, Type


class Node:
    """`position` is the offset of what names the node: an operator, a dot, an opening bracket."""

    __slots__ = ("overloads", "position", "type")

    def __init__(self, position: int) -> None:
        self.position = position
        self.type: Type = DYN
        self.overloads: tuple[str, ...] = ()
        """Ids of the overloads that a checked call may come to, for calls only."""


class Literal(Node):
    __slots__ = ("value",)

    def __init__(self, position: int, value: Any) -> None:
        super().__init__(position)
        self.value = value


class Ident(Node):
    __slots__ = ("name",)

    def __init__(self, position: int, name: str) -> None:
        super().__init__(position)
        self.name = name


class Select(Node):
    """`operand.field`, or `has(operand.field)` with `tests` set; `is_optional` for `operand.?field`."""

    __slots__ = ("field", "is_optional", "operand", "qualified", "tests")

    def __init__(self, position: int, operand: Node, field: str, *, tests: bool = False, is_optional: bool = False) -> None:
        super().__init__(position)
        self.operand, self.field, self.tests, self.is_optional = operand, field, tests, is_optional
        self.qualified = ""
        """The dotted name of a variable, when that is what the checker found this to be."""


class Call(Node):
    __slots__ = ("args", "function", "target")

    def __init__(self, position: int, function: str, target: Node | None, args: list[Node]) -> None:
        super().__init__(position)
        self.function, self.target, self.args = function, target, args

    @property
    def operands(self) -> list[Node]:
        """The target, if there is one, and the arguments."""
        return self.args if self.target is None else [self.target, *self.args]


class ListNode(Node):
    """`optionals` are the indices of elements written `?value`."""

    __slots__ = ("elements", "optionals")

    def __init__(self, position: int, elements: list[Node], optionals: frozenset[int] = frozenset()) -> None:
        super().__init__(position)
        self.elements, self.optionals = elements, optionals


class MapNode(Node):
    """Entries are (position, key, value, is optional)."""

    __slots__ = ("entries",)

    def __init__(self, position: int, entries: list[tuple[int, Node, Node, bool]]) -> None:
        super().__init__(position)
        self.entries = entries


class Struct(Node):
    """`name{field: value}`; fields are (position, name, value, is optional)."""

    __slots__ = ("fields", "name")

    def __init__(self, position: int, name: str, fields: list[tuple[int, str, Node, bool]]) -> None:
        super().__init__(position)
        self.name, self.fields = name, fields


class Fold(Node):
    """What the comprehension macros come to: an accumulator that goes over a range."""

    __slots__ = ("accu", "condition", "init", "range", "result", "step", "var", "var2")

    def __init__(
        self, position: int, over: Node, var: str, var2: str, accu: str, init: Node, condition: Node, step: Node, result: Node
    ) -> None:  # fmt: skip
        super().__init__(position)
        self.range, self.var, self.var2, self.accu = over, var, var2, accu
        self.init, self.condition, self.step, self.result = init, condition, step, result


def qualified_name(node: Node) -> str:
    """`a.b.c` if the node is but names and dots, else empty."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.tests and not node.is_optional:
        prefix = qualified_name(node.operand)
        return f"{prefix}.{node.field}" if prefix else ""
    return ""

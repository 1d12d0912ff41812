"""Environments: what expressions may speak of; and programs: expressions ready to be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from .checker import check
from .functions import Functions
from .interpreter import Frame, Planner
from .issues import CompileError, Issue
from .libraries import kubernetes_functions
from .nodes import Ident, Node, Select
from .parser import NESTING_MAX, parse
from .standard import standard_functions
from .types import Type
from .values import CostExceeded

FOR_PATCHES = ("jsonpatch.escapeKey",)
"""Functions for those expressions alone that make patches."""
PER_CALL_LIMIT = 1_000_000
"""What the evaluation of one expression may cost (apiserver/pkg/apis/cel)."""


@cache
def all_functions() -> Functions:
    """Made once, when the first expression is compiled."""
    return _merged(standard_functions(), kubernetes_functions())


@cache
def _functions_without_patches() -> Functions:
    return {name: overloads for name, overloads in all_functions().items() if name not in FOR_PATCHES}


def _merged(one: Functions, other: Functions) -> Functions:
    return {name: [*one.get(name, ()), *other.get(name, ())] for name in {**one, **other}}


class Program:
    """A compiled expression; `type` is what it gives."""

    def __init__(self, source: str, tree: Node, functions: Functions) -> None:
        self.source, self.tree, self.type = source, tree, tree.type
        self._step = Planner(functions).plan(tree)

    def evaluate(self, variables: Mapping[str, Any], limit: int = PER_CALL_LIMIT) -> tuple[Any, int]:
        """(value, cost). Raises CelError, or CostExceeded beyond the limit."""
        frame = Frame(variables, limit)
        value = self._step(frame)
        if frame.cost > limit:
            raise CostExceeded
        return value, frame.cost

    def mentions(self, name: str) -> bool:
        """Whether a variable is used anywhere."""
        return any(isinstance(node, Ident) and node.name == name for node in walk(self.tree))


class Environment:
    """Variables by their types, the objects that may be constructed (as mutations do), and all functions of Kubernetes.

    `binds`: expressions may use cel.bind, as those about devices may in Kubernetes, and no others.
    """

    def __init__(self, variables: Mapping[str, Type], objects: Mapping[str, Type] | None = None, *, binds: bool = False) -> None:
        self._variables, self._objects, self._binds = variables, objects or {}, binds

    def compile(self, source: str) -> Program:
        """The program of an expression. Raises CompileError."""
        try:
            tree = parse(source, binds=self._binds)
            functions = all_functions() if self._objects else _functions_without_patches()
            check(source, tree, self._variables, functions, self._objects)
            return Program(source, tree, all_functions())
        except RecursionError:  # operators in a chain nest without brackets
            raise CompileError(source, [Issue(0, f"expression recursion limit exceeded: {NESTING_MAX}")]) from None


def walk(node: Node) -> list[Node]:
    """A node and all below it."""
    found: list[Node] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(_children(one))
    return found


def _children(node: Node) -> list[Node]:
    if isinstance(node, Select):
        return [node.operand]
    found: list[Node] = []
    for slot in type(node).__slots__:
        value = getattr(node, slot)
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, list):
            for part in value:
                found.extend(inner for inner in (part if isinstance(part, tuple) else (part,)) if isinstance(inner, Node))
    return found


__all__ = ["CompileError", "Environment", "Program"]

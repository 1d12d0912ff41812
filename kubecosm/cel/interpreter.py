"""Checked trees → closures that evaluate them and count what it costs. Imitates cel-go's interpreter and its runtimecost.go.

Names and selections cost 1, lists 10, maps 30, calls by their table. `has()` is free, as Kubernetes configures it. What a fold costs is
looked at after each round; the rest at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .functions import Functions, Overload, accepts
from .nodes import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from .standard import at_index, at_key
from .values import NONE, CelError, CostExceeded, Fields, Optional, TypeValue

LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40


class Frame:
    """One evaluation: variables, the cost so far, and its limit."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: Mapping[str, Any], limit: int) -> None:
        self.variables = dict(variables)
        self.cost, self.limit = 0, limit


Step = Callable[[Frame], Any]
_ABSENT = object()


class Planner:
    """Makes the closures of one tree."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def plan(self, node: Node) -> Step:
        made: Step = _PLANS[type(node)](self, node)
        return made

    def _literal(self, node: Literal) -> Step:
        value = node.value
        return lambda frame: value

    def _ident(self, node: Ident) -> Step:
        name = node.name

        def step(frame: Frame) -> Any:
            frame.cost += 1
            try:
                value = frame.variables[name]
            except KeyError:
                if name in _TYPES:
                    return TypeValue(_TYPES[name])
                raise CelError(f"no such attribute(s): {name}") from None
            if type(value) is CelError:
                raise value
            return value

        return step

    def _select(self, node: Select) -> Step:
        if node.qualified:
            return self._ident(Ident(node.position, node.qualified))
        operand, name = self.plan(node.operand), node.field
        extra = 1 if isinstance(node.operand, Ident | Select) or _is_index(node.operand) else 2
        if node.tests:

            def test(frame: Frame) -> Any:
                return _has(operand(frame), name)

            return test

        def step(frame: Frame) -> Any:
            value = operand(frame)
            frame.cost += extra
            if type(value) is dict:
                try:
                    return value[name]
                except KeyError:
                    raise CelError(f"no such key: {name}") from None
            return select(value, name)

        return step

    def _call(self, node: Call) -> Step:
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        steps = [self.plan(part) for part in node.operands]
        candidates = self._candidates(node)
        if len(candidates) == 1 and not any(_is_open(part.type) for part in node.operands):
            return _direct(candidates[0], steps)
        return _dispatching(candidates, steps)

    def _candidates(self, node: Call) -> list[Overload]:
        declared = self._functions.get(node.function, [])
        is_member = node.target is not None
        fitting = [one for one in declared if one.is_member == is_member and len(one.params) == len(node.operands)]
        return [one for one in fitting if not node.overloads or one.id in node.overloads]

    def _list(self, node: ListNode) -> Step:
        steps, optionals = [self.plan(part) for part in node.elements], node.optionals
        if not optionals and all(isinstance(part, Literal) for part in node.elements) and steps:
            values = [part.value for part in node.elements if isinstance(part, Literal)]
            return lambda frame: values

        def step(frame: Frame) -> Any:
            frame.cost += LIST_COST
            if not optionals:
                return [part(frame) for part in steps]
            found = []
            for index, part in enumerate(steps):
                value = part(frame)
                if index not in optionals:
                    found.append(value)
                elif value.present:
                    found.append(value.value)
            return found

        return step

    def _map(self, node: MapNode) -> Step:
        entries = [(self.plan(key), self.plan(value), is_optional) for _, key, value, is_optional in node.entries]

        def step(frame: Frame) -> Any:
            frame.cost += MAP_COST
            found: dict[Any, Any] = {}
            for key_of, value_of, is_optional in entries:
                key, value = key_of(frame), value_of(frame)
                if is_optional:
                    if not value.present:
                        continue
                    value = value.value
                if key in found:
                    raise CelError(f"Failed with repeated key: {key}")
                found[key] = value
            return found

        return step

    def _struct(self, node: Struct) -> Step:
        fields = [(name, self.plan(value), is_optional) for _, name, value, is_optional in node.fields]

        def step(frame: Frame) -> Any:
            frame.cost += STRUCT_COST
            found: dict[Any, Any] = {}
            for name, value_of, is_optional in fields:
                value = value_of(frame)
                if not is_optional:
                    found[name] = value
                elif value.present:
                    found[name] = value.value
            return found

        return step

    def _fold(self, node: Fold) -> Step:
        over, init = self.plan(node.range), self.plan(node.init)
        condition, advance, result = self.plan(node.condition), self.plan(node.step), self.plan(node.result)
        accu, var, var2 = node.accu, node.var, node.var2

        def step(frame: Frame) -> Any:
            items = over(frame)
            variables = frame.variables
            before = {name: variables.get(name, _ABSENT) for name in (accu, var, var2) if name}
            variables[accu] = _attempt(init, frame)
            try:
                for key, value in _rounds(items, bool(var2)):
                    variables[var] = key
                    if var2:
                        variables[var2] = value
                    if not condition(frame):
                        break
                    variables[accu] = _attempt(advance, frame)
                    if frame.cost > frame.limit:
                        raise CostExceeded
                return result(frame)
            finally:
                for name, value in before.items():
                    if value is _ABSENT:
                        variables.pop(name, None)
                    else:
                        variables[name] = value

        return step

    # ---- what does not evaluate all its arguments

    def _and(self, node: Call) -> Step:
        return self._logical(node, decided_by=False)

    def _or(self, node: Call) -> Step:
        return self._logical(node, decided_by=True)

    def _logical(self, node: Call, *, decided_by: bool) -> Step:
        left, right = (self.plan(part) for part in node.args)

        def step(frame: Frame) -> Any:
            failure: CelError | None = None
            try:
                value = left(frame)
                if value is decided_by:
                    return decided_by
                if value is not (not decided_by):
                    failure = CelError("no such overload")
            except CelError as error:
                failure = error
            value = right(frame)
            if value is decided_by:
                return decided_by
            if failure is not None:
                raise failure
            if value is not (not decided_by):
                raise CelError("no such overload")
            return value

        return step

    def _conditional(self, node: Call) -> Step:
        condition, first, second = (self.plan(part) for part in node.args)

        def step(frame: Frame) -> Any:
            value = condition(frame)
            if value is True:
                return first(frame)
            if value is False:
                return second(frame)
            raise CelError("no such overload")

        return step

    def _not_strictly_false(self, node: Call) -> Step:
        inner = self.plan(node.args[0])

        def step(frame: Frame) -> Any:
            frame.cost += 1
            try:
                return inner(frame) is not False
            except CelError:
                return True

        return step

    def _index(self, node: Call) -> Step:
        operand, key_of = (self.plan(part) for part in node.args)
        extra = 1 if isinstance(node.args[0], Ident | Select) or _is_index(node.args[0]) else 2

        def step(frame: Frame) -> Any:
            value, key = operand(frame), key_of(frame)
            frame.cost += extra
            if isinstance(value, Optional):
                return _optional_entry(value, key)
            return entry(value, key)

        return step

    def _optional_select(self, node: Call) -> Step:
        operand, key_of = (self.plan(part) for part in node.args)

        def step(frame: Frame) -> Any:
            value, key = operand(frame), key_of(frame)
            frame.cost += 1
            return _optional_entry(value if isinstance(value, Optional) else Optional(value), key)

        return step

    def _or_value(self, node: Call) -> Step:
        """`orValue` and `or` look at their argument only when they need it."""
        operand, other = (self.plan(part) for part in node.operands)
        unwraps = node.function == "orValue"

        def step(frame: Frame) -> Any:
            value = operand(frame)
            frame.cost += 1
            if not isinstance(value, Optional):
                raise CelError("no such overload")
            if value.present:
                return value.value if unwraps else value
            return other(frame)

        return step


def _attempt(step: Step, frame: Frame) -> Any:
    try:
        return step(frame)
    except CelError as error:
        return error


def _rounds(items: Any, with_both: bool) -> Any:
    if isinstance(items, list):
        return enumerate(items) if with_both else ((item, None) for item in items)
    if isinstance(items, dict):
        return list(items.items()) if with_both else [(key, None) for key in items]
    raise CelError("no such overload")


def _is_index(node: Node) -> bool:
    return isinstance(node, Call) and node.function in ("_[_]", "_?._", "_[?_]")


def _is_open(found: Any) -> bool:
    return found.kind in ("dyn", "param", "error")


def _direct(overload: Overload, steps: list[Step]) -> Step:
    impl, cost = overload.impl, overload.cost
    if cost is None and len(steps) == 2:
        one, other = steps

        def binary(frame: Frame) -> Any:
            frame.cost += 1
            return impl(one(frame), other(frame))

        return binary

    def step(frame: Frame) -> Any:
        args = tuple(part(frame) for part in steps)
        result = impl(*args)
        frame.cost += 1 if cost is None else cost(args, result)
        return result

    return step


def _dispatching(candidates: list[Overload], steps: list[Step]) -> Step:
    def step(frame: Frame) -> Any:
        args = tuple(part(frame) for part in steps)
        for overload in candidates:
            if accepts(overload, args):
                result = overload.impl(*args)
                frame.cost += 1 if overload.cost is None else overload.cost(args, result)
                return result
        raise CelError("no such overload")

    return step


def select(value: Any, name: str) -> Any:
    """A field of a value. Raises CelError."""
    if isinstance(value, dict):
        return at_key(value, name)
    if isinstance(value, Optional):
        return _optional_entry(value, name)
    if isinstance(value, Fields):
        try:
            return value.cel_get(name)
        except KeyError:
            raise CelError(f"no such key: {name}") from None
    raise CelError("no such overload")


def entry(value: Any, key: Any) -> Any:
    """`value[key]`. Raises CelError."""
    if isinstance(value, dict):
        return at_key(value, key)
    if isinstance(value, list):
        return at_index(value, key)
    if isinstance(value, Fields):
        return select(value, key)
    raise CelError("no such overload")


def _has(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return name in value
    if isinstance(value, Optional):
        return value.present and _has(value.value, name)
    if isinstance(value, Fields):
        return value.cel_has(name)
    raise CelError("no such overload")


def _optional_entry(value: Optional, key: Any) -> Optional:
    if not value.present:
        return NONE
    inner = value.value
    if isinstance(inner, dict):
        return Optional(inner[key]) if key in inner else NONE
    if isinstance(inner, list):
        return Optional(inner[key]) if isinstance(key, int) and 0 <= key < len(inner) else NONE
    if isinstance(inner, Fields):
        return Optional(inner.cel_get(key)) if inner.cel_has(key) else NONE
    if inner is None:
        return NONE
    raise CelError("no such overload")


_TYPES = {
    **{name: name for name in ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "optional_type")},
    "google.protobuf.Timestamp": "google.protobuf.Timestamp", "google.protobuf.Duration": "google.protobuf.Duration",
    **{name: name for name in ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.URL")},
}  # fmt: skip
TYPE_NAMES = frozenset(_TYPES)
_PLANS: dict[type[Node], Callable[[Planner, Any], Step]] = {
    Literal: Planner._literal, Ident: Planner._ident, Select: Planner._select, Call: Planner._call, ListNode: Planner._list,
    MapNode: Planner._map, Struct: Planner._struct, Fold: Planner._fold,
}  # fmt: skip
_SPECIAL: dict[str, Callable[[Planner, Call], Step]] = {
    "_&&_": Planner._and, "_||_": Planner._or, "_?_:_": Planner._conditional, "@not_strictly_false": Planner._not_strictly_false,
    "_[_]": Planner._index, "_?._": Planner._optional_select, "_[?_]": Planner._optional_select, "orValue": Planner._or_value,
    "or": Planner._or_value,
}  # fmt: skip

"""Checked trees → closures that evaluate them and count what it costs. Imitates cel-go's interpreter and its runtimecost.go.

Names and selections cost 1, lists 10, maps 30, calls by their table, also calls whose arguments failed. `has()` is free, as Kubernetes
configures it. Constants cost nothing: literals, lists and maps of them, and conversions of them, which are made once; nor does looking a
value up in a constant list. cel-go counts a chain of names and selections as one attribute; one that chooses an entry of another, or
stands in a branch of `?:`, is not counted itself, only the selections in it are. What a fold costs is looked at after each round; the rest
at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .access import TYPES, entry, has, optional_entry, select
from .functions import LIST_COST, MAP_COST, STRUCT_COST, Functions, Overload, accepts
from .macros import ACCU
from .nodes import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from .values import CelError, CostExceeded, Optional, TypeValue, equal


class Frame:
    """One evaluation: variables, the cost so far, and its limit."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: Mapping[str, Any], limit: int) -> None:
        self.variables = dict(variables)
        self.cost, self.limit = 0, limit


Step = Callable[[Frame], Any]
_ABSENT = object()


_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "uint"))
_INDICES = frozenset(("_[_]", "_?._", "_[?_]"))
_SCALARS = (bool, int, float, str)


class Planner:
    """Makes the closures of one tree."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def plan(self, node: Node, *, counted: bool = True) -> Step:
        """`counted` False: an attribute that is part of another one."""
        if (constant := self._constant(node)) is not None:
            value = constant[0]
            return lambda frame: value
        if isinstance(node, Ident):
            return self._ident(node, counted)
        if isinstance(node, Select):
            return self._select(node, counted)
        if isinstance(node, Call) and node.function in _INDICES:
            return self._index(node, counted)
        made: Step = _PLANS[type(node)](self, node)
        return made

    def _constant(self, node: Node) -> tuple[Any] | None:
        """The value of a node that has always the same one."""
        if isinstance(node, Literal):
            return (node.value,)
        if isinstance(node, ListNode) and not node.optionals:
            items = [self._constant(part) for part in node.elements]
            return ([item[0] for item in items if item],) if all(items) else None
        if isinstance(node, MapNode) and not any(is_optional for *_, is_optional in node.entries):
            pairs = [(self._constant(key), self._constant(value)) for _, key, value, _ in node.entries]
            found = {key[0]: value[0] for key, value in pairs if key and value}
            return (found,) if len(found) == len(pairs) else None
        if isinstance(node, Call) and node.function in _CONVERSIONS and len(node.args) == 1 and node.target is None:
            return self._converted(node)
        return None

    def _converted(self, node: Call) -> tuple[Any] | None:
        inner = self._constant(node.args[0])
        if inner is None:
            return None
        try:
            return (_dispatching(self._candidates(node), [lambda frame: inner[0]])(Frame({}, 0)),)
        except CelError:
            return None  # told when it is evaluated

    def _ident(self, node: Ident, counted: bool) -> Step:
        name, cost = node.name, int(counted)

        def step(frame: Frame) -> Any:
            frame.cost += cost
            try:
                value = frame.variables[name]
            except KeyError:
                if name in TYPES:
                    frame.cost -= cost
                    return TypeValue(TYPES[name])
                raise CelError(f"no such attribute(s): {name}") from None
            if type(value) is CelError:
                raise value
            return value

        return step

    def _operand(self, node: Node, counted: bool) -> tuple[Step, int]:
        """What something is taken from, and what the taking costs: one more if it is no attribute yet."""
        if _is_attribute(node):
            return self.plan(node, counted=counted), 1
        return self.plan(node), 1 + counted

    def _select(self, node: Select, counted: bool) -> Step:
        if node.qualified:
            return self._ident(Ident(node.position, node.qualified), counted)
        name = node.field
        operand, extra = self._operand(node.operand, counted)
        if node.tests:
            base = extra - 1

            def test(frame: Frame) -> Any:
                value = operand(frame)
                frame.cost += base
                return has(value, name)

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

    def _index(self, node: Call, counted: bool) -> Step:
        operand, extra = self._operand(node.args[0], counted)
        key_of = self.plan(node.args[1], counted=not _is_attribute(node.args[1]))
        always_optional = node.function != "_[_]"

        def step(frame: Frame) -> Any:
            value, key = operand(frame), key_of(frame)
            frame.cost += extra
            if isinstance(value, Optional):
                return optional_entry(value, key)
            return optional_entry(Optional(value), key) if always_optional else entry(value, key)

        return step

    def _call(self, node: Call) -> Step:
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        if node.function == "_+_" and _grows(node):
            return self._append(node)
        if node.function == "@in" and (among := self._constant(node.args[1])) and _is_scalars(among[0]):
            return _membership(self.plan(node.args[0]), among[0])
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

    def _append(self, node: Call) -> Step:
        """What the macros collect grows in place: a new list in each round would take time that the cost does not tell of."""
        other = self.plan(node.args[1])

        def step(frame: Frame) -> Any:
            frame.cost += 2
            items = frame.variables[ACCU]
            if type(items) is CelError:
                _attempt(other, frame)
                raise items
            items.append(other(frame)[0])
            return items

        return step

    def _list(self, node: ListNode) -> Step:
        steps, optionals = [self.plan(part) for part in node.elements], node.optionals

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
        collects = {ListNode: list, MapNode: dict}.get(type(node.init)) if accu == ACCU else None

        def step(frame: Frame) -> Any:
            items = over(frame)
            variables = frame.variables
            before = {name: variables.get(name, _ABSENT) for name in (accu, var, var2) if name}
            variables[accu] = _attempt(init, frame) if collects is None else collects()
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
        condition = self.plan(node.args[0])
        first, second = (self.plan(part, counted=not _is_attribute(part)) for part in node.args[1:])

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


def _grows(node: Call) -> bool:
    """Whether it adds one element to what a macro collects."""
    more, one = node.args
    is_one = isinstance(one, ListNode) and len(one.elements) == 1 and not one.optionals
    return isinstance(more, Ident) and more.name == ACCU and is_one


def _is_attribute(node: Node) -> bool:
    """Whether cel-go has one attribute for it: names, what is selected from anything, and choices."""
    return isinstance(node, Ident | Select) or (isinstance(node, Call) and (node.function in _INDICES or node.function == "_?_:_"))


def _is_open(found: Any) -> bool:
    return found.kind in ("dyn", "param", "error")


def _is_scalars(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, _SCALARS) for item in value)


def _membership(step: Step, among: list[Any]) -> Step:
    """`x in [1, 2]`: made a set when it is compiled, it costs nothing."""

    def look(frame: Frame) -> bool:
        if not among:
            return False
        value = step(frame)
        return any(equal(value, item) for item in among)

    return look


def _arguments(steps: list[Step]) -> Callable[[Frame], tuple[Any, ...]]:
    """Evaluates arguments. One or two are all evaluated, and their call counts, though one fails; of more, none after the first failure."""
    if len(steps) > 2:
        return lambda frame: tuple([part(frame) for part in steps])

    def both(frame: Frame) -> tuple[Any, ...]:
        values = [_attempt(part, frame) for part in steps]
        for value in values:
            if type(value) is CelError:
                frame.cost += 1
                raise value
        return tuple(values)

    return both


def _direct(overload: Overload, steps: list[Step]) -> Step:
    impl = overload.impl
    if overload.cost is not None or len(steps) != 2:
        arguments = _arguments(steps)
        return lambda frame: _applied(overload, arguments(frame), frame)
    one, other = steps

    def binary(frame: Frame) -> Any:
        frame.cost += 1
        try:
            left = one(frame)
        except CelError:
            _attempt(other, frame)
            raise
        return impl(left, other(frame))

    return binary


def _applied(overload: Overload, args: tuple[Any, ...], frame: Frame) -> Any:
    try:
        result = overload.impl(*args)
    except CelError:
        frame.cost += 1 if overload.cost is None else overload.cost(args, None)
        raise
    frame.cost += 1 if overload.cost is None else overload.cost(args, result)
    return result


def _dispatching(candidates: list[Overload], steps: list[Step]) -> Step:
    arguments = _arguments(steps)

    def step(frame: Frame) -> Any:
        args = arguments(frame)
        for overload in candidates:
            if accepts(overload, args):
                return _applied(overload, args, frame)
        frame.cost += 1
        raise CelError("no such overload")

    return step


_PLANS: dict[type[Node], Callable[[Planner, Any], Step]] = {
    Call: Planner._call, ListNode: Planner._list, MapNode: Planner._map, Struct: Planner._struct, Fold: Planner._fold,
}  # fmt: skip
_SPECIAL: dict[str, Callable[[Planner, Call], Step]] = {
    "_&&_": Planner._and, "_||_": Planner._or, "_?_:_": Planner._conditional, "@not_strictly_false": Planner._not_strictly_false,
    "orValue": Planner._or_value, "or": Planner._or_value,
}  # fmt: skip

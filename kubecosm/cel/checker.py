"""Finds out the types of a tree and which overloads its calls may come to. Imitates cel-go's checker, in the words of its messages."""

from __future__ import annotations

from collections.abc import Mapping

from .access import TYPES
from .functions import Functions
from .issues import CompileError, Issue
from .nodes import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct, qualified_name
from .patterns import PatternError, translate
from .types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    list_of,
    map_of,
    most_general,
    optional_of,
    param,
    type_of,
)
from .values import Uint, parse_duration, parse_timestamp

_LITERALS = {bool: BOOL, bytes: BYTES, float: DOUBLE, int: INT, str: STRING, Uint: UINT, type(None): NULL}


def check(source: str, tree: Node, variables: Mapping[str, Type], functions: Functions, objects: Mapping[str, Type]) -> Type:
    """The type of the whole; every node gets its own. `objects`: types that may be constructed. Raises CompileError."""
    checker = _Checker(variables, functions, objects)
    checker.check(tree)
    checker.settle()
    if checker.issues:
        raise CompileError(source, checker.issues)
    return tree.type


class _Checker:
    def __init__(self, variables: Mapping[str, Type], functions: Functions, objects: Mapping[str, Type]) -> None:
        self._scopes: list[Mapping[str, Type]] = [variables]
        self._functions, self._objects = functions, objects
        self._bindings = Bindings()
        self._fresh = 0
        self._mixed: set[int] = set()  # lists whose elements may be of several types: what texts are formatted from
        self._nodes: dict[int, Node] = {}
        self.issues: list[Issue] = []

    def settle(self) -> None:
        """Replace what parameters stand for, now that all is known."""
        for node in self._nodes.values():
            node.type = self._bindings.resolve(node.type, params_to_dyn=True)

    def check(self, node: Node) -> Type:
        self._nodes[id(node)] = node
        node.type = self._type_of(node)
        return node.type

    def _type_of(self, node: Node) -> Type:
        match node:
            case Literal():
                return _LITERALS[type(node.value)]
            case Ident():
                return self._ident(node)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListNode():
                return self._list(node)
            case MapNode():
                return self._map(node)
            case Struct():
                return self._struct(node)
            case Fold():
                return self._fold(node)
        return DYN

    def _complain(self, node: Node | int, message: str) -> Type:
        self.issues.append(Issue(node if isinstance(node, int) else node.position, message))
        return ERROR

    def _lookup(self, name: str) -> Type | None:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        if name in TYPES or name in self._objects:
            return type_of(self._objects.get(name, DYN))
        return None

    def _undeclared(self, node: Node, name: str) -> Type:
        return self._complain(node, f"undeclared reference to '{name}' (in container '')")

    def _ident(self, node: Ident) -> Type:
        return self._lookup(node.name) or self._undeclared(node, node.name)

    def _select(self, node: Select) -> Type:
        name = qualified_name(node)
        if name and (found := self._lookup(name)) is not None:
            node.qualified = name
            return found
        target = self._bindings.resolve(self.check(node.operand))
        is_optional = target.kind == "opaque" and target.name == "optional_type"
        inner = target.params[0] if is_optional else target
        result = self._field(node, node.position, inner, node.field)
        if node.tests:
            return BOOL
        return optional_of(result) if is_optional else result

    def _field(self, node: Node, position: int, target: Type, name: str) -> Type:
        if target.kind in ("dyn", "error", "param"):
            return DYN
        if target.kind == "map":
            return target.params[1]
        if target.kind == "object":
            if target.fields is None:
                return DYN
            return target.fields[name] if name in target.fields else self._complain(position, f"undefined field '{name}'")
        return self._complain(position, f"type '{target}' does not support field selection")

    # ---- calls

    def _call(self, node: Call) -> Type:
        if node.function in ("_?._", "_[?_]"):
            return self._optional_part(node)
        name = node.function
        if node.target is not None:
            prefix = qualified_name(node.target)
            if prefix and f"{prefix}.{name}" in self._functions and self._lookup(prefix.partition(".")[0]) is None:
                node.target, node.function = None, f"{prefix}.{name}"
                name = node.function
        if name == "format" and node.args and isinstance(node.args[0], ListNode):
            self._mixed.add(id(node.args[0]))
        have = [self.check(part) for part in node.operands]
        if name not in self._functions:
            return self._undeclared(node, name)
        result = self._resolved(node, name, have)
        if result is None:
            shown = [str(self._bindings.resolve(one, params_to_dyn=True)) for one in have]
            text = f"{shown[0]}.({', '.join(shown[1:])})" if node.target is not None else f"({', '.join(shown)})"
            return self._complain(node, f"found no matching overload for '{name}' applied to '{text}'")
        self._check_literals(node)
        return result

    def _resolved(self, node: Call, name: str, have: list[Type]) -> Type | None:
        """The type of a call, from all overloads it may come to."""
        result: Type | None = None
        chosen: list[str] = []
        for one in self._functions[name]:
            if one.is_member != (node.target is not None) or len(one.params) != len(have):
                continue
            renamed = self._renamed((*one.params, one.result))
            if not self._bindings.assign_all(have, renamed[:-1]):
                continue
            chosen.append(one.id)
            its = self._bindings.resolve(renamed[-1])
            if result is None:
                result = its
            elif result.kind != "dyn" and its != result:
                result = DYN
        node.overloads = tuple(chosen)
        return result

    def _renamed(self, types: tuple[Type, ...]) -> list[Type]:
        """The same with type parameters of their own."""
        fresh = Bindings()
        for found in types:
            self._collect(found, fresh)
        return [fresh.resolve(found) for found in types] if fresh else list(types)

    def _collect(self, found: Type, fresh: Bindings) -> None:
        if found.kind == "param" and found not in fresh:
            fresh[found] = self._new_param()
        for part in found.params:
            self._collect(part, fresh)

    def _new_param(self) -> Type:
        self._fresh += 1
        return param(f"_var{self._fresh}")

    def _optional_part(self, node: Call) -> Type:
        """`a.?b` and `a[?b]`."""
        target = self._bindings.resolve(self.check(node.args[0]))
        self.check(node.args[1])
        if target.kind == "opaque" and target.name == "optional_type":
            target = target.params[0]
        if node.function == "_[?_]" and target.kind == "list":
            return optional_of(target.params[0])
        field = node.args[1]
        if node.function == "_[?_]" and target.kind == "map":
            return optional_of(target.params[1])
        return optional_of(self._field(node, node.position, target, field.value if isinstance(field, Literal) else ""))

    def _check_literals(self, node: Call) -> None:
        """Texts that can be seen to be wrong before they are used."""
        args = node.operands
        last = args[-1] if args else None
        if not isinstance(last, Literal) or not isinstance(last.value, str):
            return
        try:
            if node.function == "matches":
                translate(last.value)
            elif node.function == "duration" and len(args) == 1:
                parse_duration(last.value)
            elif node.function == "timestamp" and len(args) == 1:
                parse_timestamp(last.value)
        except PatternError:
            self._complain(last, "invalid matches argument")
        except ValueError:
            self._complain(last, f"invalid {node.function} argument")

    # ---- lists, maps, objects

    def _list(self, node: ListNode) -> Type:
        element: Type | None = None
        for index, part in enumerate(node.elements):
            found = self.check(part)
            if id(node) in self._mixed:
                element = DYN
                continue
            if index in node.optionals:
                found = self._unwrapped(part, found)
            element = self._join(part, element, found)
        return list_of(element or self._new_param())

    def _map(self, node: MapNode) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for _, key, value, is_optional in node.entries:
            keys = self._join(key, keys, self.check(key))
            found = self.check(value)
            values = self._join(value, values, self._unwrapped(value, found) if is_optional else found)
        return map_of(keys or self._new_param(), values or self._new_param())

    def _unwrapped(self, node: Node, found: Type) -> Type:
        if found.kind == "opaque" and found.name == "optional_type":
            return found.params[0]
        return DYN if found.kind in ("dyn", "error") else self._complain(node, f"expected type 'optional_type(dyn)' but found '{found}'")

    def _join(self, node: Node, before: Type | None, found: Type) -> Type:
        if before is None:
            return found
        if self._bindings.assign(before, found) or self._bindings.assign(found, before):
            return most_general(before, found)
        one, other = (self._bindings.resolve(part, params_to_dyn=True) for part in (before, found))
        self._complain(node, f"expected type '{one}' but found '{other}'")
        return before

    def _struct(self, node: Struct) -> Type:
        found = self._objects.get(node.name)
        if found is None:
            return self._undeclared(node, node.name)
        for position, name, value, is_optional in node.fields:
            have = self.check(value)
            have = self._unwrapped(value, have) if is_optional else have
            wanted = self._field(node, position, found, name)
            if not self._bindings.assign(have, wanted):
                self._complain(position, f"expected type of field '{name}' is '{wanted}' but provided type is '{have}'")
        return found

    def _fold(self, node: Fold) -> Type:
        over = self._bindings.resolve(self.check(node.range))
        accu = self.check(node.init)
        key, value = self._range_types(node, over)
        scope = {node.accu: accu}
        self._scopes.append(scope)
        self._scopes.append({node.var: key, node.var2: value} if node.var2 else {node.var: value if over.kind == "list" else key})
        condition = self.check(node.condition)
        if not self._bindings.assign(condition, BOOL):
            self._complain(node.condition, f"expected type 'bool' but found '{condition}'")
        step = self.check(node.step)
        if not self._bindings.assign(step, accu):
            one, other = (self._bindings.resolve(part, params_to_dyn=True) for part in (accu, step))
            self._complain(node.step, f"expected type '{one}' but found '{other}'")
        self._scopes.pop()
        result = self.check(node.result)
        self._scopes.pop()
        return self._bindings.resolve(result)

    def _range_types(self, node: Fold, over: Type) -> tuple[Type, Type]:
        if over.kind == "list":
            return INT, over.params[0]
        if over.kind == "map":
            return over.params[0], over.params[1]
        if over.kind not in ("dyn", "error", "param"):
            message = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
            self._complain(node.range, message)
        return DYN, DYN



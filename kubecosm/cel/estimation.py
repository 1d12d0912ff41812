"""What an expression may cost at most, told before it is ever evaluated. Imitates cel-go's checker/cost.go, step by step: its estimates
decide which definitions may be made, so what it overlooks is overlooked here as well.

Sizes come from literals, from what functions give, and from the bounds of declared types; what is not bounded counts as without end.
"""

from __future__ import annotations

from typing import NamedTuple

from .functions import LIST_COST, MAP_COST, STRUCT_COST
from .macros import ACCU
from .nodes import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from .spans import NOTHING, ONE, UNBOUNDED, UNLIMITED, Estimated, Operand, Path, Span
from .types import Type

_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))
_FIELDED = frozenset(("map", "object", "param"))


def estimate(tree: Node, root: Type) -> Span:
    """The cost of a checked expression about one declared value: `self`, and `oldSelf`."""
    return _Coster(root).cost(tree)


class _Entries(NamedTuple):
    """The sizes of what is in a list or map: keys (or indices) and values."""

    kind: str
    key: Span
    value: Span


class _Local(NamedTuple):
    """A variable of a fold."""

    path: Path
    size: Span | None
    entries: _Entries | None


class _Coster:
    def __init__(self, root: Type) -> None:
        self._root = root
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Span] = {}
        self._entries: dict[int, _Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> Span:
        match node:
            case Ident():
                return self._ident(node, node.name)
            case Select():
                return self._ident(node, node.qualified) if node.qualified else self._select(node)
            case Call():
                return self._call(node)
            case ListNode():
                return self._list(node)
            case MapNode():
                return self._map(node)
            case Struct():
                return Span(STRUCT_COST, STRUCT_COST).plus(*(self.cost(value) for _, _, value, _ in node.fields))
            case Fold():
                return self._bind(node) if _is_bind(node) else self._fold(node)
        return NOTHING

    def _ident(self, node: Node, name: str) -> Span:
        local = self._local(name)
        self._paths[id(node)] = local.path if local else (name,)
        return ONE

    def _select(self, node: Select) -> Span:
        total = self.cost(node.operand)
        if node.tests:
            return total
        self._paths[id(node)] = (*self._path(node.operand), node.field)
        return total.plus(ONE) if node.operand.type.kind in _FIELDED else total

    # ---- calls

    def _call(self, node: Call) -> Span:
        if node.function == "dyn":
            total = ONE.plus(self.cost(node.args[0]))
            self._copy(node, node.args[0])
            return total
        costs = [self.cost(part) for part in node.args]
        args = [self._operand(part) for part in node.args]
        total, target = NOTHING, None
        if node.target is not None:
            total, target = self.cost(node.target), self._operand(node.target)
        cost, size = Span(UNLIMITED, 0), None
        for overload in node.overloads or ("",):
            found = self._overload(node, overload, target, args, costs)
            cost = cost.union(found.cost)
            if found.size is not None:
                size = found.size if size is None else size.union(found.size)
            if overload in ("index_list", "index_map"):
                entries = self._entries_of(node.args[0])
                size = entries.value if entries else None
                self._paths[id(node)] = (*self._path(node.args[0]), "@items" if overload == "index_list" else "@values")
            if size is None:
                size = self._size(node)
        if size is not None:
            self._sizes[id(node)] = size
        return total.plus(cost)

    def _overload(self, node: Call, overload: str, target: Operand | None, args: list[Operand], costs: list[Span]) -> Estimated:
        from .estimates import estimate_call  # the tables are large, and only definitions need them

        arguments = NOTHING.plus(*costs)
        if overload in ("logical_or", "logical_and"):
            return Estimated(Span(costs[0].least, arguments.most))
        if overload == "conditional":
            one, other = self._entries_of(node.args[1]), self._entries_of(node.args[2])
            self._keep_entries(node, _united(one, other))
            return Estimated(costs[0].plus(costs[1].union(costs[2])), args[1].size.union(args[2].size))
        if overload in ("add_string", "add_bytes", "add_list"):
            self._keep_entries(node, _united(self._entries_of(node.args[0]), self._entries_of(node.args[1])))
        found = estimate_call(node.function, overload, target, args, self._root)
        return Estimated(found.cost.plus(arguments), found.size)

    def _operand(self, node: Node) -> Operand:
        path = self._path(node)
        if path and path[0] == ACCU:
            path = ()
        return Operand(path, node.type, node, self._size(node))

    # ---- lists, maps, folds

    def _list(self, node: ListNode) -> Span:
        total = Span(LIST_COST, LIST_COST).plus(*map(self.cost, node.elements))
        self._entries[id(node)] = _Entries("list", ONE, self._joint(node.elements))
        return total

    def _map(self, node: MapNode) -> Span:
        total = Span(MAP_COST, MAP_COST)
        for _, key, value, _ in node.entries:
            total = total.plus(self.cost(key), self.cost(value))
        keys, values = [key for _, key, _, _ in node.entries], [value for _, _, value, _ in node.entries]
        self._entries[id(node)] = _Entries("map", self._joint(keys), self._joint(values))
        return total

    def _joint(self, nodes: list[Node]) -> Span:
        found = Span(UNLIMITED, 0) if nodes else NOTHING
        for node in nodes:
            found = found.union(self._size(node) or UNBOUNDED)
        return found

    def _fold(self, node: Fold) -> Span:
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, _Local(self._path(node.init), self._size(node.init), self._entries_of(node.init)))
        entries = self._entries_of(node.range)
        is_list = (entries.kind if entries else node.range.type.kind) == "list"
        over = self._path(node.range)
        key = _Local((*over, "@indices" if is_list and node.var2 else "@keys"), entries.key if entries else None, None)
        value = _Local((*over, "@items" if is_list else "@values"), entries.value if entries else None, None)
        self._push(node.var, key if node.var2 or not is_list else value)
        if node.var2:
            self._push(node.var2, value)
        loop, step = self.cost(node.condition), self.cost(node.step)
        for name in (node.var, node.var2):
            if name:
                self._locals[name].pop()
        total = total.plus(self.cost(node.result))
        self._locals[node.accu].pop()
        rounds = self._size(node.range) or UNBOUNDED
        self._keep_fold_size(node, rounds)
        return total.plus(rounds.times(step.plus(loop)))

    def _keep_fold_size(self, node: Fold, rounds: Span) -> None:
        if isinstance(node.init, Literal):
            if (size := self._size(node.init)) is not None:
                self._sizes[id(node)] = size
        elif isinstance(node.init, ListNode | MapNode):
            self._sizes[id(node)] = rounds
            self._keep_entries(node, self._entries_of(node.step))

    def _bind(self, node: Fold) -> Span:
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, _Local(self._path(node.init), self._size(node.init), self._entries_of(node.init)))
        total = total.plus(self.cost(node.result))
        self._locals[node.accu].pop()
        self._copy(node, node.result)
        return total

    # ---- what is known of nodes

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _local(self, name: str) -> _Local | None:
        stack = self._locals.get(name)
        return stack[-1] if stack else None

    def _path(self, node: Node) -> Path:
        if isinstance(node, Ident) and (local := self._local(node.name)):
            return local.path
        return self._paths.get(id(node), ())

    def _copy(self, to: Node, source: Node) -> None:
        if (size := self._size(source)) is not None:
            self._sizes[id(to)] = size
        self._keep_entries(to, self._entries_of(source))

    def _keep_entries(self, node: Node, entries: _Entries | None) -> None:
        if entries is not None:
            self._entries[id(node)] = entries

    def _entries_of(self, node: Node) -> _Entries | None:
        if (found := self._entries.get(id(node))) is not None:
            return found
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.entries if local else None

    def _size(self, node: Node) -> Span | None:
        if (known := self._sizes.get(id(node))) is not None:
            return known
        if (literal := _literal_size(node)) is not None:
            return literal
        if (declared := Operand(self._path(node), node.type, node, None).declared_size(self._root)) is not None:
            self._sizes[id(node)] = declared
            return declared
        if _is_scalar(node.type):
            return ONE
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.size if local else None


def _is_bind(node: Fold) -> bool:
    """`cel.bind` and its kin: a fold that goes nowhere."""
    goes_nowhere = isinstance(node.condition, Literal) and node.condition.value is False
    return isinstance(node.range, ListNode) and not node.range.elements and goes_nowhere and node.accu != ACCU


def _literal_size(node: Node) -> Span | None:
    if isinstance(node, Literal):
        length = len(node.value) if isinstance(node.value, str | bytes) else 1
    elif isinstance(node, ListNode):
        length = len(node.elements)
    elif isinstance(node, MapNode):
        length = len(node.entries)
    else:
        return None
    return Span(length, length)


def _is_scalar(found: Type) -> bool:
    if found.kind == "opaque" and found.name == "optional_type":
        return _is_scalar(found.params[0])
    return found.kind in _SCALARS


def _united(one: _Entries | None, other: _Entries | None) -> _Entries | None:
    if one is None or other is None:
        return None
    return _Entries(one.kind, one.key.union(other.key), one.value.union(other.value))

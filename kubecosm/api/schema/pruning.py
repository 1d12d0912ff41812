"""What Go's encoder leaves out: empty lists and maps, once nobody needs to know any more that a client sent them.

They stay in memory between decoding and storage, because field ownership and validation tell an empty list from none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecosm.api.schema.model import LIST, MAP, STRUCT, Definition, Type, schemas

Pruner = Callable[[dict[str, Any]], None]

_EACH_ITEM, _EACH_VALUE, _ITSELF = 1, 2, 3
_pruners: dict[str, Pruner] = {}


def pruner(name: str) -> Pruner:
    """Makes an object of a definition what Go would store, in place: empty lists and maps dropped, or null where never omitted."""
    found = _pruners.get(name)
    if found is None:
        found = _pruners[name] = _of(schemas().definition(name))
    return found


def _of(definition: Definition) -> Pruner:
    table: dict[str, tuple[bool, int, str]] = {}
    """Field name → (dropped when empty, what to descend into, definition found there)."""
    for field in definition.fields.values():
        kind = field.type
        if kind.kind in (LIST, MAP) and not kind.pointer:
            inner = _struct_in(kind.elem)
            table[field.name] = (field.omitempty, (_EACH_ITEM if kind.kind == LIST else _EACH_VALUE) if inner else 0, inner)
        elif inner := _struct_in(kind):
            table[field.name] = (False, _ITSELF, inner)
    look_up = table.get

    def prune(obj: dict[str, Any]) -> None:
        empty = None
        for name, value in obj.items():
            shape = type(value)
            if shape is not dict and shape is not list:
                continue
            rule = look_up(name)
            if rule is None:
                continue
            dropped, below, inner = rule
            if not value:
                if below != _ITSELF:
                    empty = [(name, dropped)] if empty is None else [*empty, (name, dropped)]
            elif below == _ITSELF:
                pruner(inner)(value)
            elif below:
                descend = pruner(inner)
                for item in value if below == _EACH_ITEM else value.values():
                    if item:
                        descend(item)
        if empty is not None:
            for name, dropped in empty:
                if dropped:
                    del obj[name]
                else:
                    obj[name] = None

    return prune


def _struct_in(kind: Type | None) -> str:
    """The definition of a struct type with fields, else empty."""
    if kind is None or kind.kind != STRUCT or schemas().definition(kind.ref).special:
        return ""
    return kind.ref

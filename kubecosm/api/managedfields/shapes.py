"""Objects as field ownership sees them: what is one leaf, what falls into fields, and by which keys list items are known.

Imitates structured-merge-diff's schema and typed packages. A shape can tell the field set of a value, compare two values, and is what
merge, removal and validation walk by. Kinds without a schema (custom resources) have the deduced shape: maps fall into fields, lists are
leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from kubecosm.api.managedfields.sets import LEAF, SELF, Node
from kubecosm.api.schema.model import LIST, MAP, Definition, Field

ABSENT: Final[Any] = object()
"""A value that is not there, which is not the same as null."""


class KeyProblem(ValueError):
    """A list item cannot be identified."""


class Shape:
    """A leaf: a scalar, or anything owned as a whole. The base of the shapes that fall into parts."""

    atomic = True
    scalar = "any"
    """What a scalar must be: `string`, `numeric`, `boolean`, `untyped` (any scalar) or `any` (anything at all)."""

    def __init__(self, scalar: str = "any") -> None:
        self.scalar = scalar

    def added(self, value: Any) -> Node:
        """The node of a value that was not there before."""
        return LEAF

    def fields(self, value: Any) -> Node | None:
        """The node of an applied value; None if it claims nothing (TypedValue.ToFieldSet)."""
        return LEAF

    def compare(self, old: Any, new: Any) -> tuple[Node | None, Node | None]:
        """(added or modified, removed) below this value, None for nothing; both values are there."""
        return (None, None) if old == new else (LEAF, None)

    def child(self, name: str) -> Shape | None:
        """The shape below a field; None if the schema has no such field."""
        return None

    def named(self, name: str) -> bool:
        """Whether the field is declared by name (and is not merely a map's key)."""
        return False

    def default(self, name: str) -> Any:
        """The declared default of a field, None without one."""
        return None


class MapShape(Shape):
    """A map from text to values of one shape."""

    def __init__(self, elem: Shape, atomic: bool = False) -> None:
        super().__init__()
        self.elem = elem
        self.atomic = atomic

    def child(self, name: str) -> Shape | None:
        return self.elem

    def omits(self, name: str, value: Any) -> bool:
        """Whether a field with that value counts as not there."""
        return False

    def added(self, value: Any) -> Node:
        if not value or self.atomic or type(value) is not dict:
            return LEAF
        node: Node = {SELF: LEAF}
        for name, item in value.items():
            shape = self.child(name)
            node[f"f:{name}"] = LEAF if shape is None else shape.added(item)
        return node

    def fields(self, value: Any) -> Node | None:
        if self.atomic or type(value) is not dict:
            return LEAF if self.atomic else None
        node: Node = {}
        for name, item in value.items():
            shape = self.child(name)
            below = None if shape is None else shape.fields(item)
            if item is None or item == {}:
                node[f"f:{name}"] = LEAF
            elif not self.named(name):
                node[f"f:{name}"] = {SELF: LEAF, **below} if below else LEAF
            elif below is not None:
                node[f"f:{name}"] = below
        return node or None

    def compare(self, old: Any, new: Any) -> tuple[Node | None, Node | None]:
        if old == new:
            return None, None
        if self.atomic or not (old or new) or not _are(dict, old, new):
            return LEAF, None
        changed: Node = {}
        removed: Node = {}
        was, now = old or LEAF, new or LEAF
        for name, item in now.items():
            before = was.get(name, ABSENT)
            if not item and before != item and self.omits(name, item):
                if before is not ABSENT:
                    removed[f"f:{name}"] = (self.child(name) or Shape()).added(before)
            elif before is ABSENT:
                shape = self.child(name)
                changed[f"f:{name}"] = LEAF if shape is None else shape.added(item)
            elif before is not item and before != item:
                self._compare_item(name, before, item, changed, removed)
        for name, item in was.items():
            if name not in now:
                shape = self.child(name)
                removed[f"f:{name}"] = LEAF if shape is None else shape.added(item)
        return changed or None, removed or None

    def field_of_new(self, name: str, before: Any, item: Any) -> Node | None:
        """What `compare` finds changed in one field of an object that is new; `before` is what the empty object has there."""
        if not item and before != item and self.omits(name, item):
            return None
        if before is not ABSENT:
            return None if before == item else (self.child(name) or Shape()).compare(before, item)[0]
        shape = self.child(name)
        return LEAF if shape is None else shape.added(item)

    def _compare_item(self, name: str, before: Any, item: Any, changed: Node, removed: Node) -> None:
        shape = self.child(name) or Shape()
        change, removal = shape.compare(before, item)
        if change is not None:
            changed[f"f:{name}"] = change
        if removal is not None:
            removed[f"f:{name}"] = removal


class StructShape(MapShape):
    """A definition's fields; the shapes below are made when first met, as definitions refer to each other in circles.

    A typed shape sees values as Go does, where an empty list or map with omitempty is not there; an untyped one sees what is written.
    """

    def __init__(self, definition: Definition, atomic: bool, typed: bool, make: Callable[[Field, bool], Shape]) -> None:
        super().__init__(Shape(), atomic)
        self._definition = definition
        self._typed = typed
        self._make = make
        omitted = (f.name for f in definition.fields.values() if f.omitempty and not f.type.pointer and f.type.kind in (LIST, MAP))
        self._omitted = frozenset(omitted if typed else ())
        self._children: dict[str, Shape] = {}
        self._keys: dict[str, str] = {}

    def child(self, name: str) -> Shape | None:
        shape = self._children.get(name)
        if shape is None:
            field = self._definition.fields.get(name)
            if field is None:
                return None
            shape = self._children[name] = self._make(field, self._typed)
        return shape

    def named(self, name: str) -> bool:
        return name in self._definition.fields

    def omits(self, name: str, value: Any) -> bool:
        return not value and name in self._omitted

    def added(self, value: Any) -> Node:
        if not value or self.atomic or type(value) is not dict:
            return LEAF
        children, node = self._children, {SELF: LEAF}
        for name, item in value.items():
            if not item and name in self._omitted:
                continue
            shape = children.get(name) or self.child(name)
            node["f:" + name] = LEAF if shape is None or shape.atomic else shape.added(item)
        return node

    def default(self, name: str) -> Any:
        """The declared default of a field, None without one."""
        field = self._definition.fields.get(name)
        return None if field is None else field.default


class DeducedShape(MapShape):
    """Whatever has no schema: maps fall into fields, everything else is a leaf."""

    def __init__(self, metadata: Shape | None = None) -> None:
        super().__init__(self)
        self._metadata = metadata

    def child(self, name: str) -> Shape | None:
        if self._metadata is not None:
            return self._metadata if name == "metadata" else DEDUCED
        return self

    def named(self, name: str) -> bool:
        return True

    def fields(self, value: Any) -> Node | None:
        return super().fields(value) if type(value) is dict else LEAF


class ListShape(Shape):
    """A list whose items are known by key fields, or by themselves when there are none (a set)."""

    atomic = False

    def __init__(self, elem: Shape, keys: tuple[str, ...]) -> None:
        super().__init__()
        self.elem = elem
        self.declared_keys, self.keys = keys, tuple(sorted(keys))
        self._only = f'k:{{"{self.keys[0]}":' if len(self.keys) == 1 else ""

    def key(self, item: Any) -> str:
        """The path element of an item; KeyProblem in structured-merge-diff's words."""
        if not self.keys:
            if item is None or type(item) in (dict, list):
                raise KeyProblem(_SET_PROBLEMS[type(item)])
            return "v:" + orjson.dumps(item).decode()
        if type(item) is not dict:
            shape = "a null element" if item is None else "non-map elements"
            raise KeyProblem(f"associative list with keys may not have {shape}")
        if self._only:
            value = item.get(self.keys[0])
            if type(value) is str and value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
                return f'{self._only}"{value}"}}'
        found = {name: value for name in self.keys if (value := self._key_value(item, name)) is not None or name in item}
        if not found:
            names = " ".join(f'"{name}"' for name in self.declared_keys)
            why = f"omits all key fields [{names}] (and doesn't have default values for any key fields)"
            raise KeyProblem(f"associative list with keys has an element that {why}")
        return "k:" + orjson.dumps(found).decode()

    def _key_value(self, item: Node, name: str) -> Any:
        value = item.get(name)
        return self.elem.default(name) if value is None else value

    def index(self, items: Any) -> dict[str, list[Any]]:
        """Items by key, repeats together, in order of first appearance."""
        found: dict[str, list[Any]] = {}
        for item in items or ():
            found.setdefault(self.key(item), []).append(item)
        return found

    def added(self, value: Any) -> Node:
        if not value or type(value) is not list:
            return LEAF
        node: Node = {SELF: LEAF}
        elem = self.elem
        for item in value:
            key = self.key(item)
            node[key] = LEAF if key in node or elem.atomic else elem.added(item)
        return node

    def fields(self, value: Any) -> Node | None:
        if not value or type(value) is not list:
            return None
        node: Node = {}
        for item in value:
            key = self.key(item)
            below = self.elem.fields(item) if key not in node else None
            node[key] = {SELF: LEAF, **below} if below else LEAF
        return node

    def compare(self, old: Any, new: Any) -> tuple[Node | None, Node | None]:
        if old == new:
            return None, None
        if not (old or new) or not _are(list, old, new):
            return LEAF, None
        was, now = self.index(old), self.index(new)
        changed: Node = {}
        removed: Node = {}
        for key, items in now.items():
            self._compare_items(key, was.get(key, []), items, changed, removed)
        for key, items in was.items():
            if key not in now:
                removed[key] = LEAF if len(items) > 1 else self.elem.added(items[0])
        return changed or None, removed or None

    def _compare_items(self, key: str, before: list[Any], items: list[Any], changed: Node, removed: Node) -> None:
        """One key's items; repeats are owned as a whole."""
        if len(items) > 1:
            if len(before) == 1:
                removed[key] = self.elem.added(before[0])
            if before != items:
                changed[key] = LEAF
        elif len(before) == 1:
            change, removal = self.elem.compare(before[0], items[0])
            if change is not None:
                changed[key] = change
            if removal is not None:
                removed[key] = removal
        else:
            changed[key] = self.elem.added(items[0])
            if before:
                removed[key] = LEAF


_SET_PROBLEMS = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}


def _are(kind: type, *values: Any) -> bool:
    return all(value is None or type(value) is kind for value in values)


class AtomicList(Shape):
    """A list owned as a whole."""

    def __init__(self, elem: Shape) -> None:
        super().__init__()
        self.elem = elem


DEDUCED = DeducedShape()

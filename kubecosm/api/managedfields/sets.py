"""Sets of field paths, kept in the very form in which objects carry them: FieldsV1.

A node is a dict of path elements: `f:name` a field, `k:{"name":"c"}` an item of an associative list, `v:"x"` an item of a set. An empty
node is a member of the set; a node with children is one only if it also holds `"."`. Imitates structured-merge-diff's fieldpath package.
All functions leave their arguments alone and may share parts of them: nodes are frozen once built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

Node = dict[str, Any]

LEAF: Node = {}
"""The member without children; one for all, never changed."""
SELF = "."


def is_member(node: Node) -> bool:
    return not node or SELF in node


def union(left: Node, right: Node) -> Node:
    """The paths in either set."""
    if not left:
        return right
    if not right:
        return left
    result = dict(left)
    for key, other in right.items():
        mine = result.get(key)
        result[key] = other if mine is None else _join(mine, other)
    return result


def _join(left: Node, right: Node) -> Node:
    """The union below one path element, where an empty node is a member."""
    if left is right:
        return left
    if not left:
        return right if is_member(right) else {SELF: LEAF, **right}
    if not right:
        return left if is_member(left) else {SELF: LEAF, **left}
    return union(left, right)


def difference(left: Node, right: Node) -> Node:
    """The paths of left that are not themselves in right; what lies below a path of right stays."""
    if not right:
        return left
    result: Node = {}
    for key, mine in left.items():
        other = right.get(key)
        kept = mine if other is None else _without(mine, other)
        if kept is not None:
            result[key] = kept
    return result


def _without(left: Node, right: Node) -> Node | None:
    """What remains below one path element; None if nothing does."""
    member = is_member(left) and not is_member(right)
    children = difference({key: child for key, child in left.items() if key != SELF}, right) if left else LEAF
    if member:
        return {SELF: LEAF, **children} if children else LEAF
    return children or None


def recursive_difference(left: Node, right: Node) -> Node:
    """The paths of left that are neither in right nor below a path of right."""
    result: Node = {}
    for key, mine in left.items():
        other = right.get(key)
        if other is None:
            result[key] = mine
        elif not is_member(other):
            children = recursive_difference(mine, other)
            if children or not mine:
                result[key] = children
    return result


def intersection(left: Node, right: Node) -> Node:
    """The paths in both sets."""
    result: Node = {}
    for key, mine in left.items():
        other = right.get(key)
        if other is None or key == SELF:
            continue
        children = intersection(mine, other)
        if is_member(mine) and is_member(other):
            result[key] = {SELF: LEAF, **children} if children else LEAF
        elif children:
            result[key] = children
    return result


def contains(node: Node, key: str) -> bool:
    """Whether the one-element path is in the set."""
    child = node.get(key)
    return child is not None and is_member(child)


def paths(node: Node, prefix: str = "") -> Iterator[str]:
    """The members as Kubernetes prints them, in its order: those of a level before what lies deeper, each sorted."""
    keys = sorted((key for key in node if key != SELF), key=_order)
    for key in keys:
        if is_member(node[key]):
            yield prefix + print_element(key)
    for key in keys:
        if node[key]:
            yield from paths(node[key], prefix + print_element(key))


def _order(key: str) -> tuple[int, str]:
    return ("fkvi".index(key[0]) if key[0] in "fkvi" else 9, key)


def print_element(key: str) -> str:
    """`.spec`, `[name="c"]`, `[="x"]`, `[0]`."""
    kind, rest = key[0], key[2:]
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        fields = orjson.loads(rest)
        return "[" + ",".join(f"{name}={_print(fields[name])}" for name in sorted(fields)) + "]"
    return f"[={_print(orjson.loads(rest))}]" if kind == "v" else f"[{rest}]"


def _print(value: Any) -> str:
    return orjson.dumps(value).decode()


def from_paths(*members: str) -> Node:
    """A set from dotted field names: `from_paths("status", "metadata.labels")`."""
    root: Node = {}
    for path in members:
        node = root
        for name in path.split("."):
            node = node.setdefault(f"f:{name}", {})
    return root

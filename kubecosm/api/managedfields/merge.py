"""Merging an applied configuration into an object, and taking items out of one, along the shape of its kind.

Imitates structured-merge-diff's typed.Merge and typed.RemoveItems. Results share unchanged parts with the arguments, which are left alone.
"""

from __future__ import annotations

from typing import Any

from kubecosm.api.managedfields import sets
from kubecosm.api.managedfields.sets import LEAF, SELF, Node
from kubecosm.api.managedfields.shapes import ABSENT, ListShape, MapShape, Shape


def merge(shape: Shape, live: Any, config: Any) -> Any:
    """`live` with `config` laid over it: leaves of config win, maps and keyed lists are merged item by item. Raises KeyProblem."""
    if config is ABSENT:
        return live
    if live is ABSENT or shape.atomic or not (live or config):
        return config
    if isinstance(shape, MapShape) and _both(dict, live, config):
        return _merge_maps(shape, live or LEAF, config or LEAF)
    if isinstance(shape, ListShape) and _both(list, live, config):
        return _merge_lists(shape, live or [], config or [])
    return config


def _both(kind: type, live: Any, config: Any) -> bool:
    return (live is None or type(live) is kind) and (config is None or type(config) is kind)


def _merge_maps(shape: MapShape, live: Node, config: Node) -> Node:
    result = {}
    for name, value in live.items():
        other = config.get(name, ABSENT)
        result[name] = value if other is ABSENT else merge(shape.child(name) or Shape(), value, other)
    return result | {name: value for name, value in config.items() if name not in live}


def _merge_lists(shape: ListShape, live: list[Any], config: list[Any]) -> list[Any]:
    """Items of config in config's order; an item only in live stays before the shared item that it preceded."""
    was, now = shape.index(live), shape.index(config)
    merged: list[Any] = []
    old_keys, new_keys = list(was), list(now)
    shared = [key for key in new_keys if key in was]
    old_at = new_at = shared_at = 0

    def take(key: str) -> None:
        befores, news = was.get(key, []), now.get(key, [])
        if not news:
            merged.extend(befores)
        else:
            merged.append(merge(shape.elem, befores[0] if befores else ABSENT, news[0]))

    while old_at < len(old_keys) or new_at < len(new_keys):
        if old_at < len(old_keys):
            key = old_keys[old_at]
            if new_at < len(new_keys) and key == new_keys[new_at]:
                take(key)
                old_at, new_at, shared_at = old_at + 1, new_at + 1, shared_at + 1
                continue
            next_shared = shared[shared_at] if shared_at < len(shared) else None
            if new_at < len(new_keys) and key in now and next_shared is not None and next_shared != key:
                old_at += 1  # shared, but its turn comes in config's order
                continue
            if key not in now:
                take(key)
                old_at += 1
                continue
        if new_at < len(new_keys):
            key = new_keys[new_at]
            take(key)
            new_at += 1
            if shared_at < len(shared) and shared[shared_at] == key:
                shared_at += 1
        else:
            old_at += 1  # a shared item that was taken already
    return merged


def remove(shape: Shape | None, value: Any, fields: Node) -> Any:
    """`value` without the members of a set; what is owned as a whole goes only as a whole. Raises KeyProblem."""
    if not fields or shape is None or not value or shape.atomic:
        return value
    if isinstance(shape, MapShape) and type(value) is dict:
        result = {}
        for name, item in value.items():
            below = fields.get(f"f:{name}")
            if below is None:
                result[name] = item
            elif not sets.is_member(below):
                result[name] = remove(shape.child(name), item, below)
        return result or None
    if isinstance(shape, ListShape) and type(value) is list:
        kept = []
        for item in value:
            below = fields.get(shape.key(item))
            if below is None:
                kept.append(item)
            elif not sets.is_member(below):
                kept.append(remove(shape.elem, item, {key: child for key, child in below.items() if key != SELF}))
        return kept or None
    return value

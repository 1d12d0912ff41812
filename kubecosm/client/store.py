"""A cache of one resource: objects by key, and indexes over them. Only its informer writes; everyone else reads.

Objects in it are shared and frozen: copy before changing. Readers never see half a list, because `replace` swaps everything at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from kubecosm.api.meta import Key, key_of
from kubecosm.api.resources import Object

IndexFn = Callable[[Object], Collection[str]]
"""The values under which an object is found."""

INDEX_NAMESPACE = "namespace"


class Change(NamedTuple):
    """What a write did to one key: old None means added, new None means deleted."""

    old: Object | None
    new: Object | None


Objects = list[Object]
Changes = list[Change]


class Store:
    """Read with `get`, `list`, `by_index`; `resource_version` tells how far the cache has followed the server."""

    def __init__(self, indexers: Mapping[str, IndexFn] | None = None) -> None:
        self._objects: dict[Key, Object] = {}
        self._index_fns: dict[str, IndexFn] = {INDEX_NAMESPACE: lambda obj: (obj["metadata"].get("namespace", ""),), **(indexers or {})}
        self._indexes: dict[str, dict[str, dict[Key, Object]]] = {}
        self.resource_version = 0
        """Every change up to this cluster-wide version is in the cache; 0 before the first list."""

    # Reading

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str | None = None) -> Objects:
        """All objects, or those of one namespace, in no particular order."""
        return list(self._objects.values()) if namespace is None else self.by_index(INDEX_NAMESPACE, namespace)

    def by_index(self, name: str, value: str) -> Objects:
        """The objects for which the index function `name` gives `value`. Raises KeyError for an index that was never declared."""
        return list(self._index(name).get(value, {}).values())

    def index_values(self, name: str) -> tuple[str, ...]:
        """The values that at least one object has in this index."""
        return tuple(self._index(name))

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def __iter__(self) -> Iterator[Object]:
        return iter(self.list())

    # Indexes

    def add_indexers(self, indexers: Mapping[str, IndexFn]) -> None:
        """Declare more indexes, at any time. Raises ValueError when a name is taken by another function."""
        for name, index_fn in indexers.items():
            if self._index_fns.setdefault(name, index_fn) is not index_fn:
                raise ValueError(f"another index is called {name!r}")

    def _index(self, name: str) -> dict[str, dict[Key, Object]]:
        """An index is built when it is first asked for: many are declared, few are used in one process."""
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes[name] = _build(self._index_fns[name], self._objects)
        return index

    # Writing: the informer's side

    def apply(self, obj: Object) -> Change:
        """Add or replace one object."""
        key = key_of(obj)
        old = self._objects.get(key)
        self._objects[key] = obj
        for name, index in self._indexes.items():
            index_fn = self._index_fns[name]
            values = index_fn(obj)
            if old is not None and (before := index_fn(old)) != values:
                _remove(index, key, before, keep=values)
            for value in values:
                bucket = index.get(value)
                if bucket is None:
                    index[value] = {key: obj}
                else:
                    bucket[key] = obj
        return Change(old, obj)

    def delete(self, key: Key) -> Change:
        """Remove one object; both sides of the change are None if it was not there."""
        old = self._objects.pop(key, None)
        if old is not None:
            for name, index in self._indexes.items():
                _remove(index, key, self._index_fns[name](old))
        return Change(old, None)

    def replace(self, objects: Iterable[Object]) -> Changes:
        """Swap the whole content at once; the changes name what vanished first, then what is new or differs in resourceVersion.

        An object whose resourceVersion is the same stays the one that is there: its readers may compare by identity.
        """
        before, after = self._objects, {key_of(obj): obj for obj in objects}
        changes = [Change(old, None) for key, old in before.items() if key not in after]
        for key, new in after.items():
            old = before.get(key)
            if old is not None and old["metadata"].get("resourceVersion") == new["metadata"].get("resourceVersion"):
                after[key] = old
            else:
                changes.append(Change(old, new))
        self._objects = after
        for name in self._indexes:
            self._indexes[name] = _build(self._index_fns[name], after)
        return changes


def _build(index_fn: IndexFn, objects: Mapping[Key, Object]) -> dict[str, dict[Key, Object]]:
    index: dict[str, dict[Key, Object]] = {}
    for key, obj in objects.items():
        for value in index_fn(obj):
            index.setdefault(value, {})[key] = obj
    return index


def _remove(index: dict[str, dict[Key, Object]], key: Key, values: Collection[str], keep: Collection[str] = ()) -> None:
    for value in values:
        if value in keep:
            continue
        bucket = index.get(value)
        if bucket is not None:
            bucket.pop(key, None)
            if not bucket:
                del index[value]

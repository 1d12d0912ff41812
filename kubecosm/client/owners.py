"""From an owned object to the controllers of its owner: one look at the ownerReference for all controllers that share an informer.

A pod is owned by one of half a dozen kinds, each with a controller of its own; without this each of them would look at every pod.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kubecosm.api.meta import Key, controller_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import ChangeFilter
from kubecosm.client.informer import Informer


class _Route(NamedTuple):
    namespaced: bool
    wake: Callable[[Key], None]
    cares: ChangeFilter | None


class OwnerRouter:
    """The handler of one informer that wakes owners."""

    def __init__(self, informer: Informer) -> None:
        self._routes: dict[tuple[str, str], list[_Route]] = {}
        informer.add_handler(self._on_one, self._on_update, self._on_one)

    def add(self, owner: Resource, wake: Callable[[Key], None], cares: ChangeFilter | None) -> None:
        """Wake the controlling `owner` of each object that comes, goes or changes (if the filter lets the change pass)."""
        self._routes.setdefault((owner.group, owner.kind), []).append(_Route(owner.namespaced, wake, cares))

    def _on_one(self, obj: Object) -> None:
        ref = controller_of(obj)
        if ref is not None:
            for route in self._of(ref):
                route.wake(_key(obj, ref, route))

    def _on_update(self, old: Object, new: Object) -> None:
        before, after = controller_of(old), controller_of(new)
        if before is not None and (after is None or before["uid"] != after["uid"]):
            self._wake(old, before, old, new)
        if after is not None:
            self._wake(new, after, old, new)

    def _wake(self, obj: Object, ref: Object, old: Object, new: Object) -> None:
        for route in self._of(ref):
            if route.cares is None or route.cares(old, new):
                route.wake(_key(obj, ref, route))

    def _of(self, ref: Object) -> list[_Route]:
        return self._routes.get((ref["apiVersion"].rpartition("/")[0], ref["kind"]), [])


def _key(obj: Object, ref: Object, route: _Route) -> Key:
    return Key(obj["metadata"].get("namespace", "") if route.namespaced else "", ref["name"])

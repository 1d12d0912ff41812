"""The graph of owners and dependents over all resources. No I/O: events go in, the uids that need a look come out.

Imitates pkg/controller/garbagecollector/graph_builder.go. A node is virtual while only its dependents have told of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from kubecosm.api.meta import is_deleting, uid_of
from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import Object, Resource

ABSENT_OWNERS_MAX = 5000


def owner_references(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def has_finalizer(obj: Object, finalizer: str) -> bool:
    return finalizer in (obj["metadata"].get("finalizers") or ())


def is_deleting_dependents(obj: Object) -> bool:
    """Foreground deletion: it waits for its dependents to go first."""
    return is_deleting(obj) and has_finalizer(obj, FINALIZER_FOREGROUND)


def is_orphaning_dependents(obj: Object) -> bool:
    """It waits for its dependents to forget it."""
    return is_deleting(obj) and has_finalizer(obj, FINALIZER_ORPHAN)


@dataclass(slots=True)
class Node:
    """One object. `resource` None: virtual, known by reference only, and then `obj` has just what the reference tells."""

    resource: Resource | None
    obj: Object
    dependents: set[str] = field(default_factory=set)
    """Uids of the objects that name this one as owner."""

    @property
    def is_virtual(self) -> bool:
        return self.resource is None


class AbsentOwners:
    """Uids of owners known not to exist, so that a thousand dependents cost one question; the oldest are forgotten."""

    def __init__(self, size_max: int = ABSENT_OWNERS_MAX) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()
        self._size_max = size_max

    def add(self, uid: str) -> None:
        self._uids[uid] = None
        self._uids.move_to_end(uid)
        if len(self._uids) > self._size_max:
            self._uids.popitem(last=False)

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids

    def __len__(self) -> int:
        return len(self._uids)


class Graph:
    """Nodes by uid."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self.absent_owners = AbsentOwners()

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def __len__(self) -> int:
        return len(self._nodes)

    def dependents(self, node: Node) -> list[Node]:
        return [found for uid in node.dependents if (found := self._nodes.get(uid)) is not None]

    def observe(self, resource: Resource, obj: Object) -> Iterator[str]:
        """An object was added or changed; yields the uids to look at."""
        uid = uid_of(obj)
        node = self._nodes.get(uid)
        if node is None:
            node = self._nodes[uid] = Node(resource, obj)
            before: Object = {"metadata": {}}
        else:
            before, node.resource, node.obj = node.obj if not node.is_virtual else {"metadata": {}}, resource, obj
        if owner_references(before) != owner_references(obj):
            yield from self._link(uid, owner_references(before), owner_references(obj))
        if is_deleting_dependents(obj) and not is_deleting_dependents(before):
            yield from node.dependents
            yield uid
        if is_orphaning_dependents(obj) and not is_orphaning_dependents(before):
            yield uid

    def _link(self, uid: str, before: list[Object], after: list[Object]) -> Iterator[str]:
        old, new = {ref["uid"]: ref for ref in before}, {ref["uid"]: ref for ref in after}
        for owner_uid, ref in new.items():
            owner = self._nodes.get(owner_uid)
            if owner is None:
                namespace = self._nodes[uid].obj["metadata"].get("namespace", "")
                meta = {"name": ref["name"], "namespace": namespace, "uid": owner_uid}
                owner = self._nodes[owner_uid] = Node(None, {"apiVersion": ref["apiVersion"], "kind": ref["kind"], "metadata": meta})
                yield owner_uid
            owner.dependents.add(uid)
            if owner_uid not in old and (is_deleting_dependents(owner.obj) or owner_uid in self.absent_owners):
                yield uid  # a dependent that came too late
        for owner_uid, ref in old.items():
            unblocked = ref.get("blockOwnerDeletion") and not new.get(owner_uid, {}).get("blockOwnerDeletion")
            former = self._nodes.get(owner_uid)
            if former is None:
                continue
            if owner_uid not in new:
                former.dependents.discard(uid)
                self._drop_if_idle(owner_uid, former)
            if unblocked and is_deleting_dependents(former.obj):
                yield owner_uid
        if old and not new.keys() >= old.keys():
            yield uid  # what it has left may be dangling

    def _drop_if_idle(self, uid: str, node: Node) -> None:
        if node.is_virtual and not node.dependents:
            del self._nodes[uid]

    def forget(self, uid: str) -> Iterator[str]:
        """An object is gone (or never was); yields the uids to look at: its dependents, and owners that wait for it."""
        node = self._nodes.pop(uid, None)
        if node is None:
            return
        if node.dependents:
            self.absent_owners.add(uid)
            yield from node.dependents
        for ref in owner_references(node.obj):
            owner = self._nodes.get(ref["uid"])
            if owner is None:
                continue
            owner.dependents.discard(uid)
            self._drop_if_idle(ref["uid"], owner)
            if is_deleting_dependents(owner.obj):
                yield ref["uid"]

"""The graph of owners and dependents over all resources. No I/O: events go in, the uids that need a look come out.

Imitates pkg/controller/garbagecollector/graph_builder.go. A node is virtual while only its dependents have told of it. References may
name the right uid with a wrong kind, name or namespace: such a reference stands for nothing, whatever others make of that uid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

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


class Identity(NamedTuple):
    """What an owner reference stands for; the namespace is that of the dependent (or empty: a cluster-scoped owner)."""

    uid: str
    group: str
    kind: str
    name: str
    namespace: str


def identity_of(ref: Object, namespace: str) -> Identity:
    return Identity(ref["uid"], ref["apiVersion"].rpartition("/")[0], ref["kind"], ref["name"], namespace)


def node_identity(node: Node) -> Identity:
    meta, kind = node.obj["metadata"], node.resource.kind if node.resource is not None else node.obj["kind"]
    group = node.resource.group if node.resource is not None else node.obj["apiVersion"].rpartition("/")[0]
    return Identity(meta["uid"], group, kind, meta["name"], meta.get("namespace") or "")


def namespace_of(obj: Object) -> str:
    return obj["metadata"].get("namespace") or ""


def names(ref: Object, namespace: str, owner: Node) -> bool:
    """Whether a reference from this namespace names the owner rightly. One that lives in a namespace has its dependents there."""
    identity = node_identity(owner)
    return identity_of(ref, identity.namespace) == identity and identity.namespace in ("", namespace)


class AbsentOwners:
    """Owners known not to exist, so that a thousand dependents cost one question; the oldest are forgotten."""

    def __init__(self, size_max: int = ABSENT_OWNERS_MAX) -> None:
        self._known: OrderedDict[Identity, None] = OrderedDict()
        self._size_max = size_max

    def add(self, identity: Identity) -> None:
        self._known[identity] = None
        self._known.move_to_end(identity)
        if len(self._known) > self._size_max:
            self._known.popitem(last=False)

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._known or identity._replace(namespace="") in self._known

    def __len__(self) -> int:
        return len(self._known)


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
        elif node.is_virtual:
            before, node.resource, node.obj = {"metadata": {}}, resource, obj
            yield from [one for one in node.dependents if not self._names(one, node)]
        else:
            before, node.obj = node.obj, obj
        if owner_references(before) != owner_references(obj):
            yield from self._link(uid, owner_references(before), owner_references(obj))
        if is_deleting_dependents(obj) and not is_deleting_dependents(before):
            yield from node.dependents
            yield uid
        if is_orphaning_dependents(obj) and not is_orphaning_dependents(before):
            yield uid

    def _names(self, uid: str, owner: Node) -> bool:
        """Whether a dependent's reference to this uid means this owner."""
        dependent = self._nodes.get(uid)
        if dependent is None:
            return True
        refs = [ref for ref in owner_references(dependent.obj) if ref["uid"] == uid_of(owner.obj)]
        return all(names(ref, namespace_of(dependent.obj), owner) for ref in refs)

    def _link(self, uid: str, before: list[Object], after: list[Object]) -> Iterator[str]:
        old, new = {ref["uid"]: ref for ref in before}, {ref["uid"]: ref for ref in after}
        namespace = namespace_of(self._nodes[uid].obj)
        for owner_uid, ref in new.items():
            owner = self._nodes.get(owner_uid)
            if owner is None:
                meta = {"name": ref["name"], "namespace": namespace, "uid": owner_uid}
                owner = self._nodes[owner_uid] = Node(None, {"apiVersion": ref["apiVersion"], "kind": ref["kind"], "metadata": meta})
                yield owner_uid
            owner.dependents.add(uid)
            is_late = is_deleting_dependents(owner.obj) or identity_of(ref, namespace) in self.absent_owners
            if owner_uid not in old and (is_late or not names(ref, namespace, owner)):
                yield uid  # a dependent that came too late, or means another owner
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

    def never_was(self, uid: str) -> Iterator[str]:
        """An owner known by reference does not exist, so named; yields its dependents, some of which may name it differently."""
        node = self._nodes.get(uid)
        if node is not None and node.is_virtual:
            self.absent_owners.add(node_identity(node))
            yield from list(node.dependents)

    def forget(self, uid: str) -> Iterator[str]:
        """An object is gone; yields the uids to look at: its dependents, and owners that wait for it."""
        node = self._nodes.pop(uid, None)
        if node is None:
            return
        if node.dependents:
            self.absent_owners.add(node_identity(node))
            yield from node.dependents
        for ref in owner_references(node.obj):
            owner = self._nodes.get(ref["uid"])
            if owner is None:
                continue
            owner.dependents.discard(uid)
            self._drop_if_idle(ref["uid"], owner)
            if is_deleting_dependents(owner.obj):
                yield ref["uid"]

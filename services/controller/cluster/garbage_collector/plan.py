"""What to do with one object of the graph, once it is known how its owners are. Pure functions.

Imitates attemptToDeleteItem of pkg/controller/garbagecollector/garbagecollector.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from kubecosm.api.meta import is_deleting
from kubecosm.api.names import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from kubecosm.api.resources import Object

from .graph import has_finalizer, is_deleting_dependents, owner_references


class OwnerState(Enum):
    """How an owner reference stands."""

    SOLID = "solid"
    """The owner exists and stays."""
    DANGLING = "dangling"
    """The owner does not exist."""
    WAITING = "waiting"
    """The owner is deleted in the foreground and waits for its dependents."""


def owner_state(owner: Object) -> OwnerState:
    """The state of an owner that exists."""
    return OwnerState.WAITING if is_deleting_dependents(owner) else OwnerState.SOLID


@dataclass(frozen=True)
class Keep:
    """Nothing to do."""


@dataclass(frozen=True)
class DropOwners:
    """Other owners stay: take the references to these uids away."""

    uids: tuple[str, ...]


@dataclass(frozen=True)
class Delete:
    """Nobody needs it any more. `unblock` first: a circle of foreground deletions would wait for itself for ever."""

    policy: str
    unblock: bool = False


Action = Keep | DropOwners | Delete


def plan_item(obj: Object, owners: Mapping[str, OwnerState], dependents: Sequence[Object]) -> Action:
    """What becomes of an object with these owners (state by uid) and dependents."""
    states = [owners[ref["uid"]] for ref in owner_references(obj)]
    if not states or is_deleting(obj):
        return Keep()
    if OwnerState.SOLID in states:
        gone = tuple(ref["uid"] for ref in owner_references(obj) if owners[ref["uid"]] is not OwnerState.SOLID)
        return DropOwners(gone) if gone else Keep()
    if OwnerState.WAITING in states and dependents:
        return Delete("Foreground", unblock=any(is_deleting_dependents(dependent) for dependent in dependents))
    if has_finalizer(obj, FINALIZER_ORPHAN):
        return Delete("Orphan")
    return Delete("Foreground" if has_finalizer(obj, FINALIZER_FOREGROUND) else "Background")


def blocks(dependent: Object, owner_uid: str) -> bool:
    """The owner's foreground deletion waits for this dependent."""
    return any(ref["uid"] == owner_uid and ref.get("blockOwnerDeletion") for ref in owner_references(dependent))


def without_owners(obj: Object, uids: Sequence[str]) -> Object:
    """A merge patch that takes the references to these owners away, refused if the object has changed meanwhile."""
    left = [ref for ref in owner_references(obj) if ref["uid"] not in uids]
    return _owners_patch(obj, left)


def unblocked(obj: Object) -> Object:
    """A merge patch after which the object blocks none of its owners."""
    return _owners_patch(obj, [{**ref, "blockOwnerDeletion": False} for ref in owner_references(obj)])


def without_finalizer(obj: Object, finalizer: str) -> Object:
    """A merge patch that takes the finalizer away, refused if the object has changed meanwhile."""
    left = [name for name in obj["metadata"].get("finalizers") or () if name != finalizer]
    return {"metadata": {"resourceVersion": obj["metadata"].get("resourceVersion"), "finalizers": left}}


def _owners_patch(obj: Object, references: list[Object]) -> Object:
    meta = obj["metadata"]
    return {"metadata": {"resourceVersion": meta.get("resourceVersion"), "uid": meta["uid"], "ownerReferences": references}}

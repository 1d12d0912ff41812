"""History of a workload's template in ControllerRevisions, shared by StatefulSets and DaemonSets.

Imitates pkg/controller/history/controller_history.go. `plan_*` functions decide; the coroutines carry out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from kubecosm.api.errors import AlreadyExists, NotFound
from kubecosm.api.meta import annotations_of, controller_ref, is_deleting
from kubecosm.api.resources import CONTROLLERREVISIONS, Object, Resource
from kubecosm.client.controller import Context, ReconcileError

from .hashing import canonical_json

NAME_PREFIX_LENGTH_MAX = 223
COLLISIONS_MAX = 100
"""So many strangers in a row with our names are no accident."""


@dataclass(frozen=True)
class Naming:
    """How a kind of owner names its revisions: the label that carries the hash, and the hash for a collision count."""

    label: str
    hash_of: Callable[[int | None], str]


def template_patch(owner: Object) -> Object:
    """What a revision stores: a strategic merge patch that puts the template back."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def template_of(revision: Object) -> Object:
    """The template that a revision stores."""
    return {field: value for field, value in revision["data"]["spec"]["template"].items() if field != "$patch"}


def by_revision(revisions: Sequence[Object]) -> list[Object]:
    """Oldest first; equal revisions by age, then name."""
    return sorted(revisions, key=lambda r: (r["revision"], r["metadata"].get("creationTimestamp") or "", r["metadata"]["name"]))


def new_revision(owner: Object, resource: Resource, data: Object, number: int, hash_label: str, hash_text: str) -> Object:
    """A ControllerRevision of the owner, named by the hash."""
    meta = owner["metadata"]
    labels = {**((owner["spec"]["template"].get("metadata") or {}).get("labels") or {}), hash_label: hash_text}
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name'][:NAME_PREFIX_LENGTH_MAX]}-{hash_text}",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller_ref(owner, resource)],
        },
        "data": data,
        "revision": number,
    }
    if annotations := annotations_of(owner):
        body["metadata"]["annotations"] = annotations
    return body


@dataclass(frozen=True)
class HistoryPlan:
    """`current` is already the newest revision; or `renumber` an older equal one to `number` (a rollback); or create one."""

    number: int
    current: Object | None = None
    renumber: Object | None = None


def plan_history(revisions: Sequence[Object], data: Object) -> HistoryPlan:
    """How `data` becomes the newest of the revisions."""
    ordered = by_revision(revisions)
    number = ordered[-1]["revision"] + 1 if ordered else 1
    wanted = canonical_json(data)
    equal = [revision for revision in ordered if canonical_json(revision.get("data")) == wanted]
    if not equal:
        return HistoryPlan(number)
    if equal[-1] is ordered[-1]:
        return HistoryPlan(number, current=ordered[-1])
    return HistoryPlan(number, renumber=equal[-1])


def plan_truncation(revisions: Sequence[Object], live: Collection[str], limit: int | None) -> list[Object]:
    """The oldest revisions beyond `limit` that nothing uses; `live` are names in use. None keeps everything."""
    if limit is None:
        return []
    idle = [r for r in by_revision(revisions) if r["metadata"]["name"] not in live and not is_deleting(r)]
    return idle[: max(len(idle) - limit, 0)]


async def create_revision(
    ctx: Context, owner: Object, resource: Resource, data: Object, number: int, naming: Naming, collisions: int | None
) -> tuple[Object, int | None]:
    """Create the revision; a name taken by other data counts a collision and hashes again. Returns it and the collision count."""
    for _ in range(COLLISIONS_MAX):
        body = new_revision(owner, resource, data, number, naming.label, naming.hash_of(collisions))
        meta = body["metadata"]
        try:
            created = await ctx.client.create(CONTROLLERREVISIONS, body, meta["namespace"])
        except AlreadyExists:
            namesake = await ctx.client.get(CONTROLLERREVISIONS, meta["name"], meta["namespace"])
            if canonical_json(namesake.get("data")) == canonical_json(data):
                return namesake, collisions
            collisions = (collisions or 0) + 1
            continue
        ctx.expect_written(created)
        return created, collisions
    raise ReconcileError(f"{COLLISIONS_MAX} names for a revision of {owner['metadata']['name']} are taken")


async def renumber_revision(ctx: Context, revision: Object, number: int) -> Object:
    """Make an old revision the newest again."""
    if revision["revision"] == number:
        return revision
    updated = await ctx.client.update(CONTROLLERREVISIONS, {**revision, "revision": number})
    ctx.expect_written(updated)
    return updated


async def delete_all(ctx: Context, revisions: Iterable[Object]) -> None:
    """Delete these revisions, one after the other; one that is gone already is fine."""
    for revision in revisions:
        meta = revision["metadata"]
        try:
            await ctx.client.delete(CONTROLLERREVISIONS, meta["name"], meta["namespace"])
        except NotFound:
            continue
        ctx.expect_deleted(revision)

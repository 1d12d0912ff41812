"""Server-side apply: merge a configuration into the live object, take over or dispute ownership, drop what the manager no longer applies.

Imitates structured-merge-diff's merge.Updater.Apply and apimachinery's field managers around it (before-first-apply, kubectl's last-applied
annotation). Left out: conversion between versions of a kind.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from kubecosm.api.errors import ApiError, BadRequest, Conflict, InternalError
from kubecosm.api.managedfields import entries, sets
from kubecosm.api.managedfields.entries import APPLY, UPDATE, Manager, Managers, Owned
from kubecosm.api.managedfields.kinds import ensure_named, shape_of_resource
from kubecosm.api.managedfields.merge import merge, remove
from kubecosm.api.managedfields.sets import LEAF, Node
from kubecosm.api.managedfields.shapes import KeyProblem, MapShape
from kubecosm.api.managedfields.update import changes, disown, reset_fields, strip, zero_object
from kubecosm.api.managedfields.validate import complaints
from kubecosm.api.names import ANNOTATION_LAST_APPLIED
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema.wire import normalize
from kubecosm.api.times import format_time

BEFORE_FIRST_APPLY = "before-first-apply"
KUBECTL = "kubectl"
"""The manager whose earlier client-side applies count as its own."""


class ApplyConflicts(Exception):
    """Fields that others own and the applied configuration would change."""

    def __init__(self, fields: dict[Manager, Node]) -> None:
        super().__init__("conflicts")
        self.fields = fields


def apply(
    resource: Resource, live: Object | None, applied: Object, manager: str, force: bool, now: datetime, subresource: str = "",
) -> Object:  # fmt: skip
    """The object that results from `manager` applying a configuration, as parsed (neither decoded nor defaulted), to the live one.

    Without a live object one is created. The result is decoded but not defaulted; if the configuration changes nothing, only managedFields
    may differ from live. Raises BadRequest (wrong version or kind, managedFields given), Conflict with one cause per disputed field, or a
    plain 500 when the configuration does not fit the schema.
    """
    _check(resource, applied)
    base = zero_object(resource) if live is None else live
    managers = entries.decode(base["metadata"].get("managedFields"))
    if managers is None:
        raise InternalError("failed to decode managed fields: invalid entry", reason="")
    shape = shape_of_resource(resource, typed=False)
    if problem := complaints(shape, applied):
        raise ApiError(f"failed to create typed patch object ({_described(resource, applied)}): {problem}")
    run = _Run(resource, shape, base, applied, now, subresource)
    try:
        if not managers and live is not None:
            run.claim_existing(managers)
        merged, managers = run.apply(managers, manager, force)
    except ApplyConflicts as conflicts:
        if manager != KUBECTL or conflicts_left(conflicts, base, shape):
            raise _conflict(_disputed(conflicts, base, shape) if manager == KUBECTL else conflicts.fields) from None
        merged, managers = run.apply(managers, manager, True)
    except KeyProblem as problem:
        raise ApiError(f"failed to merge config: {problem}") from None
    return run.finish(merged, managers, manager)


class _Run:
    """One apply: what stays the same over its tries."""

    def __init__(self, resource: Resource, shape: MapShape, live: Object, applied: Object, now: datetime, subresource: str) -> None:
        self.resource, self.shape, self.live, self.applied = resource, shape, live, applied
        self.now, self.subresource = format_time(now), subresource
        self.resets = reset_fields(resource, subresource)

    def claim_existing(self, managers: Managers) -> None:
        """An object without any manager: what is there belongs to `before-first-apply`, so that it can be disputed."""
        added, _ = changes(self.shape, zero_object(self.resource), self.live, self.resets)
        fields = strip(added)
        if fields:
            key = entries.manager(BEFORE_FIRST_APPLY, UPDATE, self.resource.api_version, self.subresource)
            managers[key] = Owned(fields, self.resource.api_version, self.now)

    def apply(self, managers: Managers, manager: str, force: bool) -> tuple[Object | None, Managers]:
        """The merged object (None if nothing changes) and the new managers. Raises ApplyConflicts, KeyProblem."""
        managers = dict(managers)
        key = entries.manager(manager, APPLY, self.resource.api_version, self.subresource)
        last = managers.pop(key, None)
        live = {**self.live, "metadata": {k: v for k, v in self.live["metadata"].items() if k != "managedFields"}}
        merged = merge(self.shape, live, self.applied)
        fields = self.shape.fields(self.applied) or LEAF
        fields = sets.recursive_difference(fields, self.resets) if self.resets else fields
        mine = Owned(fields, self.resource.api_version, last.time if last else None)
        if last is not None and last.fields:
            merged = prune(self.shape, merged, last.fields, [fields, *(owned.fields for owned in managers.values())])
        changed, removed = changes(self.shape, live, merged, self.resets)
        if not force:
            disputed = {other: taken for other, owned in managers.items() if (taken := sets.intersection(owned.fields, changed))}
            if disputed:
                raise ApplyConflicts(disputed)
        disown(managers, changed, removed)
        mine.fields = strip(fields)
        if mine.fields:
            managers[key] = mine
        return (None if merged == live else merged), managers

    def finish(self, merged: Object | None, managers: Managers, manager: str) -> Object:
        """The resulting object with its managedFields."""
        if merged is None:
            result = copy.copy(self.live)
            result["metadata"] = dict(self.live["metadata"])
        else:
            key = entries.manager(manager, APPLY, self.resource.api_version, self.subresource)
            if key in managers:
                managers[key] = Owned(managers[key].fields, managers[key].api_version, self.now)
            result = normalize(self.resource, merged)
        entries.cap_updaters(managers)
        metadata = result.setdefault("metadata", {})
        metadata.pop("managedFields", None)
        if managers:
            metadata["managedFields"] = entries.encode(managers)
        if manager == KUBECTL and ANNOTATION_LAST_APPLIED in (metadata.get("annotations") or {}):
            metadata["annotations"] = {**metadata["annotations"], ANNOTATION_LAST_APPLIED: _last_applied(self.applied)}
        return result


def prune(shape: MapShape, merged: Object, last: Node, owned: Iterable[Node]) -> Object:
    """Remove what the manager applied last time and nobody owns now (Updater.prune)."""
    owners: Node = LEAF
    for fields in owned:
        owners = sets.union(owners, fields)
    last, owners = ensure_named(shape, last), ensure_named(shape, owners)
    everything = ensure_named(shape, shape.fields(merged) or LEAF)
    pruned = remove(shape, merged, last) or {}
    kept = sets.union(ensure_named(shape, shape.fields(pruned) or LEAF), owners)
    pruned = remove(shape, merged, sets.difference(everything, kept)) or {}
    gone = sets.difference(everything, ensure_named(shape, shape.fields(pruned) or LEAF))
    result: Object = remove(shape, merged, sets.intersection(gone, last)) or {}
    return result


def _check(resource: Resource, applied: Object) -> None:
    api_version, kind = (value if isinstance(value, str) else "" for value in (applied.get("apiVersion"), applied.get("kind")))
    if (api_version, kind) != (resource.api_version, resource.kind):
        raise BadRequest(f"invalid object type: {_go_kind(api_version, kind)}")
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")


def _described(resource: Resource, applied: Object) -> str:
    raw = applied.get("metadata")
    metadata = raw if isinstance(raw, dict) else {}
    namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
    return f"{namespace}/{name}; {_go_kind(resource.api_version, resource.kind)}"


def _go_kind(api_version: str, kind: str) -> str:
    """A GroupVersionKind as Go prints it: the core group is the empty one before the slash."""
    return f"{api_version if '/' in api_version else f'/{api_version}'}, Kind={kind}"


def conflicts_left(conflicts: ApplyConflicts, live: Object, shape: MapShape) -> bool:
    """Whether any dispute remains once fields of kubectl's last client-side apply are conceded to it."""
    return any(_disputed(conflicts, live, shape).values())


def _disputed(conflicts: ApplyConflicts, live: Object, shape: MapShape) -> dict[Manager, Node]:
    allowed = _client_side_applied(live, shape)
    left = {manager: sets.difference(fields, allowed) for manager, fields in conflicts.fields.items()}
    return {manager: fields for manager, fields in left.items() if fields}


def _client_side_applied(live: Object, shape: MapShape) -> Node:
    """Fields of the last-applied annotation whose live value is still the applied one."""
    text = (live["metadata"].get("annotations") or {}).get(ANNOTATION_LAST_APPLIED)
    try:
        applied = orjson.loads(text) if text else None
        if not isinstance(applied, dict) or complaints(shape, applied):
            return LEAF
        fields = shape.fields(applied) or LEAF
        changed, _ = changes(shape, live, merge(shape, live, applied), LEAF)
    except (ValueError, KeyProblem):
        return LEAF
    return sets.difference(sets.difference(fields, changed), {"f:apiVersion": LEAF, "f:kind": LEAF})


def _last_applied(applied: Object) -> str:
    """The annotation's text for a configuration: itself, without the annotation."""
    metadata = dict(applied.get("metadata") or {})
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != ANNOTATION_LAST_APPLIED}
    metadata["annotations"] = annotations
    return orjson.dumps({**applied, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"


def _conflict(disputed: dict[Manager, Node]) -> Conflict:
    """The refusal, with a cause for each field (NewConflictError)."""
    found: list[tuple[Manager, str]] = [(manager, path) for manager, fields in disputed.items() for path in sets.paths(fields)]
    causes: list[Any] = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path} for manager, path in found
    ]
    if len(found) == 1:
        message = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {found[0][1]}"
    else:
        lines = []
        for manager in sorted(disputed, key=str):
            lines += [f"conflicts with {manager}:", *(f"- {path}" for other, path in found if other == manager)]
        message = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return Conflict(message, details={"causes": causes})

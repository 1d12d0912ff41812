"""Ownership on create, update and patch: who wrote a field last by any other way than apply.

Imitates structured-merge-diff's merge.Updater and apimachinery's chain of field managers. Left out: conversion between versions of a kind
(the sets of managers that wrote in another version are compared by their paths as they are), and repair of sets after schema changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from kubecosm.api.managedfields import entries, sets
from kubecosm.api.managedfields.entries import UPDATE, Managers, Owned
from kubecosm.api.managedfields.kinds import shape_of_resource
from kubecosm.api.managedfields.sets import LEAF, Node
from kubecosm.api.managedfields.shapes import ABSENT, KeyProblem, MapShape
from kubecosm.api.resources import PODS, CustomResource, Object, Resource
from kubecosm.api.schema import prune
from kubecosm.api.schema.fast import checker
from kubecosm.api.schema.model import schemas
from kubecosm.api.times import format_time

STRIPPED = sets.from_paths("apiVersion", "kind")
IDENTITY = frozenset((
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion",
))  # fmt: skip
STRIPPED_METADATA = frozenset(f"f:{name}" for name in IDENTITY)
"""Nobody owns these."""
UNOWNED = frozenset(("apiVersion", "kind", "metadata"))
"""Parts of an object whose fields nobody owns, or that are looked at apart."""

SPECS_REMEMBERED_MAX = 256
SPEC_BYTES_MAX = 16_384
"""Longer specs are not remembered."""
_SPEC, _STATUS = sets.from_paths("spec"), sets.from_paths("status")
RESETS: Mapping[tuple[str, str], Node] = {
    ("pods", "status"): sets.from_paths("spec", "metadata.deletionTimestamp", "metadata.ownerReferences"),
    ("deployments.apps", "status"): sets.from_paths("spec", "metadata.labels"),
    ("customresourcedefinitions.apiextensions.k8s.io", "status"): sets.from_paths("metadata", "spec"),
    ("namespaces", "finalize"): _STATUS,
    ("certificatesigningrequests.certificates.k8s.io", ""): sets.from_paths("spec", "status"),
    ("certificatesigningrequests.certificates.k8s.io", "status"): sets.from_paths("spec", "status.conditions"),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): sets.from_paths("spec", "status.certificate"),
}
"""Fields that a (group resource, subresource) overwrites whatever the client sent, where they are not simply those of the other side
(`GetResetFields` of the strategies): writing to the resource resets status, writing to status resets spec."""


def on_create(resource: Resource, obj: Object, manager: str, now: datetime, subresource: str = "") -> None:
    """Record, in place, that `manager` (see entries.manager_name) set every field of a new object, as decoded and defaulted.

    Empty lists stay for validation to see; prune the object before it is stored.
    """
    facts, metadata = facts_of(resource), obj.setdefault("metadata", {})
    if subresource or "managedFields" in metadata or (resource.group_resource, "") in RESETS:
        _update(facts, resource, obj, facts.zero, manager, now, subresource, is_create=True)
        return
    try:
        own = set_by_creator(facts, obj, resets_status=bool(reset_fields(resource, "")))
    except KeyProblem:
        return
    if own:
        owned = Owned(own, resource.api_version, format_time(now))
        metadata["managedFields"] = entries.encode({entries.manager(manager, UPDATE, resource.api_version): owned})


def set_by_creator(facts: Facts, obj: Object, *, resets_status: bool) -> Node:
    """What a new object has beyond the empty one, as `changes` and `strip` would find it. Raises KeyProblem."""
    zero, shape, meta = facts.zero, facts.shape, facts.shape.child("metadata")
    own: Node = {}
    if isinstance(meta, MapShape):
        for name, value in obj["metadata"].items():
            if name not in IDENTITY and (changed := meta.field_of_new(name, ABSENT, value)) is not None:
                own["f:" + name] = changed
        if own:
            own = {"f:metadata": own}
    for name, value in obj.items():
        if name not in UNOWNED and not (resets_status and name == "status"):
            known = facts.known if name == "spec" else None
            changed = known.of(shape, zero, value) if known is not None else shape.field_of_new(name, zero.get(name, ABSENT), value)
            if changed is not None:
                own["f:" + name] = changed
    return own


def on_update(resource: Resource, new: Object, old: Object, manager: str, now: datetime, subresource: str = "") -> None:
    """Record, in place in `new`, what `manager` changed against the live object `old`.

    A write that changes no field leaves the entries equal to the live ones, with their times. Prunes `new`, so that it compares with `old`.
    """
    _update(facts_of(resource), resource, new, old, manager, now, subresource, is_create=False)
    prune(new, old)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a kind's schema says of ownership."""

    definition: str
    """The name of its definition; empty for custom resources."""
    shape: MapShape
    zero: Object
    """What Go's empty struct of the kind looks like: fields already there do not count as set by a creator."""
    known: KnownSpecs | None = None
    """For kinds of which many objects have the same spec."""


class KnownSpecs:
    """What creators of objects with the same spec set in it: pods of one template differ in their metadata alone."""

    def __init__(self) -> None:
        self._known: dict[bytes, Node | None] = {}

    def of(self, shape: MapShape, zero: Object, spec: Any) -> Node | None:
        """The node of the spec of a new object. Raises KeyProblem."""
        text = orjson.dumps(spec)
        try:
            return self._known[text]
        except KeyError:
            node = shape.field_of_new("spec", zero.get("spec", ABSENT), spec)
        if len(self._known) >= SPECS_REMEMBERED_MAX:
            self._known.clear()
        if len(text) <= SPEC_BYTES_MAX:
            self._known[text] = node
        return node


def facts_of(resource: Resource) -> Facts:
    """Facts of a kind, kept for the built-in ones."""
    found = _facts.get(resource)
    if found is None:
        shape = shape_of_resource(resource)
        definition = schemas().of_kind(resource.api_version, resource.kind)
        if definition is None:
            return Facts("", shape, {"metadata": {}})
        known = KnownSpecs() if resource == PODS else None
        found = _facts[resource] = Facts(definition.name, shape, checker(definition.name)({}), known)
    return found


_facts: dict[Resource, Facts] = {}


def zero_object(resource: Resource) -> Object:
    """The object that everything is created from."""
    return facts_of(resource).zero


def _update(
    facts: Facts, resource: Resource, new: Object, old: Object, manager: str, now: datetime, subresource: str, *, is_create: bool,
) -> None:  # fmt: skip
    metadata = new.setdefault("metadata", {})
    before = old["metadata"].get("managedFields")
    given = metadata.get("managedFields")
    managers = _known(given, before, is_subresource=bool(subresource))
    if not managers and not is_create:
        metadata.pop("managedFields", None)
        return
    try:
        changed, removed = changes(facts.shape, old, new, reset_fields(resource, subresource))
    except KeyProblem:
        _put(metadata, before or [])
        return
    if not changed and not removed and managers and (not given or given == before):
        _put(metadata, before or [])
        return
    disown(managers, changed, removed)
    own = strip(changed)
    if own:
        key = entries.manager(manager, UPDATE, resource.api_version, subresource)
        previous = managers.get(key)
        fields = own if previous is None else sets.union(own, previous.fields)
        managers[key] = Owned(fields, resource.api_version, format_time(now))
    entries.cap_updaters(managers)
    _put(metadata, entries.encode(managers))


def _put(metadata: Object, found: list[Object]) -> None:
    if found:
        metadata["managedFields"] = found
    else:
        metadata.pop("managedFields", None)


def _known(given: Any, before: Any, *, is_subresource: bool) -> Managers:
    """The managers a request starts from: those it sends if they make sense (never through a subresource), else the live object's."""
    if not is_subresource and given and given is not before:
        if entries.is_reset(given):
            return {}
        sent = entries.decode(given)
        if sent:
            return sent
    return entries.decode(before) or {}


def reset_fields(resource: Resource, subresource: str) -> Node:
    """What writes through this (sub)resource cannot change, so cannot own."""
    key = (resource.group_resource, subresource)
    found = _resets.get(key)
    if found is None:
        usual = _SPEC if subresource == "status" else LEAF
        if not subresource and resource.subresource("status") is not None:
            usual = _STATUS
        found = RESETS.get(key, usual)
        if len(_resets) < RESETS_KEPT_MAX and not isinstance(resource, CustomResource):  # whose subresources may change
            _resets[key] = found
    return found


RESETS_KEPT_MAX = 512
_resets: dict[tuple[str, str], Node] = {}


def changes(shape: MapShape, old: Object, new: Object, resets: Node) -> tuple[Node, Node]:
    """(added or modified, removed) fields from old to new, without those that are reset or managedFields itself."""
    changed, removed = shape.compare(_without_managed_fields(old), _without_managed_fields(new))
    if resets:
        changed = changed and sets.recursive_difference(changed, resets)
        removed = removed and sets.recursive_difference(removed, resets)
    return changed or LEAF, removed or LEAF


def _without_managed_fields(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not metadata or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}


def disown(managers: Managers, changed: Node, removed: Node) -> None:
    """Take changed and removed fields from everybody, dropping those left with nothing."""
    for key, owned in list(managers.items()):
        fields = owned.fields
        if changed and (taken := sets.intersection(fields, changed)):
            fields = sets.difference(fields, taken)
        if removed:
            fields = sets.difference(fields, removed)
        if not fields:
            del managers[key]
        elif fields is not owned.fields:
            managers[key] = Owned(fields, owned.api_version, owned.time)


def strip(fields: Node) -> Node:
    """The set without identity and what the server itself writes (stripMetaManager)."""
    if "f:metadata" not in fields and "f:kind" not in fields and "f:apiVersion" not in fields:
        return fields
    result = {key: below for key, below in fields.items() if key not in STRIPPED}
    metadata = result.pop("f:metadata", LEAF)
    kept = {key: below for key, below in metadata.items() if key not in STRIPPED_METADATA and key != sets.SELF}
    if kept:
        return {"f:metadata": kept, **result}
    return result


def keep_times_if_unchanged(new: Object, old: Object) -> bool:
    """Whether an update changes nothing but times in managedFields; if so they are set back, so that nothing need be written."""
    mine, theirs = new["metadata"].get("managedFields") or [], old["metadata"].get("managedFields") or []
    if len(mine) != len(theirs) or any(_timeless(a) != _timeless(b) for a, b in zip(mine, theirs, strict=True)):
        return False
    if any(new.get(name) != old.get(name) for name in ("status", "spec")):  # where changes mostly are
        return False
    if _without_managed_fields(new) != _without_managed_fields(old):
        return False
    _put(new["metadata"], theirs)
    return True


def _timeless(entry: Object) -> Object:
    return {name: value for name, value in entry.items() if name != "time"}

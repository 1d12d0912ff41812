"""The generic store of one served resource: how objects are created, changed and removed, whatever their kind.

Verbs (writes.py, patch.py, …) turn requests into calls of it. Imitates k8s.io/apiserver/pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kubecosm.api import errors
from kubecosm.api.errors import BadRequest, Conflict
from kubecosm.api.field import FieldError, invalid, invalid_kind, invalid_value
from kubecosm.api.managedfields import keep_times_if_unchanged
from kubecosm.api.resources import Object

from ..admission.chain import Attributes
from ..aside import Laborious
from ..cache.entry import Entry, with_revision
from ..registry.meta import check_meta_update
from ..registry.strategy import Strategy
from . import deletion
from .creating import Creating
from .objectmeta import encode, keep_system_fields, set_namespace
from .options import DeleteOptions
from .storedkind import CONFLICT_ATTEMPTS_MAX, Caller, Change

__all__ = ["CONFLICT_ATTEMPTS_MAX", "Caller", "Change", "Deleted", "Projection", "ResourceStore"]


@dataclass(frozen=True)
class Deleted:
    """What became of a delete: `gone` says whether the object is removed or only marked; `entry` is its last state."""

    gone: bool
    entry: Entry


class Projection(NamedTuple):
    """How admission sees an object whose subresource has a kind of its own (Scale)."""

    show: Callable[[Object], Object]
    take: Callable[[Object, Object], Object]
    """(what was shown, as admission left it; the object) → the object with what admission changed."""


class Changing(NamedTuple):
    """One try of a change: the stored entry, the wanted object, the stored one."""

    entry: Entry
    obj: Object
    old: Object
    strategy: Strategy
    projection: Projection | None


class ResourceStore(Creating):
    """Creates (as `creating` tells), changes and removes objects of one resource."""

    deletes_on_its_own = False
    """Whether Kubernetes checks the preconditions of this kind's deletes before its generic registry does."""

    # ---- changing

    async def update(
        self, namespace: str, name: str, change: Change, caller: Caller, *, subresource: str = "", strategy: Strategy | None = None,
        create: Callable[[], Object] | None = None, projection: Projection | None = None, leaves_old: bool = False,
    ) -> tuple[Entry, bool]:  # fmt: skip
        """Change an object; the answer says whether it was created.

        `change` is called again with the newest state when somebody else was faster, and must answer a new dict each time.

        `create` makes the object to create when there is none, where the kind allows that. `projection` is what admission sees
        instead of the object. `leaves_old`: neither `change` nor the strategy alters what it gets, and what it makes may share parts of it,
        so one decoded copy does. Raises ApiError.
        """
        strategy = strategy or self.strategy
        key = self.key_of(namespace, name)
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.cache.get(key)
            if entry is None:
                if create is None:
                    raise errors.not_found(self.row, name)
                return await self._create_on_update(create(), namespace, name, caller), True
            old = entry.decode()
            obj = change(old if leaves_old else entry.decode())
            self._begin_change(obj, old, namespace, name, strategy)
            result = await self._update_once(Changing(entry, obj, old, strategy, projection), namespace, subresource, caller)
            if result is not None:
                return result, False
            # somebody was faster: once more, unless the wanted object names the version it replaces
        raise errors.modified_conflict(self.row, name)

    async def _create_on_update(self, obj: Object, namespace: str, name: str, caller: Caller) -> Entry:
        """An update or apply of what does not exist. Raises Conflict if the object was meant to exist."""
        meta = obj["metadata"]
        _check_name(meta, name)
        if meta.get("uid"):
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
            raise errors.conflict(self.row, name, why)
        return await self.create(obj, namespace, caller, by_update=True)

    def _begin_change(self, obj: Object, old: Object, namespace: str, name: str, strategy: Strategy) -> None:
        """Check that the wanted object is the stored one, and restore what a client cannot change. Raises ApiError."""
        meta, old_meta = obj["metadata"], old["metadata"]
        self._check_identity(meta, old_meta, name)
        set_namespace(meta, self.row, namespace)
        self._check_version(meta, old_meta, name, strategy)
        keep_system_fields(meta, old_meta)

    async def _update_once(self, change: Changing, namespace: str, subresource: str, caller: Caller) -> Entry | None:
        """None if somebody was faster."""
        obj, old, strategy, projection = change.obj, change.old, change.strategy, change.projection
        seen, seen_old = (obj, old) if projection is None else (projection.show(obj), projection.show(old))
        attributes = Attributes(
            "UPDATE", self.row, subresource, self._admission_namespace(namespace), old["metadata"]["name"], seen, seen_old, caller.user,
            caller.dry_run, caller.options, caller.notes,
        )  # fmt: skip
        try:
            pending = self.state.admission.admit(attributes)
            if pending is not None:
                await pending
            assert attributes.obj is not None
            obj = attributes.obj if projection is None else projection.take(attributes.obj, obj)
            if strategy.is_stateful:
                attributes.when_settled(strategy.begin_update(obj, old, dry_run=caller.dry_run))
            try:
                self._complete_changed(obj, old, strategy)
            except Laborious as labor:
                await self.state.aside.settle(labor)
                self._complete_changed(obj, old, strategy)
            for text in strategy.tolerated:
                attributes.warn(text)
            pending = self.state.admission.validate(attributes)
            if pending is not None:
                await pending
            if attributes.settlers is None:
                return await self._replace(change.entry, obj, old, caller)
            return await self.state.settle(self._replace(change.entry, obj, old, caller), attributes.hand_over())
        except BaseException:
            attributes.give_up()
            raise

    def _complete_changed(self, obj: Object, old: Object, strategy: Strategy) -> None:
        """Prepare and check an admitted change. Raises Invalid."""
        meta, old_meta = obj["metadata"], old["metadata"]
        if "generation" in old_meta:
            meta["generation"] = old_meta["generation"]
        else:
            meta.pop("generation", None)
        strategy.prepare_for_update(obj, old)
        found: list[FieldError] = []
        check_meta_update(meta, old_meta, found)
        found += strategy.validate_update(obj, old)
        if found:
            raise invalid(self.row, meta["name"], found)
        strategy.canonicalize(obj)

    def _check_identity(self, meta: Object, old_meta: Object, name: str) -> None:
        _check_name(meta, name)
        uid = meta.get("uid")
        if uid and uid != old_meta.get("uid"):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old_meta.get('uid', '')}"
            raise errors.conflict(self.row, name, why)

    def _check_version(self, meta: Object, old_meta: Object, name: str, strategy: Strategy) -> None:
        version = meta.get("resourceVersion")
        if version and version != "0":
            if version != old_meta["resourceVersion"]:
                raise errors.modified_conflict(self.row, name)
        elif not strategy.allow_unconditional_update:
            missing = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid_kind(self.row.group, self.row.plural, name, [missing])  # Kubernetes names the resource here, not the kind
        meta["resourceVersion"] = old_meta["resourceVersion"]

    async def _replace(self, entry: Entry, obj: Object, old: Object, caller: Caller) -> Entry | None:
        """Store the changed object, or remove it if this change released its last finalizer; None if somebody was faster.

        A change of nothing, or only of times in managedFields, is not written.
        """
        if (obj == old or keep_times_if_unchanged(obj, old)) and not self._is_stale(entry):
            return entry
        value = encode(obj)
        if self.is_released(obj, old):
            removed = await self.remove(entry, caller)
            return None if removed is None else Entry(entry.key, with_revision(value, entry.revision), removed)
        return await self._write(entry, value, caller)

    def _is_stale(self, entry: Entry) -> bool:
        """Whether it is stored otherwise than it would be written now: encrypted with an old key, or not at all."""
        encryption = self.state.encryption
        return encryption is not None and encryption.is_stale(self.prefix + entry.key)

    def is_released(self, obj: Object, old: Object) -> bool:
        """Whether this update of an object that is being deleted lets it go."""
        return deletion.is_released(obj["metadata"], old["metadata"])

    # ---- removing

    async def delete(
        self, namespace: str, name: str, options: DeleteOptions, caller: Caller, *, is_admitted: bool = False
    ) -> Deleted:
        """Remove an object, or mark it as being deleted if it has finalizers or a grace period.

        `is_admitted`: the delete is part of something that has been admitted (an eviction). Raises ApiError.
        """
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry(namespace, name)
            self._check_preconditions(entry, options)
            obj = entry.decode()
            attributes = None if is_admitted else await self._admit_delete(obj, namespace if self.row.namespaced else "", name, caller)
            plan = deletion.plan(obj, options, self.strategy, self.state.clock.now())
            carried_out = self._carry_out(entry, plan, caller)
            if attributes is None or attributes.settlers is None:
                outcome = await carried_out
            else:
                outcome = await self.state.settle(carried_out, attributes.hand_over())
            if outcome is not None:
                return outcome
        raise errors.modified_conflict(self.row, name)

    async def _admit_delete(self, obj: Object, namespace: str, name: str, caller: Caller) -> Attributes:
        """The admitted delete, to be handed over. A delete of a collection names no object. Raises ApiError."""
        attributes = Attributes(
            "DELETE", self.row, "", namespace, "" if caller.is_collection else name, None, obj, caller.user, caller.dry_run,
            caller.options, caller.notes,
        )  # fmt: skip
        await self.state.admission.ask(attributes)
        return attributes

    async def _carry_out(self, entry: Entry, plan: deletion.Plan, caller: Caller) -> Deleted | None:
        """None if the object has changed meanwhile."""
        if plan.obj is not None:
            value = encode(plan.obj)
            if plan.remove:
                revision = await self.remove(entry, caller)
                return None if revision is None else Deleted(True, Entry(entry.key, with_revision(value, revision), revision))
            written = await self._write(entry, value, caller)
            return None if written is None else Deleted(False, written)
        if not plan.remove:
            return Deleted(False, entry)
        revision = await self.remove(entry, caller)
        return None if revision is None else Deleted(True, entry)

    def _check_preconditions(self, entry: Entry, options: DeleteOptions) -> None:
        """rest.BeforeDelete. Raises Conflict."""
        if options.uid is None and options.resource_version is None:
            return
        meta = entry.decode()["metadata"]
        if options.uid is not None and options.uid != meta.get("uid"):
            raise self._precondition("UID", options.uid, meta.get("uid", ""), "deleted and then recreated", entry.name)
        if options.resource_version is not None and options.resource_version != meta["resourceVersion"]:
            raise self._precondition("ResourceVersion", options.resource_version, meta["resourceVersion"], "modified", entry.name)

    def _precondition(self, what: str, wanted: str, found: str, fate: str, name: str) -> Conflict:
        """A conflict that names the kind, not the resource, as Kubernetes does here; kinds with a delete of their own say it otherwise."""
        if self.deletes_on_its_own:
            return errors.conflict(self.row, name, f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}")
        kind = f"{self.row.kind}.{self.row.group}" if self.row.group else self.row.kind
        why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {fate}"
        details = errors.details_of(self.row, name) | {"kind": self.row.kind}
        return Conflict(f'Operation cannot be fulfilled on {kind} "{name}": {why}', details=details)


def _check_name(meta: Object, name: str) -> None:
    """An object that is put or patched must bear the name of its URL (handlers.checkName). Raises BadRequest."""
    found = meta.get("name", "")
    if not found:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if found != name:
        raise BadRequest(f"the name of the object ({found}) does not match the name on the URL ({name})")

"""The generic store of one served resource: how objects are created, changed and removed, whatever their kind.

Verbs (create.py, …) turn requests into calls of it. Imitates k8s.io/apiserver/pkg/registry/generic/registry/store.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from kubecosm.api import errors
from kubecosm.api.errors import ApiError, BadRequest, Conflict
from kubecosm.api.field import FieldError, invalid, invalid_kind, invalid_value
from kubecosm.api.managedfields import keep_times_if_unchanged
from kubecosm.api.resources import NAMESPACES, Object, Resource
from kubecosm.api.schema import prune

from ..admission.chain import Attributes
from ..authn.user import User
from ..cache.caches import prefix_of
from ..cache.entry import REVISION_MARK, Entry, with_revision
from ..cache.entry import Attributes as Selectable
from ..cache.resource import ResourceCache
from ..cache.view import View
from ..registry.kinds import strategy_for
from ..registry.meta import check_meta, check_meta_update
from ..registry.strategy import Strategy
from ..state import State
from . import deletion
from .objectmeta import encode, fill_system_fields, generated_name, keep_system_fields, set_namespace
from .options import DeleteOptions
from .versions import Conversion, conversion_between

NAME_ATTEMPTS_MAX = 8
"""Tries to find a free generated name before 409."""
CONFLICT_ATTEMPTS_MAX = 64
"""Tries of a change that carries no resourceVersion, under concurrent changes of the same object."""

Change = Callable[[Object], Object]
"""From the stored object (a fresh dict) to the wanted one (may be the same dict)."""


@dataclass(frozen=True)
class Deleted:
    """What became of a delete: `gone` says whether the object is removed or only marked; `entry` is its last state."""

    gone: bool
    entry: Entry


class Caller(NamedTuple):
    """On whose behalf, and whether for real."""

    user: User
    dry_run: bool = False
    field_manager: str = ""


class ResourceStore:
    """Objects of `row`, kept in the version `stored`."""

    def __init__(self, state: State, row: Resource, stored: Resource, cache: ResourceCache, strategy: Strategy) -> None:
        self.state = state
        self.row = row
        self.stored = stored
        self.conversion: Conversion = conversion_between(row, stored)
        self.cache = cache
        self.strategy = strategy
        self.served_strategy = strategy if row == stored else strategy_for(row)
        self.prefix = prefix_of(stored.group, stored.plural)
        self._subresource_strategies: dict[str, Strategy] = {}
        self.watch_views: dict[tuple[str, str, str], View] = {}
        self.type_meta: Object = {"kind": row.kind, "apiVersion": row.api_version}
        self.type_prefix = b'{"kind":"%b","apiVersion":"%b",' % (row.kind.encode(), row.api_version.encode())

    def strategy_of(self, subresource: str) -> Strategy:
        """The strategy of the resource or of one of its subresources; made once."""
        if not subresource:
            return self.strategy
        found = self._subresource_strategies.get(subresource)
        if found is None:
            found = self._subresource_strategies[subresource] = strategy_for(self.stored, subresource)
        return found

    def to_stored(self, obj: Object) -> Object:
        """A decoded and defaulted object in the stored version, with that version's defaults."""
        if self.row == self.stored:
            return obj
        converted = self.conversion.to_stored(obj)
        self.strategy.default(converted)
        return converted

    # ---- reading

    def key_of(self, namespace: str, name: str) -> str:
        return f"{namespace}/{name}" if self.row.namespaced else name

    def entry(self, namespace: str, name: str) -> Entry:
        """The newest state. Raises NotFound."""
        found = self.cache.get(f"{namespace}/{name}" if self.row.namespaced else name)
        if found is None:
            raise errors.not_found(self.row, name)
        return found

    # ---- creating

    async def create(self, obj: Object, namespace: str, caller: Caller, *, subresource: str = "", by_update: bool = False) -> Entry:
        """Create an object in the stored version (defaulted; the caller's own dict).

        A resourceVersion is refused, but only where it would be written: not in dry runs, nor when an update or apply creates.
        Raises ApiError.
        """
        meta = obj["metadata"]
        set_namespace(meta, self.row, namespace)
        version = meta.pop("resourceVersion", "")
        if by_update:
            version = ""
        generate = meta.get("generateName", "") if not meta.get("name") else ""
        fill_system_fields(meta, self.state.clock.now(), self.state.rng)
        for _ in range(NAME_ATTEMPTS_MAX if generate else 1):
            if generate:
                meta["name"] = generated_name(generate, self.state.rng)
            entry = await self._create_named(obj, namespace, caller, subresource, version)
            if entry is not None:
                return entry
        error = errors.already_exists(self.row, meta["name"])
        present = self.cache.get(self.key_of(meta.get("namespace", ""), meta["name"]))
        if present is not None and present.decode()["metadata"].get("deletionTimestamp"):
            error.message = f"object is being deleted: {error.message}"
        if generate:
            error.message += ", the server was not able to generate a unique name for the object"
            error.details = {**(error.details or {}), "retryAfterSeconds": 1}
        raise error

    async def _create_named(self, obj: Object, namespace: str, caller: Caller, subresource: str, version: str) -> Entry | None:
        """None if the name is taken."""
        meta = obj["metadata"]
        attributes = Attributes(
            "CREATE", self.row, subresource, self._admission_namespace(namespace), meta.get("name", ""), obj, None, caller.user,
            caller.dry_run,
        )  # fmt: skip
        self.state.admission.admit(attributes)
        strategy = self.strategy
        user = caller.user
        strategy.set_requester(obj, user.name, user.uid, list(user.groups), {k: list(v) for k, v in user.extra.items()})
        if not strategy.is_stateful:
            self._complete_new(obj, attributes)
            return await self._insert(obj, caller, version)
        finish = strategy.begin_create(obj, dry_run=caller.dry_run)
        try:
            self._complete_new(obj, attributes)
        except BaseException:
            finish(False)
            raise
        return await self.state.settle(self._insert(obj, caller, version), finish)

    def _complete_new(self, obj: Object, attributes: Attributes) -> None:
        """Prepare and check an admitted object. Raises Invalid, and what admission raises."""
        meta, strategy = obj["metadata"], self.strategy
        strategy.prepare_for_create(obj)
        found: list[FieldError] = []
        check_meta(meta, namespaced=self.row.namespaced, name_check=strategy.validate_name, errors=found)
        found += strategy.validate(obj)
        if found:
            raise invalid(self.row, meta.get("name", ""), found)
        strategy.canonicalize(obj)
        self.state.admission.validate(attributes)

    def _admission_namespace(self, namespace: str) -> str:
        """A Namespace is in itself, as far as admission goes."""
        return namespace if self.row != NAMESPACES else ""

    async def _insert(self, obj: Object, caller: Caller, version: str) -> Entry | None:
        """None if the name is taken."""
        meta = obj["metadata"]
        key = self.key_of(meta.get("namespace", ""), meta["name"])
        prune(obj)
        value = encode(obj)
        if caller.dry_run:
            answer = value.replace(REVISION_MARK, REVISION_MARK + orjson.dumps(version)[1:-1], 1) if version else _without_revision(value)
            return None if self.cache.get(key) is not None else Entry(key, answer, 0)
        if version:
            raise ApiError("resourceVersion should not be set on objects to be created", code=500)
        written = await self.state.storage.create(key=self.prefix + key, value=value)
        return self._written_entry(key, value, written.revision) if written.succeeded else None

    def _written_entry(self, key: str, value: bytes, revision: int) -> Entry:
        """The entry of a write that succeeded: mostly the one in the cache, unless it has moved on meanwhile."""
        entry = self.cache.get(key)
        return entry if entry is not None and entry.revision == revision else Entry(key, with_revision(value, revision), revision)

    # ---- changing

    async def update(
        self, namespace: str, name: str, change: Change, caller: Caller, *, subresource: str = "", strategy: Strategy | None = None,
        create: Callable[[], Object] | None = None,
    ) -> tuple[Entry, bool]:  # fmt: skip
        """Change an object; the answer says whether it was created.

        `change` is called again with the newest state when somebody else was faster, and must answer a new dict each time.

        `create` makes the object to create when there is none, where the kind allows that. Raises ApiError.
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
            obj = change(entry.decode())
            result = await self._update_once(entry, obj, old, namespace, name, caller, subresource, strategy)
            if result is not None:
                return result, False
            # somebody was faster: once more, unless the wanted object names the version it replaces
        raise errors.modified_conflict(self.row, name)

    async def _create_on_update(self, obj: Object, namespace: str, name: str, caller: Caller) -> Entry:
        """An update or apply of what does not exist. Raises Conflict if the object was meant to exist."""
        meta = obj["metadata"]
        if meta.setdefault("name", name) != name:
            raise BadRequest(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        if meta.get("uid"):
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
            raise errors.conflict(self.row, name, why)
        return await self.create(obj, namespace, caller, by_update=True)

    async def _update_once(
        self, entry: Entry, obj: Object, old: Object, namespace: str, name: str, caller: Caller, subresource: str, strategy: Strategy
    ) -> Entry | None:
        """None if somebody was faster."""
        meta, old_meta = obj["metadata"], old["metadata"]
        self._check_identity(meta, old_meta, name)
        set_namespace(meta, self.row, namespace)
        self._check_version(meta, old_meta, name, strategy)
        keep_system_fields(meta, old_meta)
        attributes = Attributes(
            "UPDATE", self.row, subresource, self._admission_namespace(namespace), name, obj, old, caller.user, caller.dry_run
        )
        self.state.admission.admit(attributes)
        if not strategy.is_stateful:
            self._complete_changed(obj, old, attributes, strategy)
            return await self._replace(entry, obj, old, caller)
        finish = strategy.begin_update(obj, old, dry_run=caller.dry_run)
        try:
            self._complete_changed(obj, old, attributes, strategy)
        except BaseException:
            finish(False)
            raise
        return await self.state.settle(self._replace(entry, obj, old, caller), finish)

    def _complete_changed(self, obj: Object, old: Object, attributes: Attributes, strategy: Strategy) -> None:
        """Prepare and check an admitted change. Raises Invalid, and what admission raises."""
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
        self.state.admission.validate(attributes)

    def _check_identity(self, meta: Object, old_meta: Object, name: str) -> None:
        if meta.get("name", "") != name:
            if not meta.get("name"):
                meta["name"] = name
            else:
                raise BadRequest(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
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
        if obj == old or keep_times_if_unchanged(obj, old):
            return entry
        value = encode(obj)
        if self.is_released(obj, old):
            removed = await self.remove(entry, caller)
            return None if removed is None else Entry(entry.key, with_revision(value, entry.revision), removed)
        return await self._write(entry, value, caller)

    async def _write(self, entry: Entry, value: bytes, caller: Caller) -> Entry | None:
        """Replace an entry; None if somebody was faster."""
        if caller.dry_run:
            return Entry(entry.key, with_revision(value, entry.revision), entry.revision)
        written = await self.state.storage.update(key=self.prefix + entry.key, value=value, expected_revision=entry.revision)
        return self._written_entry(entry.key, value, written.revision) if written.succeeded else None

    async def change_system_fields(self, namespace: str, name: str, change: Change, caller: Caller) -> Entry:
        """A change by the server itself (binding, budgets): nothing is prepared or validated. `change` may be called again."""
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry(namespace, name)
            written = await self._write(entry, encode(change(entry.decode())), caller)
            if written is not None:
                return written
        raise errors.modified_conflict(self.row, name)

    def is_released(self, obj: Object, old: Object) -> bool:
        """Whether this update of an object that is being deleted lets it go."""
        return deletion.is_released(obj["metadata"], old["metadata"])

    # ---- removing

    async def delete(self, namespace: str, name: str, options: DeleteOptions, caller: Caller) -> Deleted:
        """Remove an object, or mark it as being deleted if it has finalizers or a grace period. Raises ApiError."""
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry(namespace, name)
            self._check_preconditions(entry, options)
            obj = entry.decode()
            self._admit_delete(obj, namespace if self.row.namespaced else "", name, caller)
            plan = deletion.plan(obj, options, self.strategy, self.state.clock.now())
            outcome = await self._carry_out(entry, plan, caller)
            if outcome is not None:
                return outcome
        raise errors.modified_conflict(self.row, name)

    def _admit_delete(self, obj: Object, namespace: str, name: str, caller: Caller) -> None:
        attributes = Attributes("DELETE", self.row, "", namespace, name, None, obj, caller.user, caller.dry_run)
        self.state.admission.admit(attributes)
        self.state.admission.validate(attributes)

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

    async def remove(self, entry: Entry, caller: Caller) -> int | None:
        """Take an entry out of the storage; the revision of that, or None if the object has changed meanwhile."""
        if caller.dry_run:
            return entry.revision
        if not self.strategy.is_stateful:
            return await self._remove(entry)

        def release(removed: bool) -> None:
            if removed:
                self.strategy.after_delete(entry.decode())

        return await self.state.settle(self._remove(entry), release)

    async def _remove(self, entry: Entry) -> int | None:
        written = await self.state.storage.delete(key=self.prefix + entry.key, expected_revision=entry.revision)
        return written.revision if written.succeeded else None

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
        """A conflict that names the kind, not the resource, as Kubernetes does here."""
        kind = f"{self.row.kind}.{self.row.group}" if self.row.group else self.row.kind
        why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {fate}"
        details = errors.details_of(self.row, name) | {"kind": self.row.kind}
        return Conflict(f'Operation cannot be fulfilled on {kind} "{name}": {why}', details=details)


def _without_revision(value: bytes) -> bytes:
    """What a dry run answers for an object that was never stored: no resourceVersion at all."""
    return value.replace(b',"resourceVersion":""', b"", 1)


def selectable_of(strategy: Strategy) -> Callable[[Object], Selectable]:
    """What selectors see of a kind's objects: labels, and the fields of its strategy besides name and namespace."""
    specific = strategy.selectable_fields

    def attributes(obj: Object) -> Selectable:
        meta = obj["metadata"]
        fields = specific(obj)
        fields["metadata.name"] = meta["name"]
        if "namespace" in meta:
            fields["metadata.namespace"] = meta["namespace"]
        return Selectable(meta.get("labels") or {}, fields)

    return attributes

"""What a store knows of its kind, and the plain reads and writes that everything else is made of.

Nothing here looks into objects: no admission, no validation. See `creating` and `store` for the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from kubecosm.api import errors
from kubecosm.api.errors import ApiError
from kubecosm.api.resources import NAMESPACES, Object, Resource

from ..admission.chain import Notes
from ..authn.user import User
from ..cache.caches import prefix_of
from ..cache.entry import REVISION_MARK, Entry, with_revision
from ..cache.entry import Attributes as Selectable
from ..cache.resource import ResourceCache
from ..cache.view import View
from ..registry.kinds import strategy_for
from ..registry.strategy import Strategy
from ..state import State
from ..storage.calls import Calls
from ..storage.contract import StorageError
from . import deprecations
from .objectmeta import encode
from .options import DeleteOptions, WriteOptions
from .versions import Conversion, conversion_between

CONFLICT_ATTEMPTS_MAX = 64
"""Tries of a change that carries no resourceVersion, under concurrent changes of the same object."""

Change = Callable[[Object], Object]
"""From the stored object (a fresh dict) to the wanted one (may be the same dict)."""


class Caller(NamedTuple):
    """On whose behalf, and whether for real."""

    user: User
    dry_run: bool = False
    field_manager: str = ""
    options: WriteOptions | DeleteOptions | None = None
    notes: Notes | None = None
    """Where admission leaves warnings and audit annotations: the request."""
    is_collection: bool = False
    """A delete of many: admission is not told their names."""


class StoredKind:
    """Objects of `row`, kept in the version `stored`."""

    converts = False
    """Whether a webhook converts between the versions: see `unconverted`."""

    def __init__(self, state: State, row: Resource, stored: Resource, cache: ResourceCache, strategy: Strategy) -> None:
        self.state = state
        self.row = row
        self.stored = stored
        self.conversion: Conversion = conversion_between(row, stored)
        self.cache = cache
        self.strategy = strategy
        self.served_strategy = strategy if row == stored else strategy_for(row)
        self.strategy.clock = self.served_strategy.clock = state.clock
        self.prefix = prefix_of(stored.group, stored.plural)
        self._subresource_strategies: dict[str, Strategy] = {}
        self.creates, self.updates, self.deletes = (Calls(state.clock.monotonic) for _ in range(3))
        self.watch_views: dict[tuple[str, str, str], View] = {}
        self.deprecation = deprecations.BUILTIN.get((row.group, row.version, row.plural), "")
        """What those are warned of who use this version."""
        self.type_meta: Object = {"kind": row.kind, "apiVersion": row.api_version}
        self.type_prefix = b'{"kind":"%b","apiVersion":"%b",' % (row.kind.encode(), row.api_version.encode())

    async def convert(self, objects: Sequence[Object], desired: str) -> None:
        """Have objects converted to a version, for who looks at them next."""

    async def prepare(self, objects: Sequence[Object]) -> None:
        """Have stored objects converted to the version that is served here."""

    def served_fields(self, obj: Object) -> dict[str, str]:
        """The selectable fields of a stored object in the version that is served here."""
        return self.strategy.selectable_fields(self.conversion.from_stored(obj))

    def require(self, entries: Sequence[Entry]) -> None:
        """Raises Unconverted if some entries cannot be shown yet."""

    def strategy_of(self, subresource: str) -> Strategy:
        """The strategy of the resource or of one of its subresources; made once."""
        if not subresource:
            return self.strategy
        found = self._subresource_strategies.get(subresource)
        if found is None:
            found = self._subresource_strategies[subresource] = strategy_for(self.stored, subresource)
            found.clock = self.state.clock
        return found

    def to_stored(self, obj: Object) -> Object:
        """A decoded and defaulted object in the stored version, with that version's defaults."""
        if self.row == self.stored:
            return obj
        converted = self.conversion.to_stored(obj)
        self.strategy.default(converted)
        return converted

    def key_of(self, namespace: str, name: str) -> str:
        return f"{namespace}/{name}" if self.row.namespaced else name

    def entry(self, namespace: str, name: str) -> Entry:
        """The newest state. Raises NotFound."""
        found = self.cache.get(f"{namespace}/{name}" if self.row.namespaced else name)
        if found is None:
            raise errors.not_found(self.row, name)
        return found

    def _admission_namespace(self, namespace: str) -> str:
        """A Namespace is in itself, as far as admission goes."""
        return namespace if self.row != NAMESPACES else ""

    async def _insert(self, obj: Object, caller: Caller, version: str) -> Entry | None:
        """None if the name is taken."""
        meta = obj["metadata"]
        key = self.key_of(meta.get("namespace", ""), meta["name"])
        self.strategy.prune(obj)
        value = encode(obj)
        if caller.dry_run:
            answer = value.replace(REVISION_MARK, REVISION_MARK + orjson.dumps(version)[1:-1], 1) if version else _without_revision(value)
            return None if self.cache.get(key) is not None else Entry(key, answer, 0)
        if version:
            raise ApiError("resourceVersion should not be set on objects to be created", code=500)
        try:
            written = await self.creates.sampled(self.state.storage.create(key=self.prefix + key, value=value))
        except StorageError:
            self.creates.errors += 1
            raise
        return self._written_entry(key, value, written.revision) if written.succeeded else None

    def _written_entry(self, key: str, value: bytes, revision: int) -> Entry:
        """The entry of a write that succeeded: mostly the one in the cache, unless it has moved on meanwhile."""
        entry = self.cache.get(key)
        return entry if entry is not None and entry.revision == revision else Entry(key, with_revision(value, revision), revision)

    async def _write(self, entry: Entry, value: bytes, caller: Caller) -> Entry | None:
        """Replace an entry; None if somebody was faster."""
        if caller.dry_run:
            return Entry(entry.key, with_revision(value, entry.revision), entry.revision)
        key, storage = self.prefix + entry.key, self.state.storage
        try:
            written = await self.updates.sampled(storage.update(key=key, value=value, expected_revision=entry.revision))
        except StorageError:
            self.updates.errors += 1
            raise
        return self._written_entry(entry.key, value, written.revision) if written.succeeded else None

    async def change_system_fields(self, namespace: str, name: str, change: Change, caller: Caller) -> Entry:
        """A change by the server itself (binding, budgets): nothing is prepared or validated. `change` may be called again."""
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry(namespace, name)
            written = await self._write(entry, encode(change(entry.decode())), caller)
            if written is not None:
                return written
        raise errors.modified_conflict(self.row, name)

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
        try:
            written = await self.deletes.sampled(self.state.storage.delete(key=self.prefix + entry.key, expected_revision=entry.revision))
        except StorageError:
            self.deletes.errors += 1
            raise
        return written.revision if written.succeeded else None


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

"""How objects come to be, whatever their kind. Imitates registry/store.go (Create) and registry/rest/create.go."""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.field import FieldError, invalid
from kubecosm.api.resources import Object

from ..admission.chain import Attributes
from ..aside import Laborious
from ..cache.entry import Entry
from ..registry.meta import check_meta
from .objectmeta import drop_system_fields, fill_system_fields, generated_name, set_namespace
from .storedkind import Caller, StoredKind

NAME_ATTEMPTS_MAX = 8
"""Tries to find a free generated name before 409."""


class Creating(StoredKind):
    """The part of a store that creates."""

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
        drop_system_fields(meta)
        attributes = Attributes(
            "CREATE", self.row, subresource, self._admission_namespace(namespace), meta.get("name", ""), obj, None, caller.user,
            caller.dry_run, caller.options, caller.notes,
        )  # fmt: skip
        try:
            pending = self.state.admission.admit(attributes)
            if pending is not None:
                await pending
            assert attributes.obj is not None
            return await self._create_admitted(attributes.obj, attributes, namespace, caller, version)
        except BaseException:
            attributes.give_up()
            raise

    async def _create_admitted(self, obj: Object, attributes: Attributes, namespace: str, caller: Caller, version: str) -> Entry:
        """Name what has no name yet, and store it. Raises AlreadyExists."""
        meta, user = obj["metadata"], caller.user
        set_namespace(meta, self.row, namespace)
        self.strategy.set_requester(obj, user.name, user.uid, list(user.groups), {k: list(v) for k, v in user.extra.items()})
        generate = meta.get("generateName", "") if not meta.get("name") else ""
        fill_system_fields(meta, self.state.clock.now(), self.state.rng)
        for _ in range(NAME_ATTEMPTS_MAX if generate else 1):
            if generate:
                meta["name"] = attributes.name = generated_name(generate, self.state.rng)
            entry = await self._create_named(obj, attributes, caller, version)
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

    async def _create_named(self, obj: Object, attributes: Attributes, caller: Caller, version: str) -> Entry | None:
        """None if the name is taken."""
        if self.strategy.is_stateful:
            attributes.when_settled(self.strategy.begin_create(obj, dry_run=caller.dry_run))
        try:
            self._complete_new(obj)
        except Laborious as labor:
            await self.state.aside.settle(labor)
            self._complete_new(obj)
        pending = self.state.admission.validate(attributes)
        if pending is not None:
            await pending
        if attributes.settlers is None:
            return await self._insert(obj, caller, version)
        return await self.state.settle(self._insert(obj, caller, version), attributes.hand_over())

    def _complete_new(self, obj: Object) -> None:
        """Prepare and check an admitted object. Raises Invalid."""
        meta, strategy = obj["metadata"], self.strategy
        strategy.prepare_for_create(obj)
        found: list[FieldError] = []
        check_meta(meta, namespaced=self.row.namespaced, name_check=strategy.validate_name, errors=found)
        found += strategy.validate(obj)
        if found:
            raise invalid(self.row, meta.get("name", ""), found)
        strategy.canonicalize(obj)

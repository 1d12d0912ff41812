"""The stores of custom resources and of their definitions. Imitates apiextensions-apiserver's registries."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from kubecosm.api import errors
from kubecosm.api.errors import MethodNotAllowed
from kubecosm.api.resources import CustomResource, Object
from kubecosm.api.schema.structural import fill_defaults, has_defaults
from kubecosm.api.times import format_time

from ..cache.entry import Entry
from ..cache.resource import ResourceCache
from ..cache.view import AS_STORED, View
from ..registry.strategy import Strategy
from ..rest.deletion import finalizers_after
from ..rest.objectmeta import encode
from ..rest.options import DeleteOptions
from ..rest.store import CONFLICT_ATTEMPTS_MAX, Caller, Deleted, ResourceStore
from ..rest.versions import Conversion
from ..state import State
from .names import FINALIZER, TERMINATING, with_condition
from .strategy import CustomResourceStrategy, CustomStatusStrategy


class CustomResourceStore(ResourceStore):
    """Instances in one served version. What is read gets the defaults that the schema has now."""

    def __init__(
        self, state: State, row: CustomResource, stored: CustomResource, cache: ResourceCache, selectable: tuple[str, ...],
        removed: Callable[[], None],
    ) -> None:  # fmt: skip
        """`removed` is called after an instance is gone."""
        super().__init__(state, row, stored, cache, CustomResourceStrategy(row, selectable))
        self.served_strategy = self.strategy
        self.conversion = conversion_between(row, stored)
        self._status = CustomStatusStrategy(row, selectable)
        self._removed = removed
        self.is_ending = False
        """The definition is being deleted: nothing new is created."""

    def strategy_of(self, subresource: str) -> Strategy:
        return self._status if subresource == "status" else self.strategy

    async def create(self, obj: Object, namespace: str, caller: Caller, *, subresource: str = "", by_update: bool = False) -> Entry:
        if self.is_ending:
            details = {"group": self.row.group, "kind": self.row.plural}
            raise MethodNotAllowed("create not allowed while custom resource definition is terminating", details=details)
        return await super().create(obj, namespace, caller, subresource=subresource, by_update=by_update)

    async def remove(self, entry: Entry, caller: Caller) -> int | None:
        revision = await super().remove(entry, caller)
        if revision is not None and not caller.dry_run:
            self._removed()
        return revision


def conversion_between(row: CustomResource, stored: CustomResource) -> Conversion:
    """Strategy None: only apiVersion changes."""

    def to_stored(obj: Object) -> Object:
        return {**obj, "apiVersion": stored.api_version}

    def from_stored(obj: Object) -> Object:
        served = {**obj, "apiVersion": row.api_version}
        fill_defaults(row.schema, served)
        return served

    if row == stored and not has_defaults(row.schema):
        return Conversion(stored, to_stored, lambda obj: obj, AS_STORED)
    name = f"{row.api_version}/{row.plural}"
    return Conversion(stored, to_stored, from_stored, View(name, lambda data: orjson.dumps(from_stored(orjson.loads(data)))))


class CustomResourceDefinitionStore(ResourceStore):
    """Definitions end in two steps: a delete marks them, and they go when their instances are gone."""

    deletes_on_its_own = True

    async def delete(
        self, namespace: str, name: str, options: DeleteOptions, caller: Caller, *, is_admitted: bool = False
    ) -> Deleted:
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry("", name)
            obj = entry.decode()
            if obj["metadata"].get("deletionTimestamp"):
                return await super().delete(namespace, name, options, caller, is_admitted=is_admitted)
            self._check_preconditions(entry, options)
            attributes = await self._admit_delete(obj, "", name, caller)
            self._mark(obj, options)
            marked = await self.state.settle(self._write(entry, encode(obj), caller), attributes.hand_over())
            if marked is not None:
                return Deleted(False, marked)
        raise errors.modified_conflict(self.row, name)

    def _mark(self, obj: Object, options: DeleteOptions) -> None:
        meta, now = obj["metadata"], self.state.clock.now()
        finalizers = finalizers_after(meta.get("finalizers") or [], options, self.strategy)
        meta["deletionTimestamp"] = format_time(now)
        meta["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        conditions = (obj.get("status") or {}).get("conditions") or ()
        marked = with_condition(conditions, TERMINATING, "True", "InstanceDeletionPending", message, now)
        obj["status"] = {**(obj.get("status") or {}), "conditions": marked}

"""The stores of custom resources and of their definitions. Imitates apiextensions-apiserver's registries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubecosm.api.errors import MethodNotAllowed
from kubecosm.api.resources import CustomResource, Object
from kubecosm.api.times import format_time

from ..cache.entry import Entry
from ..cache.resource import ResourceCache
from ..registry.strategy import Strategy
from ..rest.deletion import finalizers_after
from ..rest.options import DeleteOptions
from ..rest.store import Caller, ResourceStore
from ..rest.twosteps import TwoStepStore
from ..rest.unconverted import Unconverted
from ..state import State
from .conversion import WebhookConverter, conversion_between
from .names import FINALIZER, TERMINATING, with_condition
from .strategy import CustomResourceStrategy, CustomStatusStrategy


class CustomResourceStore(ResourceStore):
    """Instances in one served version. What is read gets the defaults that the schema has now."""

    def __init__(
        self, state: State, row: CustomResource, stored: CustomResource, cache: ResourceCache, selectable: tuple[str, ...],
        removed: Callable[[], None], converter: WebhookConverter | None = None, is_only: bool = True,
    ) -> None:  # fmt: skip
        """`removed` is called after an instance is gone; `is_only`: the definition has one version."""
        super().__init__(state, row, stored, cache, CustomResourceStrategy(row, selectable, state.cel_times))
        self.served_strategy = self.strategy
        self.conversion = conversion_between(row, stored, converter, is_only=is_only)
        self.deprecation = row.deprecation
        self._converter = converter
        self.converts = converter is not None and not is_only
        self._status = CustomStatusStrategy(row, selectable, state.cel_times)
        self._removed = removed
        self.is_ending = False
        """The definition is being deleted: nothing new is created."""

    async def convert(self, objects: Sequence[Object], desired: str) -> None:
        if self._converter is not None:
            await self._converter.convert(objects, desired)

    async def prepare(self, objects: Sequence[Object]) -> None:
        if self._converter is not None:
            await self._converter.convert(self._converter.missing(objects, self.row.api_version), self.row.api_version)

    def require(self, entries: Sequence[Entry]) -> None:
        if self._converter is not None:
            desired = self.row.api_version
            missing = self._converter.missing((entry.decode() for entry in entries), desired)
            if missing:
                raise Unconverted(missing, desired)

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


class CustomResourceDefinitionStore(TwoStepStore):
    """Definitions go when their instances are gone."""

    def _mark(self, obj: Object, options: DeleteOptions) -> None:
        meta, now = obj["metadata"], self.state.clock.now()
        finalizers = finalizers_after(meta.get("finalizers") or [], options, self.strategy)
        meta["deletionTimestamp"] = format_time(now)
        meta["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        conditions = (obj.get("status") or {}).get("conditions") or ()
        marked = with_condition(conditions, TERMINATING, "True", "InstanceDeletionPending", message, now)
        obj["status"] = {**(obj.get("status") or {}), "conditions": marked}

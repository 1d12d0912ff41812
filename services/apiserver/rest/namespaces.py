"""Namespaces end in two steps: a delete marks them as terminating, and they go when their last spec.finalizer is taken away.

Imitates pkg/registry/core/namespace/storage.
"""

from __future__ import annotations

from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..cache.entry import Entry
from .deletion import is_released
from .options import DeleteOptions
from .store import Caller, Deleted
from .twosteps import TwoStepStore


class NamespaceStore(TwoStepStore):
    """The store of namespaces."""

    async def _delete_again(
        self, entry: Entry, obj: Object, options: DeleteOptions, caller: Caller, *, is_admitted: bool
    ) -> Deleted:
        if (obj.get("spec") or {}).get("finalizers"):
            self._check_preconditions(entry, options)
            return Deleted(False, entry)
        return await super()._delete_again(entry, obj, options, caller, is_admitted=is_admitted)

    def _mark(self, obj: Object, options: DeleteOptions) -> None:
        obj["metadata"]["deletionTimestamp"] = format_time(self.state.clock.now())
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}

    def is_released(self, obj: Object, old: Object) -> bool:
        if (obj.get("spec") or {}).get("finalizers"):
            return False
        meta = obj["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            return True
        return is_released(meta, old["metadata"])

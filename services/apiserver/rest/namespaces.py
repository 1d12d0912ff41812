"""Namespaces end in two steps: a delete marks them as terminating, and they go when their last spec.finalizer is taken away.

Imitates pkg/registry/core/namespace/storage.
"""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.resources import Object
from kubecosm.api.times import format_time

from ..cache.entry import Entry
from .deletion import is_released
from .objectmeta import encode
from .options import DeleteOptions
from .store import CONFLICT_ATTEMPTS_MAX, Caller, Deleted, ResourceStore


class NamespaceStore(ResourceStore):
    """The store of namespaces."""

    deletes_on_its_own = True

    async def delete(
        self, namespace: str, name: str, options: DeleteOptions, caller: Caller, *, is_admitted: bool = False
    ) -> Deleted:
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry("", name)
            obj = entry.decode()
            if obj["metadata"].get("deletionTimestamp"):
                if (obj.get("spec") or {}).get("finalizers"):
                    self._check_preconditions(entry, options)
                    return Deleted(False, entry)
                return await super().delete(namespace, name, options, caller, is_admitted=is_admitted)
            self._check_preconditions(entry, options)
            attributes = await self._admit_delete(obj, "", name, caller)
            marked = await self.state.settle(self._mark(entry, obj, caller), attributes.hand_over())
            if marked is not None:
                return Deleted(False, marked)
        raise errors.modified_conflict(self.row, name)

    async def _mark(self, entry: Entry, obj: Object, caller: Caller) -> Entry | None:
        obj["metadata"]["deletionTimestamp"] = format_time(self.state.clock.now())
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return await self._write(entry, encode(obj), caller)

    def is_released(self, obj: Object, old: Object) -> bool:
        if (obj.get("spec") or {}).get("finalizers"):
            return False
        meta = obj["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            return True
        return is_released(meta, old["metadata"])

"""Objects that end in two steps: a delete marks them as ending, and they go when nothing is left of what they hold together."""

from __future__ import annotations

from kubecosm.api import errors
from kubecosm.api.resources import Object

from ..cache.entry import Entry
from .objectmeta import encode
from .options import DeleteOptions
from .store import CONFLICT_ATTEMPTS_MAX, Caller, Deleted, ResourceStore


class TwoStepStore(ResourceStore):
    """The store of such a kind, in no namespace."""

    deletes_on_its_own = True

    async def delete(
        self, namespace: str, name: str, options: DeleteOptions, caller: Caller, *, is_admitted: bool = False
    ) -> Deleted:
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            entry = self.entry("", name)
            obj = entry.decode()
            if obj["metadata"].get("deletionTimestamp"):
                return await self._delete_again(entry, obj, options, caller, is_admitted=is_admitted)
            self._check_preconditions(entry, options)
            attributes = await self._admit_delete(obj, "", name, caller)
            self._mark(obj, options)
            marked = await self.state.settle(self._write(entry, encode(obj), caller), attributes.hand_over())
            if marked is not None:
                return Deleted(False, marked)
        raise errors.modified_conflict(self.row, name)

    async def _delete_again(
        self, entry: Entry, obj: Object, options: DeleteOptions, caller: Caller, *, is_admitted: bool
    ) -> Deleted:
        """A delete of what is ending already."""
        return await super().delete("", obj["metadata"]["name"], options, caller, is_admitted=is_admitted)

    def _mark(self, obj: Object, options: DeleteOptions) -> None:
        """Say in the object that it ends."""
        raise NotImplementedError

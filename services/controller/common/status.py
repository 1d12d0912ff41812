"""Writing the status subresource: not at all when nothing changed, and never over a newer object."""

from __future__ import annotations

from kubecosm.api.errors import NotFound
from kubecosm.api.meta import key_of
from kubecosm.api.resources import Object, Resource
from kubecosm.client.controller import Context

from .echoes import Echoes

PATIENCE_ENTRIES_MAX = 10_000


class Patience:
    """How long a status that is soon overtaken may stay unwritten; remembers since when it has been waited for."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._since: dict[str, float] = {}

    def seconds_left(self, uid: str, now: float) -> float:
        """What is left of the patience with this object, which begins with the first call; 0 when it is over."""
        if len(self._since) > PATIENCE_ENTRIES_MAX:  # owners that were deleted meanwhile
            self._since = {known: since for known, since in self._since.items() if since + self._seconds_max > now}
        return max(self._since.setdefault(uid, now) + self._seconds_max - now, 0.0)

    def forget(self, uid: str) -> None:
        """The status was written, or the object is gone."""
        self._since.pop(uid, None)


async def update_status(ctx: Context, resource: Resource, obj: Object, status: Object, echoes: Echoes | None = None) -> Object:
    """Write `status` if it differs from what the cache has (or from the object's own, when that is newer); returns the newest object.

    `echoes` is told of the write. A Conflict means a stale cache: the runner tries again with a newer one.
    """
    cached = ctx.cache(resource).get(key_of(obj))
    is_current = cached is not None and cached["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    before = cached if is_current and cached is not None else obj
    if status == (before.get("status") or {}):
        return before
    if echoes is not None:
        echoes.expect(obj, status)
    try:
        updated = await ctx.client.update(resource, {**obj, "status": status}, subresource="status")
    except NotFound:
        return obj  # gone meanwhile: there is nobody left to tell
    ctx.expect_written(updated)
    return updated

"""Telling the echo of one's own status write from a stranger's: the one wakes nobody, the other is put right at once."""

from __future__ import annotations

from kubecosm.api.meta import uid_of
from kubecosm.api.resources import Object

from .changes import beyond_status

ECHOES_MAX = 10_000
"""Writes whose events never came are forgotten all at once: then an echo may wake its owner, who finds nothing to do."""


class Echoes:
    """The statuses of one controller that were sent, and whose watch events are still to come."""

    def __init__(self) -> None:
        self._sent: dict[str, Object] = {}

    def expect(self, obj: Object, status: Object) -> None:
        """This status is on its way. To be called before the write: the event may come before the answer."""
        if len(self._sent) >= ECHOES_MAX:
            self._sent.clear()
        self._sent[uid_of(obj)] = status

    def matters(self, old: Object, new: Object) -> bool:
        """Whether the controller must look at the update: it is of more than the status, or of a status that it did not write."""
        ours = self._sent.get(uid_of(new)) == new.get("status") and self._sent.pop(uid_of(new), None) is not None
        return beyond_status(old, new) or (not ours and old.get("status") != new.get("status"))

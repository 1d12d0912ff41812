"""The storage contract: opaque keys and bytes under one cluster-wide revision, in the manner of etcd.

Every successful write gets the next revision. A compare that fails is an answer, not an error. A write is answered only when it is
durable, and by then it has been delivered to every subscription. Left out: leases, transactions over several keys
(writes that are issued in one turn of the event loop share a commit in the local backends, but each is compared by itself).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """One key's value as of the revision that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write.

    succeeded: the compare held and the write is durable; `revision` is the revision it got.
    Otherwise nothing changed and `revision` is the key's present revision, 0 if it does not exist.
    """

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Found:
    """One key read at `revision`; `item` is None if it did not exist then."""

    revision: int
    item: Item | None


@dataclass(frozen=True, slots=True)
class Listed:
    """The keys of a prefix at `revision`, in order; `more`: the limit left some out."""

    revision: int
    items: tuple[Item, ...]
    more: bool


class Change(NamedTuple):
    """One write as subscribers see it: `value` is None for a delete."""

    key: str
    value: bytes | None
    revision: int


Deliver = Callable[[Sequence[Change]], None]
"""Takes changes in revision order, one call per commit; must not block and must not raise."""


class Subscription(Protocol):
    """A running watch."""

    def close(self) -> None:
        """Deliver nothing any more."""


class CompactedError(Exception):
    """The asked revision is older than what compaction has left."""

    def __init__(self, revision: int, compacted_revision: int) -> None:
        super().__init__(f"revision {revision} has been compacted (up to {compacted_revision})")
        self.compacted_revision = compacted_revision


class FutureRevisionError(Exception):
    """The asked revision has not been reached."""

    def __init__(self, revision: int, current_revision: int) -> None:
        super().__init__(f"revision {revision} has not been reached (now {current_revision})")
        self.current_revision = current_revision


class StorageError(Exception):
    """The backend could not do it (disk full, I/O error). Nothing of the failed write is visible."""


class DiskFullError(StorageError):
    """There is no room to write; removals may still be possible."""


def is_removal(value: bytes | None) -> bool:
    """Whether a write removes its key or is on the way to that: an object that is being deleted. What is encrypted does not tell."""
    return value is None or b'"deletionTimestamp":' in value


class Store(Protocol):
    """What the apiserver knows of its storage."""

    @property
    def revision(self) -> int:
        """The newest revision that is durable and delivered."""

    @property
    def compacted_revision(self) -> int:
        """Reads at older revisions, and watches from before this one, are refused."""

    @property
    def is_full(self) -> bool:
        """Whether removals alone are written for want of room: whatever can be compacted should be."""

    async def create(self, *, key: str, value: bytes) -> Written:
        """Write a key that must not exist. Raises StorageError."""

    async def update(
        self, *, key: str, value: bytes, expected_revision: int, accepted: Callable[[], None] | None = None
    ) -> Written:
        """Replace a key that must still be at `expected_revision`. Raises StorageError.

        `accepted` is called, before the answer, as soon as nothing that is written from then on can become durable unless this write
        does: who depends on it need not wait. Backends that cannot tell do not call it.
        """

    async def delete(self, *, key: str, expected_revision: int) -> Written:
        """Remove a key that must still be at `expected_revision`. Raises StorageError."""

    async def get(self, *, key: str, revision: int = 0) -> Found:
        """Read one key, now (0) or as of a revision. Raises CompactedError, FutureRevisionError, StorageError."""

    async def list(self, *, prefix: str, revision: int = 0, start: str = "", limit: int = 0) -> Listed:
        """Read the keys with a prefix from `start` on, now (0) or as of a revision; limit 0 means all. Raises as `get`."""

    async def subscribe(self, *, prefix: str, after_revision: int, deliver: Deliver) -> Subscription:
        """Deliver every change after a revision, past ones first, none missing and none twice. Raises CompactedError."""

    async def compact(self, *, revision: int) -> None:
        """Forget what was overwritten or deleted at or before `revision`; what is newest stays."""

    async def close(self) -> None:
        """Finish writes in flight and release the backend."""

"""Group commit: a Store over any append-only log.

Writes are checked against the newest pending state and given revisions on the event loop; everything that arrives while one commit
is on its way becomes the next one. A commit is one `Log.append` on the log's own thread. When it is durable, the loop publishes its
changes to the subscribers and answers its writers, in that order, so whoever was answered reads his own write. If it fails, it fails
its writers and those queued behind it (they were checked against state that never came to be), and memory is as it was.

While the disk is full, removals have commits of their own, for which a log may have kept some room; whether there is room again shows when
another write succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from .contract import (
    Change,
    CompactedError,
    Deliver,
    DiskFullError,
    Found,
    FutureRevisionError,
    Item,
    Listed,
    StorageError,
    Written,
    is_removal,
)
from .subscriptions import Subscribed, Subscriptions
from .worker import Worker, run_on

T = TypeVar("T")

LINGER_TURNS = 3
"""Turns of the event loop that a commit waits for what depends on a write that has just been accepted, so that both share it."""
REMOVAL_RETRIES_MAX = 1
"""A removal that failed in the company of other writes, since the disk is full, is tried again without them."""
COMMIT_ROWS_MAX = 512
"""Writes in one commit; more would only make the first of them wait longer."""


class Row(NamedTuple):
    """One write in the log: `previous` is the revision it replaces (0: it creates), `value` None: it deletes."""

    revision: int
    key: str
    previous: int
    value: bytes | None


class Log(Protocol):
    """An append-only log of rows; every method blocks and is called on one thread only, `read_*` on another."""

    def load(self) -> tuple[dict[str, int], int, int]:
        """The live keys with their revisions, the newest revision and the compacted revision."""

    def append(self, rows: Sequence[Row]) -> None:
        """Make rows durable, all or none. Raises StorageError; DiskFullError where removals alone might succeed."""

    def compact(self, revision: int) -> None:
        """Drop rows replaced or deleted at or before `revision`. Raises StorageError."""

    def read_one(self, key: str, revision: int) -> Item | None:
        """The key's value as of a revision."""

    def read_prefix(self, prefix: str, revision: int, start: str, limit: int) -> list[Item]:
        """The values of the keys with a prefix, from `start` on, as of a revision, in key order; at most `limit` unless 0."""

    def read_changes(self, prefix: str, after: int, upto: int) -> list[Change]:
        """The changes of the keys with a prefix with after < revision <= upto."""

    def close(self) -> None:
        """Release files."""


class _Write:
    __slots__ = ("answer", "row")

    def __init__(self, row: Row, answer: asyncio.Future[Written]) -> None:
        self.row = row
        self.answer = answer


class GroupCommitStore:
    """The Store of `contract` over a Log. Make it with `open_store`."""

    def __init__(self, log: Log, writer: Worker, reader: Worker, state: tuple[dict[str, int], int, int]) -> None:
        self._log, self._writer, self._reader = log, writer, reader
        self._live, self._revision, self._compacted = state
        self._assigned = self._revision
        self._pending: dict[str, Row] = {}  # key -> its newest write that is not yet durable
        self._queue: list[_Write] = []
        self._in_flight: list[_Write] = []
        self._settled: asyncio.Future[None] | None = None  # done when the commit in flight is
        self._kick_scheduled = False
        self._subscriptions = Subscriptions()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._full = False
        self._removes = False  # what the pending writes are while the disk is full

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted_revision(self) -> int:
        return self._compacted

    @property
    def is_full(self) -> bool:
        return self._full

    async def create(self, *, key: str, value: bytes) -> Written:
        return await self._write(key, 0, value)

    async def update(
        self, *, key: str, value: bytes, expected_revision: int, accepted: Callable[[], None] | None = None
    ) -> Written:
        return await self._write(key, expected_revision, value, accepted)

    async def delete(self, *, key: str, expected_revision: int) -> Written:
        return await self._write(key, expected_revision, None)

    async def _write(self, key: str, expected: int, value: bytes | None, accepted: Callable[[], None] | None = None) -> Written:
        tries = 0
        while True:
            if self._closed:
                raise StorageError("the storage is closed")
            pending = self._pending.get(key)
            present = self._live.get(key, 0) if pending is None else 0 if pending.value is None else pending.revision
            if present != expected:
                if pending is None:
                    return Written(False, present)
                await self._wait_settled()  # the compare failed against a write that may yet fail, and that nobody can read yet
                continue
            if self._full and not self._may_join(value):
                await self._wait_settled()
                continue
            try:
                return await self._enqueue(key, expected, value, accepted)
            except DiskFullError:
                tries += 1
                if tries > REMOVAL_RETRIES_MAX or not is_removal(value):
                    raise  # a removal is tried again, now by itself

    def _may_join(self, value: bytes | None) -> bool:
        """Whether a write is of the sort that those are which are pending: removals, or others."""
        if not self._pending:
            self._removes = is_removal(value)
        return self._removes == is_removal(value)

    def _enqueue(self, key: str, expected: int, value: bytes | None, accepted: Callable[[], None] | None) -> asyncio.Future[Written]:
        self._assigned += 1
        row = Row(self._assigned, key, expected, value)
        self._pending[key] = row
        answer: asyncio.Future[Written] = self._loop.create_future()
        self._queue.append(_Write(row, answer))
        if not self._in_flight and not self._kick_scheduled:
            self._kick_scheduled = True
            self._loop.call_soon(*((self._kick,) if accepted is None else (self._linger, LINGER_TURNS)))
        if accepted is not None:
            accepted()
        return answer

    def _linger(self, turns: int) -> None:
        """Kick after so many turns of the loop."""
        self._loop.call_soon(*((self._linger, turns - 1) if turns else (self._kick,)))

    async def _wait_settled(self) -> None:
        if self._settled is None:
            self._settled = self._loop.create_future()
        await asyncio.shield(self._settled)

    def _kick(self) -> None:
        """Send the queued writes to the log, unless a commit is on its way: its end will."""
        self._kick_scheduled = False
        if self._in_flight or not self._queue:
            return
        self._in_flight, self._queue = self._queue[:COMMIT_ROWS_MAX], self._queue[COMMIT_ROWS_MAX:]
        rows = [w.row for w in self._in_flight]
        self._writer.submit(lambda: self._log.append(rows), self._on_committed)

    def _on_committed(self, _result: None, error: BaseException | None) -> None:
        writes, self._in_flight = self._in_flight, []
        if error is None:
            self._full = self._full and self._removes
            self._accept(writes)
        else:
            self._full = self._full or isinstance(error, DiskFullError)
            self._fail([*writes, *self._queue], error)
        settled, self._settled = self._settled, None
        if settled is not None:
            settled.set_result(None)
        self._kick()

    def _accept(self, writes: list[_Write]) -> None:
        live, pending = self._live, self._pending
        for write in writes:
            row = write.row
            if row.value is None:
                live.pop(row.key, None)
            else:
                live[row.key] = row.revision
            if pending.get(row.key) is row:
                del pending[row.key]
        self._revision = writes[-1].row.revision
        changes = [Change(w.row.key, w.row.value, w.row.revision) for w in writes]
        self._subscriptions.publish(changes)
        for write in writes:
            if not write.answer.done():
                write.answer.set_result(Written(True, write.row.revision))

    def _fail(self, writes: list[_Write], error: BaseException) -> None:
        self._queue = []
        self._pending.clear()
        self._assigned = self._revision
        for write in writes:
            if not write.answer.done():
                write.answer.set_exception((DiskFullError if isinstance(error, DiskFullError) else StorageError)(str(error)))

    async def get(self, *, key: str, revision: int = 0) -> Found:
        at = self._readable(revision)
        item = await self._read(lambda: self._log.read_one(key, at))
        if at < self._compacted:
            raise CompactedError(at, self._compacted)  # compaction overtook the read
        return Found(at, item)

    async def list(self, *, prefix: str, revision: int = 0, start: str = "", limit: int = 0) -> Listed:
        at = self._readable(revision)
        items = await self._read(lambda: self._log.read_prefix(prefix, at, start, limit + 1 if limit else 0))
        if at < self._compacted:
            raise CompactedError(at, self._compacted)  # compaction overtook the read
        more = bool(limit) and len(items) > limit
        return Listed(at, tuple(items[:limit] if more else items), more)

    async def subscribe(self, *, prefix: str, after_revision: int, deliver: Deliver) -> Subscribed:
        if after_revision < self._compacted:
            raise CompactedError(after_revision, self._compacted)
        subscription = self._subscriptions.add(prefix, deliver)
        upto = self._revision
        history: Sequence[Change] = ()
        if after_revision < upto:
            history = await self._history(subscription, prefix, after_revision, upto)
        subscription.catch_up(history)
        return subscription

    async def _history(self, subscription: Subscribed, prefix: str, after: int, upto: int) -> Sequence[Change]:
        """Past changes, while the subscription holds back the present ones; it is closed if they cannot be read."""
        history: Sequence[Change] | None = None
        try:
            history = await self._read(lambda: self._log.read_changes(prefix, after, upto))
            if after < self._compacted:
                history = None
                raise CompactedError(after, self._compacted)  # compaction overtook the read
        finally:
            if history is None:
                subscription.close()
        return history

    async def compact(self, *, revision: int) -> None:
        if revision <= self._compacted:
            return
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        self._compacted = revision
        await run_on(self._writer, lambda: self._log.compact(revision))

    async def close(self) -> None:
        while self._in_flight or self._queue:
            await self._wait_settled()
        self._closed = True
        self._reader.stop()
        self._writer.stop()
        self._log.close()

    def _readable(self, revision: int) -> int:
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        if revision and revision < self._compacted:
            raise CompactedError(revision, self._compacted)
        return revision or self._revision

    async def _read(self, call: Callable[[], T]) -> T:
        return await run_on(self._reader, call)


def open_store(log: Log, writer: Worker, reader: Worker) -> GroupCommitStore:
    """A store over an opened log. Call it on the event loop. Raises StorageError, StartupError."""
    return GroupCommitStore(log, writer, reader, log.load())

"""A log in memory: nothing survives the process. For tests and `--storage-backend=memory`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from operator import attrgetter

from .contract import Change, Item
from .groupcommit import GroupCommitStore, Row, open_store
from .worker import InlineWorker

_REVISION = attrgetter("revision")


class MemoryLog:
    """Rows by key, oldest first, and all rows by revision."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._by_key: dict[str, list[Row]] = {}
        self._keys: list[str] = []

    def load(self) -> tuple[dict[str, int], int, int]:
        return {}, 0, 0

    def append(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._rows.append(row)
            versions = self._by_key.get(row.key)
            if versions is None:
                self._by_key[row.key] = versions = []
                insort(self._keys, row.key)
            versions.append(row)

    def compact(self, revision: int) -> None:
        gone = {row.previous for row in self._rows if row.revision <= revision and row.previous}
        gone |= {row.revision for row in self._rows if row.revision <= revision and row.value is None}
        self._rows = [row for row in self._rows if row.revision not in gone]
        for key in {row_key for row_key, rows in self._by_key.items() if any(r.revision in gone for r in rows)}:
            self._by_key[key] = [row for row in self._by_key[key] if row.revision not in gone]
            if not self._by_key[key]:
                del self._by_key[key]
                del self._keys[bisect_left(self._keys, key)]

    def read_one(self, key: str, revision: int) -> Item | None:
        rows = self._by_key.get(key, [])
        at = bisect_right(rows, revision, key=_REVISION) - 1
        if at < 0 or (value := rows[at].value) is None:
            return None
        return Item(key, value, rows[at].revision)

    def read_prefix(self, prefix: str, revision: int, start: str, limit: int) -> list[Item]:
        items: list[Item] = []
        for key in self._keys[bisect_left(self._keys, max(prefix, start)) :]:
            if not key.startswith(prefix) or (limit and len(items) == limit):
                break
            item = self.read_one(key, revision)
            if item is not None:
                items.append(item)
        return items

    def read_changes(self, prefix: str, after: int, upto: int) -> list[Change]:
        rows = self._rows[bisect_right(self._rows, after, key=_REVISION) : bisect_right(self._rows, upto, key=_REVISION)]
        return [Change(row.key, row.value, row.revision) for row in rows if row.key.startswith(prefix)]

    def close(self) -> None:
        pass


def open_memory() -> GroupCommitStore:
    """An empty store. Call it on the event loop."""
    return open_store(MemoryLog(), InlineWorker(), InlineWorker())

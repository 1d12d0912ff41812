"""The SQLite backend: one append-only table in WAL mode with synchronous=FULL, so an answered write survives kill -9 and power loss.

A commit is one multi-row INSERT: SQLite makes a lone statement a transaction, and Python's interpreter lock is given up once for the
whole of it. One thread writes, another reads through a connection of its own. A lock file keeps a second server away from the database.
Some room on the disk is set aside for deletes (reserve.py).
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from kubecosm.runtime.errors import StartupError, startup

from .contract import Change, DiskFullError, Item, StorageError, is_removal
from .groupcommit import GroupCommitStore, Row, open_store
from .reserve import RESERVE_SUFFIX, ROOM_BYTES_MIN, Reserve
from .worker import ThreadWorker

SCHEMA_VERSION = 1
STATEMENTS_CACHED = 1024
"""Compiled statements kept: one INSERT per batch size, at most COMMIT_ROWS_MAX of them."""
COMPACT_ROWS_MAX = 5000
"""Revisions compacted in one transaction, so that a commit never waits long behind compaction."""

FREE_BYTES_MIN = 64 * 1024
"""With less on the disk, a write that failed did so for want of room."""
DISK_FULL = "the disk is full: free some space; until then objects are served and deletes may succeed, other writes do not"

_SCHEMA = """
CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, previous INTEGER NOT NULL, value BLOB);
CREATE INDEX log_by_key ON log (key, revision);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('compacted_revision', 0);
"""
_AT = "SELECT key, value, max(revision) FROM log WHERE {where} AND revision <= ? GROUP BY key HAVING value IS NOT NULL ORDER BY key"


class SqliteLog:
    """The log in a file. `append` and `compact` belong to the writing thread, `read_*` to the reading one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with ExitStack() as opened:
            opened.enter_context(_lock(path.with_name(path.name + ".lock")))
            try:
                self._writer = opened.enter_context(closing(_connect(path)))
                _prepare(self._writer, path)
                self._reader = opened.enter_context(closing(_connect(path)))
                self._loaded = _load(self._writer)
                self._reserve = Reserve(path.with_name(path.name + RESERVE_SUFFIX))
            except sqlite3.Error as error:
                raise _startup_error(path, error) from error
            self._opened = opened.pop_all()

    def load(self) -> tuple[dict[str, int], int, int]:
        return self._loaded

    def append(self, rows: Sequence[Row]) -> None:
        """Raises DiskFullError when there is no room; removals then get what is set aside."""
        if self._reserve.is_spent and not all(is_removal(row.value) for row in rows):
            self._reserve.keep()
            if self._reserve.is_spent and not self._has_free_pages():
                raise DiskFullError(f"cannot write {self._path}: {DISK_FULL}")
        try:
            self._insert(rows)
        except DiskFullError:
            if not all(is_removal(row.value) for row in rows):
                raise
            self._make_room()
            self._insert(rows)

    def _has_free_pages(self) -> bool:
        """Whether what was compacted left room within the file."""
        pages, size = (self._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        return bool(pages * size >= ROOM_BYTES_MIN)

    def _insert(self, rows: Sequence[Row]) -> None:
        values: list[Any] = []
        for row in rows:
            values += (row.revision, row.key, row.previous, row.value)
        with self._failing_clearly():
            self._writer.execute("INSERT INTO log VALUES (?,?,?,?)" + ",(?,?,?,?)" * (len(rows) - 1), values)

    def _make_room(self) -> None:
        """With what was set aside the database can take up its write-ahead log, which then begins anew."""
        self._reserve.spend()
        with suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def compact(self, revision: int) -> None:
        with self._failing_clearly():
            done = self._writer.execute("SELECT value FROM facts WHERE name = 'compacted_revision'").fetchone()[0]
            while done < revision:
                upto = min(done + COMPACT_ROWS_MAX, revision)
                self._compact_step(done, upto)
                done = upto

    def _compact_step(self, after: int, upto: int) -> None:
        execute = self._writer.execute
        execute("BEGIN")
        execute("DELETE FROM log WHERE revision IN (SELECT previous FROM log WHERE revision > ? AND revision <= ?)", (after, upto))
        execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND value IS NULL", (after, upto))
        execute("UPDATE facts SET value = ? WHERE name = 'compacted_revision'", (upto,))
        execute("COMMIT")

    def read_one(self, key: str, revision: int) -> Item | None:
        items = self._items(self._reader.execute(_AT.format(where="key = ?"), (key, revision)))
        return items[0] if items else None

    def read_prefix(self, prefix: str, revision: int, start: str, limit: int) -> list[Item]:
        sql = f"{_AT.format(where='key >= ? AND key < ?')} LIMIT ?"
        return self._items(self._reader.execute(sql, (max(prefix, start), prefix + "\U0010ffff", revision, limit or -1)))

    def read_changes(self, prefix: str, after: int, upto: int) -> list[Change]:
        sql = "SELECT key, value, revision FROM log WHERE revision > ? AND revision <= ? ORDER BY revision"
        return [Change(key, value, revision) for key, value, revision in self._reader.execute(sql, (after, upto)) if key.startswith(prefix)]

    @staticmethod
    def _items(rows: Iterable[tuple[str, bytes, int]]) -> list[Item]:
        return [Item(key, value, revision) for key, value, revision in rows]

    def close(self) -> None:
        self._opened.close()

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if _is_disk_full(error, self._path):
                raise DiskFullError(f"cannot write {self._path}: {DISK_FULL}") from error
            raise StorageError(f"cannot write {self._path}: {error}") from error


def open_sqlite(path: Path) -> GroupCommitStore:
    """Open or create the database. Raises StartupError: no permission, not a database, corrupt, used by another server."""
    log = SqliteLog(path)
    return open_store(log, ThreadWorker("storage-writer"), ThreadWorker("storage-reader"))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        known = f"schema {version}, this one knows {SCHEMA_VERSION}"
        raise StartupError(f"cannot use {path}: it was written by another version of kubecosm ({known})")


def _load(connection: sqlite3.Connection) -> tuple[dict[str, int], int, int]:
    live = connection.execute("SELECT key, max(revision), value IS NULL FROM log GROUP BY key").fetchall()
    newest = connection.execute("SELECT ifnull(max(revision), 0) FROM log").fetchone()[0]
    compacted = connection.execute("SELECT value FROM facts WHERE name = 'compacted_revision'").fetchone()[0]
    return {key: revision for key, revision, deleted in live if not deleted}, max(newest, compacted), compacted


def _lock(path: Path) -> IO[bytes]:
    with startup(f"open the database lock {path}"):
        file = open(path, "ab")  # noqa: SIM115  held until the store is closed
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        advice = "another apiserver is using it; stop that one or choose another --data-dir"
        raise StartupError(f"cannot use the database beside {path}: {advice}") from error
    return file


def _is_disk_full(error: sqlite3.Error, path: Path) -> bool:
    """Not every call that finds no room says so: some only say that they failed."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and shutil.disk_usage(path.parent).free < FREE_BYTES_MIN)


def _startup_error(path: Path, error: sqlite3.Error) -> StartupError:
    advice = {
        "SQLITE_NOTADB": "the file is not a database: restore it from a copy, or move it away to start empty",
        "SQLITE_CORRUPT": "the database is corrupt: restore it from a copy, or move it away to start empty",
        "SQLITE_CANTOPEN": "it cannot be opened: check the path and its permissions",
        "SQLITE_READONLY": "it is read-only: check its permissions",
        "SQLITE_FULL": "the disk is full: free some space and start again; nothing written before is lost",
    }
    name = "SQLITE_FULL" if _is_disk_full(error, path) else getattr(error, "sqlite_errorname", "")
    why = next((text for prefix, text in advice.items() if name.startswith(prefix)), str(error))
    return StartupError(f"cannot use the database {path}: {why}")

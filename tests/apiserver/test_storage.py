"""Both storage backends against the contract, and what only a file can do wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from kubecosm.runtime.errors import StartupError
from kubecosm.services.apiserver.storage import groupcommit
from kubecosm.services.apiserver.storage.contract import Change, DiskFullError, StorageError, Store, Written, is_removal
from kubecosm.services.apiserver.storage.groupcommit import GroupCommitStore, Row, open_store
from kubecosm.services.apiserver.storage.memory import MemoryLog, open_memory
from kubecosm.services.apiserver.storage.reserve import RESERVE_BYTES, Reserve
from kubecosm.services.apiserver.storage.sqlite import open_sqlite
from kubecosm.services.apiserver.storage.subscriptions import Subscribed, Subscriptions
from kubecosm.services.apiserver.storage.worker import InlineWorker

from .store_suite import CLAUSES, check_store

Clause = Callable[[Store], Awaitable[None]]


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_the_contract(backend: str, clause: Clause, tmp_path: Path) -> None:
    async def open_backend() -> Store:
        return open_memory() if backend == "memory" else open_sqlite(tmp_path / "store.db")

    check_store(open_backend, clause)


def test_a_reopened_database_knows_everything_that_was_answered(tmp_path: Path) -> None:
    async def write() -> int:
        store = open_sqlite(tmp_path / "store.db")
        async with asyncio.TaskGroup() as tasks:
            for n in range(100):
                tasks.create_task(store.create(key=f"/k/{n:02}", value=b"%d" % n))
        await store.delete(key="/k/07", expected_revision=(await _revision_of(store, "/k/07")))
        revision = store.revision
        await store.close()
        return revision

    async def read(revision: int) -> None:
        store = open_sqlite(tmp_path / "store.db")
        assert store.revision == revision
        listed = await store.list(prefix="/k/")
        assert {int(item.value) for item in listed.items} == set(range(100)) - {7}
        assert (await store.create(key="/new", value=b"")).revision == revision + 1
        await store.close()

    asyncio.run(read(asyncio.run(write())))


async def _revision_of(store: Store, key: str) -> int:
    item = (await store.get(key=key)).item
    assert item is not None
    return item.revision


def test_the_revision_never_goes_back_even_if_compaction_leaves_nothing(tmp_path: Path) -> None:
    async def write() -> int:
        store = open_sqlite(tmp_path / "store.db")
        revision = (await store.create(key="/a", value=b"")).revision
        await store.delete(key="/a", expected_revision=revision)
        await store.compact(revision=store.revision)
        await store.close()
        return store.revision

    async def read(revision: int) -> None:
        store = open_sqlite(tmp_path / "store.db")
        assert store.revision == revision == store.compacted_revision
        await store.close()

    asyncio.run(read(asyncio.run(write())))


class FailingLog(MemoryLog):
    """A log whose disk can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def append(self, rows: Sequence[Row]) -> None:
        if self.full:
            raise StorageError("database or disk is full")
        super().append(rows)


def failing_store() -> tuple[FailingLog, GroupCommitStore]:
    log = FailingLog()
    return log, open_store(log, InlineWorker(), InlineWorker())


def test_a_failed_commit_fails_its_writes_and_leaves_memory_as_it_was() -> None:
    async def main() -> None:
        log, store = failing_store()
        revision = (await store.create(key="/a", value=b"1")).revision
        seen: list[Change] = []
        await store.subscribe(prefix="/", after_revision=revision, deliver=seen.extend)
        log.full = True
        with pytest.raises(StorageError, match="full"):
            await store.update(key="/a", value=b"2", expected_revision=revision)
        assert seen == []
        assert store.revision == revision
        log.full = False
        assert (await store.update(key="/a", value=b"3", expected_revision=revision)).revision == revision + 1
        assert [c.value for c in seen] == [b"3"]

    asyncio.run(main())


def test_writes_queued_behind_a_failed_commit_fail_with_it() -> None:
    async def main() -> None:
        log, store = failing_store()
        log.full = True
        async with asyncio.TaskGroup() as tasks:
            writes = [tasks.create_task(_outcome(store, n)) for n in range(1200)]
        assert {task.result() for task in writes} == {"failed"}
        assert store.revision == 0

    asyncio.run(main())


async def _outcome(store: Store, number: int) -> str:
    try:
        await store.create(key=f"/{number}", value=b"")
    except StorageError:
        return "failed"
    return "stored"


def test_what_follows_an_accepted_write_fails_with_it_and_shares_its_commit() -> None:
    async def main() -> None:
        log, store = failing_store()
        revision = (await store.create(key="/a", value=b"1")).revision
        appended: list[int] = []
        append = log.append
        log.append = lambda rows: (appended.append(len(rows)), append(rows))[1]  # type: ignore[method-assign]
        for full in (False, True):
            log.full = full
            follower: list[asyncio.Task[str]] = []
            update = store.update(
                key="/a", value=b"2", expected_revision=revision,
                accepted=lambda: follower.append(asyncio.create_task(_outcome(store, len(appended)))),  # noqa: B023  called at once
            )  # fmt: skip
            if full:
                with pytest.raises(StorageError):
                    await update
            else:
                revision = (await update).revision
            assert await follower[0] == ("failed" if full else "stored")
        assert appended == [2, 2]

    asyncio.run(main())


def test_a_compare_that_failed_against_a_write_that_failed_is_made_again() -> None:
    async def main() -> None:
        log, store = failing_store()
        log.full = True
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(_outcome(store, 1))
            await asyncio.sleep(0)
            second = tasks.create_task(store.create(key="/1", value=b"second"))
            await asyncio.sleep(0)
            log.full = False
            log.full = first.done()
        assert (await store.get(key="/1")).item is not None
        assert second.result().succeeded or first.result() == "stored"

    asyncio.run(main())


class TightLog(MemoryLog):
    """A log whose disk can be full, with some room left for removals."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.commits: list[list[bool]] = []

    def append(self, rows: Sequence[Row]) -> None:
        self.commits.append([is_removal(row.value) for row in rows])
        if self.full and not all(self.commits[-1]):
            raise DiskFullError("the disk is full")
        super().append(rows)


def test_on_a_full_disk_removals_are_written_and_others_wait_for_room() -> None:
    async def main() -> None:
        log = TightLog()
        store = open_store(log, InlineWorker(), InlineWorker())
        revisions = [(await store.create(key=f"/{n}", value=b"")).revision for n in range(3)]
        log.full = True
        async with asyncio.TaskGroup() as tasks:
            writes = [tasks.create_task(_outcome(store, n)) for n in range(10, 13)]
            deletes = [tasks.create_task(store.delete(key=f"/{n}", expected_revision=revisions[n])) for n in range(2)]
            marked = b'{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}'
            deletes.append(tasks.create_task(store.update(key="/2", value=marked, expected_revision=revisions[2])))
        assert [task.result() for task in writes] == ["failed"] * 3
        assert all(task.result().succeeded for task in deletes)
        assert store.is_full
        assert await _outcome(store, 14) == "failed"
        assert [item.key for item in (await store.list(prefix="/")).items] == ["/2"]
        log.full = False
        assert await _outcome(store, 15) == "stored"
        assert not store.is_full

    asyncio.run(main())


def test_while_the_disk_is_full_no_removal_shares_the_fate_of_another_write() -> None:
    async def main() -> None:
        log = TightLog()
        store = open_store(log, InlineWorker(), InlineWorker())
        revisions = [(await store.create(key=f"/{n}", value=b"")).revision for n in range(20)]
        log.full = True
        assert await _outcome(store, 100) == "failed"
        log.commits.clear()
        async with asyncio.TaskGroup() as tasks:
            for n, revision in enumerate(revisions):
                tasks.create_task(_outcome(store, 200 + n))
                tasks.create_task(store.delete(key=f"/{n}", expected_revision=revision))
        assert all(len(set(commit)) == 1 for commit in log.commits)
        assert not (await store.list(prefix="/")).items

    asyncio.run(main())


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_room_is_set_aside_and_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr("sys.platform", platform)
    path = tmp_path / "reserve"
    kept = Reserve(path)
    assert (path.stat().st_size, kept.is_spent) == (RESERVE_BYTES, False)
    assert path.stat().st_blocks * 512 >= RESERVE_BYTES, "not a hole in a file"
    kept.spend()
    assert (path.exists(), kept.is_spent) == (False, True)
    kept.keep()
    assert (path.exists(), kept.is_spent) == (True, False)


FULL_DISK = """
import asyncio, os, pathlib, sys
from kubecosm.services.apiserver.storage.contract import DiskFullError
from kubecosm.services.apiserver.storage.sqlite import open_sqlite

async def main(folder):
    store = open_sqlite(folder / "store.db")
    revisions = [(await store.create(key=f"/{n}", value=b"x" * 1000)).revision for n in range(300)]
    fill = folder / "fill"
    try:
        with open(fill, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass
    count = 0
    try:
        while True:
            await store.create(key=f"/more-{count}", value=b"x" * 1000)
            count += 1
    except DiskFullError as error:
        print(error)
    for n, revision in enumerate(revisions):
        assert (await store.delete(key=f"/{n}", expected_revision=revision)).succeeded
    assert len((await store.list(prefix="/")).items) == count
    try:
        await store.create(key="/refused", value=b"")
        sys.exit("room for removals was given to others")
    except DiskFullError:
        fill.unlink()
    assert (await store.create(key="/after", value=b"")).succeeded
    assert not store.is_full and (folder / "store.db-reserve").exists()
    await store.close()
    store = open_sqlite(folder / "store.db")
    assert len((await store.list(prefix="/")).items) == count + 1
    await store.close()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.process
def test_what_is_set_aside_on_a_disk_lets_deletes_go_on_when_it_is_full(tmp_path: Path) -> None:
    script, disk = tmp_path / "full.py", tmp_path / "disk"
    script.write_text(FULL_DISK)
    disk.mkdir()
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=24m tmpfs {disk}"
    if shutil.which("unshare") is None or subprocess.run([*alone, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system of a given size can be mounted here")
    command = f"{mount} && exec {sys.executable} {script} {disk}"
    ran = subprocess.run([*alone, "sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "store.db: the disk is full: free some space" in ran.stdout


def test_writes_of_one_key_over_several_commits_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupcommit, "COMMIT_ROWS_MAX", 1)  # every write is a commit of its own

    async def main() -> None:
        store = open_memory()
        first = (await store.create(key="/a", value=b"1")).revision
        updates: list[asyncio.Task[Written]] = []

        def update_at_once(changes: Sequence[Change]) -> None:
            if changes[-1].revision == first + 2:
                update = store.update(key="/a", value=b"3", expected_revision=first + 2)
                updates.append(tasks.create_task(update))

        await store.subscribe(prefix="/", after_revision=first, deliver=update_at_once)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.delete(key="/a", expected_revision=first))
            tasks.create_task(store.create(key="/a", value=b"2"))
            tasks.create_task(store.delete(key="/a", expected_revision=first + 2))
        assert [task.result() for task in updates] == [Written(False, 0)], "the second delete was there first"
        assert (await store.get(key="/a")).item is None

    asyncio.run(main())


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        store = open_sqlite(path)
        revision = (await store.create(key="/small", value=b"x")).revision
        log = store._log
        log._writer.execute("PRAGMA max_page_count = 20")  # a disk that is full, without filling one
        with pytest.raises(StorageError, match="full"):
            await store.create(key="/big", value=os.urandom(400_000))
        log._writer.execute("PRAGMA max_page_count = 1000000")
        assert (await store.get(key="/small")).item is not None
        assert (await store.update(key="/small", value=b"y", expected_revision=revision)).succeeded
        await store.close()

    asyncio.run(main())


def test_a_file_that_is_no_database_gives_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database, but long enough to look at" * 100)

    async def main() -> None:
        with pytest.raises(StartupError, match="not a database") as raised:
            open_sqlite(path)
        assert "\n" not in raised.value.message

    asyncio.run(main())


def test_a_second_server_on_the_same_database_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_sqlite(tmp_path / "store.db")
        with pytest.raises(StartupError, match="another apiserver"):
            open_sqlite(tmp_path / "store.db")
        await store.close()
        again = open_sqlite(tmp_path / "store.db")
        await again.close()

    asyncio.run(main())


def test_a_database_of_another_schema_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("PRAGMA user_version = 99")
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()

    async def main() -> None:
        with pytest.raises(StartupError, match="another version of kubecosm"):
            open_sqlite(tmp_path / "store.db")

    asyncio.run(main())


def test_subscriptions_to_one_resource_get_its_changes_alone_and_after_the_wider_ones() -> None:
    subscriptions, seen = Subscriptions(), list[tuple[str, int]]()

    def subscribe(name: str, prefix: str) -> Subscribed:
        subscription = subscriptions.add(prefix, lambda changes: seen.extend((name, change.revision) for change in changes))
        subscription.catch_up([])
        return subscription

    narrow = subscribe("pods", "/registry/core/pods/")
    subscribe("namespace", "/registry/core/pods/default/")
    subscribe("everything", "/registry/")
    keys = ["/registry/core/pods/default/a", "/registry/core/podtemplates/default/b", "/registry/core/pods/other/c", "/registry/x", "/y"]
    subscriptions.publish([Change(key, b"", n) for n, key in enumerate(keys)])
    assert seen == [("namespace", 0), ("everything", 0), ("everything", 1), ("everything", 2), ("everything", 3), ("pods", 0), ("pods", 2)]
    narrow.close()
    subscriptions.publish([Change(keys[0], b"", 9)])
    assert seen[-1] == ("everything", 9)

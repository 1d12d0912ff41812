"""The storage contract as a suite: every implementation passes itself to `check_store`, clause by clause, each on a fresh store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from kubecosm.services.apiserver.storage.contract import Change, CompactedError, FutureRevisionError, Store, Written

Open = Callable[[], Awaitable[Store]]


async def create(store: Store, key: str, value: bytes) -> int:
    written = await store.create(key=key, value=value)
    assert written.succeeded
    return written.revision


async def a_write_gets_the_next_revision(store: Store) -> None:
    first = await create(store, "/a", b"1")
    second = await create(store, "/b", b"2")
    assert second == first + 1 == store.revision


async def create_refuses_an_existing_key_and_names_its_revision(store: Store) -> None:
    revision = await create(store, "/a", b"1")
    assert await store.create(key="/a", value=b"2") == Written(False, revision)
    found = (await store.get(key="/a")).item
    assert found is not None
    assert found.value == b"1"


async def update_needs_the_expected_revision(store: Store) -> None:
    revision = await create(store, "/a", b"1")
    updated = await store.update(key="/a", value=b"2", expected_revision=revision)
    assert updated == Written(True, revision + 1)
    assert await store.update(key="/a", value=b"3", expected_revision=revision) == Written(False, revision + 1)
    assert await store.update(key="/missing", value=b"3", expected_revision=revision) == Written(False, 0)


async def what_follows_an_accepted_update_shares_its_fate(store: Store) -> None:
    """A backend that cannot tell ahead does not say so; one that does says so once, and only of updates whose compare holds."""
    revision, said = await create(store, "/a", b"1"), []
    assert (await store.update(key="/a", value=b"2", expected_revision=revision + 7, accepted=lambda: said.append(0))).succeeded is False
    assert said == []
    follower: list[asyncio.Task[Written]] = []

    def accepted() -> None:
        said.append(store.revision)
        follower.append(asyncio.create_task(store.create(key="/b", value=b"1")))

    written = await store.update(key="/a", value=b"2", expected_revision=revision, accepted=accepted)
    assert written == Written(True, revision + 1)
    if said:
        assert said == [revision], "before it is durable"
        assert await follower[0] == Written(True, revision + 2)
        assert store.revision == revision + 2


async def delete_needs_the_expected_revision_and_counts_as_a_write(store: Store) -> None:
    revision = await create(store, "/a", b"1")
    assert await store.delete(key="/a", expected_revision=revision + 7) == Written(False, revision)
    assert await store.delete(key="/a", expected_revision=revision) == Written(True, revision + 1)
    assert (await store.get(key="/a")).item is None
    assert await store.delete(key="/a", expected_revision=revision) == Written(False, 0)


async def a_key_can_be_created_again_after_its_delete(store: Store) -> None:
    revision = await create(store, "/a", b"1")
    await store.delete(key="/a", expected_revision=revision)
    again = await create(store, "/a", b"2")
    assert again == revision + 2


async def one_of_many_concurrent_updates_wins(store: Store) -> None:
    revision = await create(store, "/a", b"0")
    async with asyncio.TaskGroup() as tasks:
        tries = [tasks.create_task(store.update(key="/a", value=b"%d" % n, expected_revision=revision)) for n in range(20)]
    results = [task.result() for task in tries]
    assert sum(r.succeeded for r in results) == 1
    assert {r.revision for r in results} == {revision + 1}
    assert store.revision == revision + 1


async def concurrent_writes_get_revisions_without_gaps(store: Store) -> None:
    before = store.revision
    async with asyncio.TaskGroup() as tasks:
        writes = [tasks.create_task(store.create(key=f"/k{n:03}", value=b"x")) for n in range(300)]
    assert sorted(w.result().revision for w in writes) == list(range(before + 1, before + 301))


async def get_reads_as_of_a_revision(store: Store) -> None:
    first = await create(store, "/a", b"1")
    second = (await store.update(key="/a", value=b"2", expected_revision=first)).revision
    third = (await store.delete(key="/a", expected_revision=second)).revision
    values = [(await store.get(key="/a", revision=r)).item for r in (first, second, third)]
    assert [item and item.value for item in values] == [b"1", b"2", None]


async def list_reads_a_prefix_in_key_order_as_of_a_revision(store: Store) -> None:
    for key in ("/p/b", "/p/a", "/q/x", "/p/c", "/p"):
        await create(store, key, key.encode())
    before = store.revision
    await create(store, "/p/0", b"new")
    listed = await store.list(prefix="/p/", revision=before)
    assert [item.key for item in listed.items] == ["/p/a", "/p/b", "/p/c"]
    assert listed.revision == before
    assert [item.key for item in (await store.list(prefix="/p/")).items] == ["/p/0", "/p/a", "/p/b", "/p/c"]


async def list_in_pages_says_whether_more_follows(store: Store) -> None:
    for n in range(5):
        await create(store, f"/p/{n}", b"x")
    first = await store.list(prefix="/p/", limit=2)
    rest = await store.list(prefix="/p/", start=first.items[-1].key + "\0", limit=3, revision=first.revision)
    assert (len(first.items), first.more) == (2, True)
    assert ([item.key for item in rest.items], rest.more) == (["/p/2", "/p/3", "/p/4"], False)


async def deleted_keys_take_no_place_on_a_page(store: Store) -> None:
    revisions = [await create(store, f"/p/{n}", b"x") for n in range(4)]
    for n in (0, 2):
        await store.delete(key=f"/p/{n}", expected_revision=revisions[n])
    listed = await store.list(prefix="/p/", limit=2)
    assert ([item.key for item in listed.items], listed.more) == (["/p/1", "/p/3"], False)


async def a_future_revision_is_refused(store: Store) -> None:
    with pytest.raises(FutureRevisionError):
        await store.get(key="/a", revision=store.revision + 1)
    with pytest.raises(FutureRevisionError):
        await store.list(prefix="/", revision=store.revision + 1)


async def a_subscription_gets_past_and_present_changes_once_and_in_order(store: Store) -> None:
    seen: list[Change] = []
    start = await create(store, "/p/a", b"1")
    await create(store, "/q/other", b"x")
    await store.update(key="/p/a", value=b"2", expected_revision=start)
    subscription = await store.subscribe(prefix="/p/", after_revision=start, deliver=seen.extend)
    await create(store, "/p/b", b"3")
    await store.delete(key="/p/a", expected_revision=start + 2)
    assert [(c.key, c.value, c.revision - start) for c in seen] == [("/p/a", b"2", 2), ("/p/b", b"3", 3), ("/p/a", None, 4)]
    subscription.close()
    await create(store, "/p/c", b"4")
    assert len(seen) == 3


async def nothing_is_lost_between_list_and_subscribe_under_writes(store: Store) -> None:
    state: dict[str, int] = {}

    def deliver(changes: Sequence[Change]) -> None:
        for change in changes:
            assert change.revision > state.get("last", 0)
            state["last"] = change.revision
            state[change.key] = change.revision

    async def write(worker: int) -> None:
        for n in range(40):
            await create(store, f"/w/{worker}/{n}", b"x")

    async with asyncio.TaskGroup() as tasks:
        for worker in range(4):
            tasks.create_task(write(worker))
        await create(store, "/in-between", b"")
        listed = await store.list(prefix="/w/")
        state.update({item.key: item.revision for item in listed.items}, last=listed.revision)
        await store.subscribe(prefix="/w/", after_revision=listed.revision, deliver=deliver)
    assert {key for key in state if key != "last"} == {item.key for item in (await store.list(prefix="/w/")).items}


async def a_writer_who_was_answered_has_been_delivered(store: Store) -> None:
    seen: list[Change] = []
    await store.subscribe(prefix="/", after_revision=store.revision, deliver=seen.extend)
    revision = await create(store, "/a", b"1")
    assert seen[-1].revision == revision


async def compaction_keeps_the_newest_and_refuses_older_reads(store: Store) -> None:
    first = await create(store, "/a", b"1")
    second = (await store.update(key="/a", value=b"2", expected_revision=first)).revision
    other = await create(store, "/b", b"x")
    await store.delete(key="/b", expected_revision=other)
    kept = await create(store, "/c", b"c")
    await store.compact(revision=store.revision)
    assert store.compacted_revision == store.revision
    for item, value in (("/a", b"2"), ("/c", b"c")):
        found = (await store.get(key=item)).item
        assert found is not None
        assert found.value == value
    assert [i.key for i in (await store.list(prefix="/")).items] == ["/a", "/c"]
    with pytest.raises(CompactedError):
        await store.get(key="/a", revision=first)
    with pytest.raises(CompactedError):
        await store.list(prefix="/", revision=second)
    with pytest.raises(CompactedError):
        await store.subscribe(prefix="/", after_revision=kept - 1, deliver=lambda changes: None)


async def compaction_drops_tombstones_without_reviving_anything(store: Store) -> None:
    for _ in range(3):
        revision = await create(store, "/a", b"x")
        revision = (await store.update(key="/a", value=b"y", expected_revision=revision)).revision
        await store.delete(key="/a", expected_revision=revision)
        await store.compact(revision=store.revision)
    assert (await store.get(key="/a")).item is None
    assert (await store.list(prefix="/")).items == ()
    assert (await store.create(key="/a", value=b"z")).succeeded


async def compaction_in_the_middle_keeps_what_was_valid_there(store: Store) -> None:
    first = await create(store, "/a", b"1")
    middle = (await store.update(key="/a", value=b"2", expected_revision=first)).revision
    await store.update(key="/a", value=b"3", expected_revision=middle)
    await store.compact(revision=middle)
    found = (await store.get(key="/a", revision=middle)).item
    assert found is not None
    assert found.value == b"2"


CLAUSES: tuple[Callable[[Store], Awaitable[None]], ...] = (
    a_write_gets_the_next_revision,
    create_refuses_an_existing_key_and_names_its_revision,
    update_needs_the_expected_revision,
    what_follows_an_accepted_update_shares_its_fate,
    delete_needs_the_expected_revision_and_counts_as_a_write,
    a_key_can_be_created_again_after_its_delete,
    one_of_many_concurrent_updates_wins,
    concurrent_writes_get_revisions_without_gaps,
    get_reads_as_of_a_revision,
    list_reads_a_prefix_in_key_order_as_of_a_revision,
    list_in_pages_says_whether_more_follows,
    deleted_keys_take_no_place_on_a_page,
    a_future_revision_is_refused,
    a_subscription_gets_past_and_present_changes_once_and_in_order,
    nothing_is_lost_between_list_and_subscribe_under_writes,
    a_writer_who_was_answered_has_been_delivered,
    compaction_keeps_the_newest_and_refuses_older_reads,
    compaction_drops_tombstones_without_reviving_anything,
    compaction_in_the_middle_keeps_what_was_valid_there,
)


def check_store(open_store: Open, clause: Callable[[Store], Awaitable[None]]) -> None:
    """Run one clause of the contract on a fresh store."""

    async def main() -> None:
        store = await open_store()
        try:
            await clause(store)
        finally:
            await store.close()

    asyncio.run(main())

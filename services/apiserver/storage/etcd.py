"""The etcd backend: the storage contract over a cluster of etcd v3 that several API servers may share.

A write is one transaction that compares the key's revision. One watch of everything feeds all subscriptions, also with the writes of other
servers; a writer is answered once its own write has come back through that watch, so he finds it wherever he looks. What etcd knows of
history (reads and watches of old revisions, until compaction) serves ours.
"""

from __future__ import annotations

import asyncio
import heapq
import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .contract import Change, CompactedError, Deliver, Found, FutureRevisionError, Item, Listed, StorageError, Written
from .etcdclient import COMPACTED, FUTURE, EtcdClient, EtcdError, decoded, encoded, pause, range_end
from .subscriptions import Subscribed, Subscriptions

log = get_logger("apiserver")

PAGE_ITEMS = 2000
"""Keys read in one call, however many are asked for."""
DELIVERY_SECONDS_MAX = 10.0
"""How long a write may take to come back through the watch before it counts as failed (it is stored all the same)."""
MARKER = "kubecosm/servers/opened"
"""A key that is written and removed when a server opens the store, so that its first revision is that of an event."""


class EtcdStore:
    """The Store of `contract`. Make it with `open_etcd`."""

    def __init__(self, client: EtcdClient, root: str, namespace: str) -> None:
        """Keys begin with `root`; in etcd, `namespace` stands before them."""
        self._client = client
        self._namespace = namespace
        self._root = namespace + root
        self._marker = self._root + MARKER
        self._revision = self._compacted = 0
        self._subscriptions = Subscriptions()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._tickets = count()
        self._lost = ""
        self._group = asyncio.TaskGroup()
        self._follower: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted_revision(self) -> int:
        return self._compacted

    @property
    def is_full(self) -> bool:
        return False  # etcd keeps room for deletes by itself

    async def open(self) -> None:
        """Raises StorageError."""
        key = encoded(self._marker)
        await self._client.call("kv/put", {"key": key, "value": ""})
        self._revision = _revision(await self._client.call("kv/deleterange", {"key": key}))
        try:
            async for result in self._client.watch(key, "", 1):
                if result.get("events"):
                    break
        except CompactedError as error:
            self._compacted = error.compacted_revision
        await self._group.__aenter__()
        self._follower = self._group.create_task(self._follow(), name="etcd-watch")

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await self._group.__aexit__(None, None, None)
        await self._client.close()

    # ---- writing

    async def create(self, *, key: str, value: bytes) -> Written:
        return await self._write(key, 0, value)

    async def update(
        self, *, key: str, value: bytes, expected_revision: int, accepted: Callable[[], None] | None = None
    ) -> Written:
        return await self._write(key, expected_revision, value)

    async def delete(self, *, key: str, expected_revision: int) -> Written:
        return await self._write(key, expected_revision, None)

    async def _write(self, key: str, expected: int, value: bytes | None) -> Written:
        if self._lost:
            raise StorageError(self._lost)
        name = encoded(self._namespace + key)
        if value is None:
            change: Any = {"request_delete_range": {"key": name}}
        else:
            change = {"request_put": {"key": name, "value": b64encode(value).decode()}}
        answer = await self._client.call("kv/txn", {
            "compare": [{"target": "MOD", "result": "EQUAL", "key": name, "mod_revision": str(expected)}],
            "success": [change], "failure": [{"request_range": {"key": name, "keys_only": True}}],
        })  # fmt: skip
        if answer.get("succeeded"):
            revision = _revision(answer)
            await self._delivered(revision)
            return Written(True, revision)
        found = answer["responses"][0]["response_range"].get("kvs")
        present = int(found[0]["mod_revision"]) if found else 0
        await self._delivered(present)
        return Written(False, present)

    async def _delivered(self, revision: int) -> None:
        """Return once everything up to a revision has been delivered. Raises StorageError if that takes too long."""
        if revision <= self._revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._tickets), reached))
        try:
            async with asyncio.timeout(DELIVERY_SECONDS_MAX):
                await reached
        except TimeoutError:
            raise StorageError("etcd has stored a change but does not tell of it") from None

    # ---- reading

    async def get(self, *, key: str, revision: int = 0) -> Found:
        at = self._readable(revision)
        answer = await self._range({"key": encoded(self._namespace + key), "revision": str(at)}, at)
        items = self._items(answer)
        return Found(at, items[0] if items else None)

    async def list(self, *, prefix: str, revision: int = 0, start: str = "", limit: int = 0) -> Listed:
        at = self._readable(revision)
        first, end = self._namespace + max(prefix, start), range_end(self._namespace + prefix)
        items: list[Item] = []
        while True:
            page = min(limit - len(items), PAGE_ITEMS) if limit else PAGE_ITEMS
            answer = await self._range({"key": encoded(first), "range_end": end, "revision": str(at), "limit": str(page)}, at)
            found = self._items(answer)
            items += found
            more = bool(answer.get("more"))
            if not more or (limit and len(items) >= limit):
                return Listed(at, tuple(items), more)
            first = f"{self._namespace}{found[-1].key}\0"

    def _readable(self, revision: int) -> int:
        if self._lost:
            raise StorageError(self._lost)
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        at = revision or self._revision
        if at < self._compacted:
            raise CompactedError(at, self._compacted)
        return at

    async def _range(self, request: Any, revision: int) -> Any:
        try:
            return await self._client.call("kv/range", request)
        except EtcdError as error:
            if COMPACTED in str(error):  # by another server
                self._compacted = max(self._compacted, revision + 1)
                raise CompactedError(revision, self._compacted) from error
            if FUTURE in str(error):
                raise FutureRevisionError(revision, self._revision) from error
            raise

    def _items(self, answer: Any) -> Sequence[Item]:
        cut = len(self._namespace)
        return [
            Item(decoded(kv["key"])[cut:], b64decode(kv.get("value", "")), int(kv["mod_revision"])) for kv in answer.get("kvs") or ()
        ]

    async def compact(self, *, revision: int) -> None:
        if revision <= self._compacted:
            return
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        try:
            await self._client.call("kv/compaction", {"revision": str(revision)})
        except EtcdError as error:
            if COMPACTED not in str(error):
                raise
        self._compacted = max(self._compacted, revision)

    # ---- following

    async def subscribe(self, *, prefix: str, after_revision: int, deliver: Deliver) -> Subscribed:
        if after_revision < self._compacted:
            raise CompactedError(after_revision, self._compacted)
        subscription = self._subscriptions.add(prefix, deliver)
        history: Sequence[Change] | None = None
        try:
            history = await self._history(prefix, after_revision, self._revision)
        finally:
            if history is None:
                subscription.close()
        subscription.catch_up(history)
        return subscription

    async def _history(self, prefix: str, after: int, upto: int) -> Sequence[Change]:
        """Past changes; `upto` is the revision of an event, so the watch is over when it has come."""
        found: list[Change] = []
        if after >= upto:
            return found
        async for result in self._client.watch(encoded(self._root), range_end(self._root), after + 1):
            for event in result.get("events") or ():
                change = self._change(event)
                if change.revision > upto:
                    return found
                if change.key.startswith(prefix) and not self._is_marker(change):
                    found.append(change)
                if change.revision == upto:
                    return found
        raise EtcdError("etcd ended a watch of the past")

    async def _follow(self) -> None:
        """Deliver everything that happens, whoever does it; reconnect when the connection breaks."""
        attempt = 0
        while True:
            try:
                async for result in self._client.watch(encoded(self._root), range_end(self._root), self._revision + 1):
                    attempt = 0
                    if events := result.get("events"):
                        self._take(events)
            except CompactedError as error:
                self._lose(f"etcd has compacted what this server has not seen ({error}): start it again")
                return
            except EtcdError as error:
                log.error("the watch of etcd broke", error=str(error))
            await pause(attempt)
            attempt += 1

    def _take(self, events: Sequence[Any]) -> None:
        changes = [self._change(event) for event in events]
        self._revision = changes[-1].revision
        self._subscriptions.publish([change for change in changes if not self._is_marker(change)])
        while self._waiting and self._waiting[0][0] <= self._revision:
            _, _, reached = heapq.heappop(self._waiting)
            if not reached.done():
                reached.set_result(None)

    def _lose(self, why: str) -> None:
        """From now on nothing works, rather than wrongly."""
        log.error(why)
        self._lost = why
        for _, _, reached in self._waiting:
            if not reached.done():
                reached.set_exception(StorageError(why))

    def _is_marker(self, change: Change) -> bool:
        return self._namespace + change.key == self._marker

    def _change(self, event: Any) -> Change:
        kv = event["kv"]
        is_delete = event.get("type") == "DELETE"
        value = None if is_delete else b64decode(kv.get("value", ""))
        return Change(decoded(kv["key"])[len(self._namespace) :], value, int(kv["mod_revision"]))


def _revision(answer: Any) -> int:
    return int(answer["header"]["revision"])


async def open_etcd(
    endpoints: Sequence[str], context: ssl.SSLContext | None = None, *, root: str = "/registry/", namespace: str = ""
) -> EtcdStore:
    """A store on a running etcd. Raises StartupError. Close it in the task that opened it."""
    client = EtcdClient(endpoints, context)
    store = EtcdStore(client, root, namespace)
    try:
        await store.open()
    except StorageError as error:
        await client.close()
        raise StartupError(f"cannot use etcd at {', '.join(endpoints)}: {error}; check --etcd-servers and that etcd runs") from error
    return store

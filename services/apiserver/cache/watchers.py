"""Who gets which event: watchers with equal wishes form a group that is served once, and groups are indexed by what they can match.

An event costs the groups that may want it plus one write per receiving watcher and commit, however many watchers there are in all.
A watcher whose unsent bytes exceed its bound is closed, never waited for: it resumes from its last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Protocol

from kubecosm.runtime.metrics import exponential_buckets

from ..http.response import chunk
from ..tallies import SAMPLED, Durations
from .entry import AttributesOf
from .events import Event
from .selection import NODE_NAME, Selection
from .view import View

EVENT_SIZE_BUCKETS = exponential_buckets(1024, 2.0, 8)
"""apiserver_watch_events_sizes."""
REST_AFTER_SECONDS = 0.001
REST_SECONDS_MAX = 0.05
"""The longest that an event waits for others behind a long flush."""


class Watcher(Protocol):
    """The receiving end of one watch stream."""

    def send(self, piece: bytes) -> None:
        """Take one HTTP chunk of whole frames; must not block and must not raise."""

    def bookmark(self, revision: int) -> None:
        """Tell the client, if it asked for that, that it has seen everything up to a revision."""

    def end(self) -> None:
        """Close the stream in good order."""


class WatchGroup:
    """Watchers of the same selection in the same view."""

    __slots__ = ("_pending", "selection", "view", "watchers")

    def __init__(self, selection: Selection, view: View) -> None:
        self.selection = selection
        self.view = view
        self.watchers: dict[Watcher, None] = {}  # a set that keeps its order
        self._pending: list[bytes] = []

    def offer(self, event: Event, attributes_of: AttributesOf) -> bool:
        """Queue the event if it means something to this group; True if this is the first one queued."""
        kind = event.type_for(self.selection, attributes_of)
        if kind is None:
            return False
        self._pending.append(event.frame(kind, self.view))
        return len(self._pending) == 1

    def flush(self) -> int:
        """Send what is queued as one piece, framed once, to every watcher. Answers how many events that was in all."""
        pending, watchers = self._pending, tuple(self.watchers)
        count = len(pending) * len(watchers)
        piece = chunk(b"".join(pending))
        pending.clear()
        for watcher in watchers:
            watcher.send(piece)
        return count

    def size_of_next(self) -> int:
        """Bytes of the first event that is queued."""
        return len(self._pending[0])


class WatchIndex:
    """The groups of one resource, by the narrowest thing they demand: name, node, namespace, or nothing."""

    def __init__(self, attributes_of: AttributesOf) -> None:
        self._attributes_of = attributes_of
        self._groups: dict[tuple[Selection, View], WatchGroup] = {}
        self._everywhere: list[WatchGroup] = []
        self._by_key: dict[str, list[WatchGroup]] = {}
        self._by_namespace: dict[str, list[WatchGroup]] = {}
        self._by_name: dict[str, list[WatchGroup]] = {}
        self._by_node: dict[str, list[WatchGroup]] = {}
        self._dirty: list[WatchGroup] = []  # groups with queued frames
        self._resting: asyncio.TimerHandle | None = None
        self.sent = 0
        """Events that watchers got, each counted for each."""
        self.sizes = Durations(EVENT_SIZE_BUCKETS)
        """Of some events."""
        self._flushes = 0

    @property
    def watcher_count(self) -> int:
        return sum(len(group.watchers) for group in self._groups.values())

    def interested(self, namespace: str, name: str) -> int:
        """How many watchers an event of such an object may reach; those that select by node are left out."""
        groups = self._everywhere
        if not self._by_namespace and not self._by_name and not self._by_key:  # as with controllers
            return sum([len(group.watchers) for group in groups])
        for found in (self._by_namespace.get(namespace), self._by_name.get(name), self._by_key.get(f"{namespace}/{name}")):
            if found:
                groups = [*groups, *found]
        return sum([len(group.watchers) for group in groups])

    def groups(self) -> Iterable[WatchGroup]:
        return tuple(self._groups.values())

    def add(self, watcher: Watcher, selection: Selection, view: View) -> None:
        group = self._groups.get((selection, view))
        if group is None:
            group = self._groups[selection, view] = WatchGroup(selection, view)
            self._bucket_of(selection).append(group)
        self.flush()  # what is queued, the new watcher has had from the history
        group.watchers[watcher] = None

    def remove(self, watcher: Watcher, selection: Selection, view: View) -> None:
        group = self._groups.get((selection, view))
        if group is None or watcher not in group.watchers:
            return
        self.flush()  # nobody leaves without what is queued for him
        group.watchers.pop(watcher, None)
        if not group.watchers:
            del self._groups[selection, view]
            self._bucket_of(selection).remove(group)
            self._drop_empty_bucket(selection)

    def publish(self, events: Sequence[Event]) -> None:
        """Hand the events of one commit to whoever wants them."""
        if not self._groups:
            return
        dirty = self._dirty
        for event in events:
            for group in self._candidates(event):
                if group.offer(event, self._attributes_of):
                    dirty.append(group)
        for event in events:
            event.forget_frames()
        if dirty and self._resting is None:
            self.flush()

    def flush(self) -> None:
        """Send everything that is queued.

        When that takes long because there are so many watchers, the next flush waits as long again: what happens meanwhile goes out
        together, and other work gets its turn. With few watchers nothing ever waits.
        """
        if not self._dirty:
            return
        started = perf_counter()  # the work itself, not cluster time
        dirty, self._dirty = self._dirty, []
        if not self._flushes % SAMPLED:
            self.sizes.observe(dirty[0].size_of_next())
        self._flushes += 1
        for group in dirty:
            self.sent += group.flush()
        took = perf_counter() - started
        if took > REST_AFTER_SECONDS and self._resting is None:
            self._resting = asyncio.get_running_loop().call_later(min(took, REST_SECONDS_MAX), self._rested)

    def _rested(self) -> None:
        self._resting = None
        self.flush()

    def _candidates(self, event: Event) -> list[WatchGroup]:
        key = event.key
        found = list(self._everywhere)
        if self._by_namespace:
            found += self._by_namespace.get(key.partition("/")[0], ())
        if self._by_key:
            found += self._by_key.get(key, ())
        if self._by_name:
            found += self._by_name.get(key.rpartition("/")[2], ())
        if self._by_node:
            for node in self._nodes_of(event):
                found += self._by_node.get(node, ())
        return found

    def _nodes_of(self, event: Event) -> set[str]:
        return {
            entry.attributes(self._attributes_of).fields.get(NODE_NAME, "")
            for entry in (event.entry, event.previous)
            if entry is not None
        }

    def _bucket_of(self, selection: Selection) -> list[WatchGroup]:
        index, value = self._index_of(selection)
        return self._everywhere if index is None else index.setdefault(value, [])

    def _drop_empty_bucket(self, selection: Selection) -> None:
        index, value = self._index_of(selection)
        if index is not None and not index.get(value):
            index.pop(value, None)

    def _index_of(self, selection: Selection) -> tuple[dict[str, list[WatchGroup]] | None, str]:
        name, node = selection.name, selection.node_name
        if name is not None:
            return (self._by_key, f"{selection.namespace}/{name}") if selection.namespace else (self._by_name, name)
        if node is not None:
            return self._by_node, node
        if selection.namespace:
            return self._by_namespace, selection.namespace
        return None, ""

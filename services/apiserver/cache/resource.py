"""The watch cache of one resource: newest entries in key order, the history of its events, its watchers."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .entry import AttributesOf, Entry, with_revision
from .events import Event, History
from .selection import Selection
from .view import View
from .watchers import Watcher, WatchIndex


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: `more` says that objects after the last one remain; `remaining` how many, if it is known cheaply."""

    entries: list[Entry]
    more: bool
    remaining: int | None
    looked_at: int
    """How many objects were looked at to find these."""


class ResourceCache:
    """All objects of one resource, whatever API version they are asked in."""

    def __init__(self, attributes_of: AttributesOf, *, namespaced: bool, revision: int = 0) -> None:
        self.attributes_of = attributes_of
        self.namespaced = namespaced
        self.revision = revision
        """The revision of the newest change of this resource."""
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self.history = History(revision)
        self.watches = WatchIndex(attributes_of)
        self.lists = self.looked_at = self.returned = 0
        """Lists that clients got from here, the objects looked at for them and those returned."""
        self.followers: list[Callable[[Sequence[Event]], None]] = []
        """Parts of this server that want every change, before watchers get it; they must not raise."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def entries(self) -> Iterable[Entry]:
        """All of them, in no order."""
        return self._entries.values()

    def load(self, items: Iterable[tuple[str, bytes, int]]) -> None:
        """Add (key, value, revision) of objects that are not there yet, before anybody watches."""
        for key, value, revision in items:
            self._entries[key] = Entry(key, with_revision(value, revision), revision)
            self._keys.append(key)
        self._keys.sort()  # costs nothing when they come in order, as they do

    def apply(self, key: str, value: bytes | None, revision: int) -> Event | None:
        """Take in one change; the caller publishes the event with the others of its commit."""
        previous = self._entries.get(key)
        entry = None
        if value is not None:
            entry = self._entries[key] = Entry(key, with_revision(value, revision), revision)
            if previous is None:
                insort(self._keys, key)
        elif previous is not None:
            del self._entries[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            return None
        self.revision = revision
        event = Event(entry, previous, revision)
        self.history.append(event)
        return event

    def publish(self, events: Sequence[Event]) -> None:
        for follow in self.followers:
            follow(events)
        self.watches.publish(events)

    def page(self, selection: Selection, *, after: str = "", limit: int = 0) -> Page:
        """The entries of a selection in key order, from behind key `after` on, at most `limit` (0: all)."""
        keys = self._range(selection, after)
        if selection.is_plain:
            chosen = keys[:limit] if limit else keys
            remaining = len(keys) - len(chosen)
            entries = self._entries
            return Page([entries[key] for key in chosen], remaining > 0, remaining, len(chosen))
        return self._filtered(keys, selection, limit)

    def _filtered(self, keys: list[str], selection: Selection, limit: int) -> Page:
        found: list[Entry] = []
        entries, attributes_of = self._entries, self.attributes_of
        for looked_at, key in enumerate(keys, 1):
            entry = entries[key]
            labels, fields = entry.attributes(attributes_of)
            if selection.labels.matches(labels) and selection.fields.matches(fields):
                if limit and len(found) == limit:
                    return Page(found, True, None, looked_at)
                found.append(entry)
        return Page(found, False, 0, len(keys))

    def _range(self, selection: Selection, after: str) -> list[str]:
        """The keys a selection can match, as far as order and name tell."""
        name, namespace = selection.name, selection.namespace
        if name is not None and (namespace or not self.namespaced):
            key = f"{namespace}/{name}" if namespace else name
            return [key] if key in self._entries and key > after else []
        keys = self._keys
        start = bisect_left(keys, after + "\0") if after else 0
        if not namespace:
            return keys[start:] if start else keys
        low = max(start, bisect_left(keys, namespace + "/"))
        return keys[low : bisect_left(keys, namespace + "0", low)]  # "0" follows "/"

    def watch(self, watcher: Watcher, selection: Selection, view: View) -> None:
        """Deliver all events from now on."""
        self.watches.add(watcher, selection, view)

    def unwatch(self, watcher: Watcher, selection: Selection, view: View) -> None:
        self.watches.remove(watcher, selection, view)

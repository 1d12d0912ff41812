"""Watch events: encoded once per form in which they are served, and kept in a bounded history for watches that resume."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from .entry import AttributesOf, Entry, with_revision
from .selection import Selection
from .view import View

HISTORY_EVENTS_MAX = 4096
"""Events kept per resource; a watch from before the oldest gets 410 Expired and lists again."""

ADDED, MODIFIED, DELETED = b"ADDED", b"MODIFIED", b"DELETED"
BOOKMARK, ERROR = b"BOOKMARK", b"ERROR"
_REVISION = attrgetter("revision")


class Event:
    """One change: `entry` is the new state (None: deleted), `previous` the one before (None: created)."""

    __slots__ = ("_frames", "entry", "previous", "revision")

    def __init__(self, entry: Entry | None, previous: Entry | None, revision: int) -> None:
        self.entry = entry
        self.previous = previous
        self.revision = revision
        self._frames: dict[tuple[bytes, View], bytes] | None = None

    @property
    def key(self) -> str:
        present = self.entry or self.previous
        assert present is not None
        return present.key

    def type_for(self, selection: Selection, attributes_of: AttributesOf) -> bytes | None:
        """What this change means to those who see only a selection; None if nothing."""
        before = self.previous is not None and selection.matches(self.previous, attributes_of)
        after = self.entry is not None and selection.matches(self.entry, attributes_of)
        if after:
            return MODIFIED if before else ADDED
        return DELETED if before else None

    def frame(self, kind: bytes, view: View) -> bytes:
        """The line of the watch stream; encoded for the first watcher of each form, kept for the others until `forget_frames`."""
        frames = self._frames
        if frames is None:
            frames = self._frames = {}
        frame = frames.get((kind, view))
        if frame is None:
            frame = frames[kind, view] = frame_of(kind, self._data(kind), view)
        return frame

    def _data(self, kind: bytes) -> bytes:
        if kind is DELETED:  # the last state, at the revision of its end
            assert self.previous is not None
            return with_revision(self.previous.data, self.revision)
        assert self.entry is not None
        return self.entry.data

    def forget_frames(self) -> None:
        self._frames = None


def frame_of(kind: bytes, data: bytes, view: View) -> bytes:
    """`{"type":"ADDED","object":{…}}` and a newline, or the same packed."""
    if view.packs:
        from ..packed import pack_event

        return pack_event(kind, view.render(data))
    return b'{"type":"%b","object":%b}\n' % (kind, view.render(data))


class History:
    """The newest events of one resource in revision order. Complete for revisions after `start`."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._events: list[Event] = []
        self._forgotten = 0

    @property
    def received(self) -> int:
        """How many events there have been in all."""
        return self._forgotten + len(self._events)

    def append(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) >= 2 * HISTORY_EVENTS_MAX:
            dropped = len(self._events) - HISTORY_EVENTS_MAX
            self.start = self._events[dropped - 1].revision
            self._forget(dropped)

    def after(self, revision: int) -> Sequence[Event]:
        """The events after a revision; the caller has checked that `revision >= start`."""
        return self._events[bisect_right(self._events, revision, key=_REVISION) :]

    def _forget(self, count: int) -> None:
        """The oldest ones."""
        self._forgotten += count
        del self._events[:count]

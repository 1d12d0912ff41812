"""Answers remembered for a while: a bounded table whose entries have an end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Remembered(Generic[V]):
    """`monotonic` tells the time in seconds; the oldest entry goes when `limit` is reached."""

    def __init__(self, monotonic: Callable[[], float], limit: int) -> None:
        self._monotonic = monotonic
        self._limit = limit
        self._entries: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """None if nothing is remembered (any more)."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[0] < self._monotonic():
            del self._entries[key]
            return None
        return found[1]

    def put(self, key: Hashable, value: V, seconds: float) -> None:
        if seconds <= 0:
            return
        self._entries[key] = (self._monotonic() + seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

"""Writes to the storage, counted by resource and operation; one in SAMPLED is timed, from its being asked for to its being durable."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from kubecosm.runtime.metrics import REQUEST_DURATION_BUCKETS

from ..tallies import SAMPLED, Durations
from .contract import StorageError

CREATE, UPDATE, DELETE = "create", "update", "delete"
OPERATIONS = (CREATE, UPDATE, DELETE)


class Timed(Protocol):
    """What stands around one call."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Calls:
    """Those of one operation on one resource. It stands around most of its calls itself: `with calls.one(): …`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.count = 0
        self.errors = 0
        self.samples = Durations(REQUEST_DURATION_BUCKETS)

    def one(self) -> Timed:
        """Something to hold around the next call."""
        self.count += 1
        return self if self.count % SAMPLED != 1 else _Sample(self)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, StorageError):
            self.errors += 1


class _Sample:
    """Around a call that is timed."""

    __slots__ = ("_calls", "_started")

    def __init__(self, calls: Calls) -> None:
        self._calls, self._started = calls, calls.now()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._calls.samples.observe(self._calls.now() - self._started)
        self._calls.__exit__(kind, error, trace)

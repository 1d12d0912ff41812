"""Runs blocking storage calls off the event loop: one thread each for writing and reading, or none for logs that never block."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .contract import StorageError

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]

CALLS_WAITING_MAX = 10_000
"""Calls that may wait for the thread; a store has one commit under way, but any number of readers may ask for old revisions."""


class Worker(Protocol):
    """Runs blocking calls one after the other off the event loop."""

    def submit(self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Run `call`; `done(result, error)` is called on the event loop."""

    def stop(self) -> None:
        """Finish what was submitted and end."""


async def run_on(worker: Worker, call: Callable[[], T]) -> T:
    """What the call gives or raises; it goes on if nobody waits any more. Raises StorageError when too many calls wait already."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    worker.submit(call, done)
    return await answer  # type: ignore[no-any-return]


class ThreadWorker:
    """One daemon thread that takes calls in order."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.Queue[tuple[Callable[[], Any], Done] | None] = queue.Queue(CALLS_WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Raises StorageError when too many calls wait already."""
        try:
            self._calls.put_nowait((call, done))
        except queue.Full:
            raise StorageError("too many storage calls are waiting") from None

    def stop(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            call, done = task
            self._loop.call_soon_threadsafe(done, *_outcome(call))


class InlineWorker:
    """Calls at once, answers in the next turn of the loop; for logs in memory."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def submit(self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        self._loop.call_soon(done, *_outcome(call))

    def stop(self) -> None:
        pass


def _outcome(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return call(), None
    except Exception as raised:  # noqa: BLE001  the border of one work item: whatever failed is told to the submitter
        return None, raised

"""Runs blocking storage calls off the event loop: one thread each for writing and reading, or none for logs that never block."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]


class ThreadWorker:
    """One daemon thread that takes calls in order. Bounded by its callers: a store submits one commit at a time."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        self._calls.put((call, done))

    def stop(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            call, done = task
            try:
                result, error = call(), None
            except Exception as raised:  # noqa: BLE001  the border of one work item: whatever failed is told to the submitter
                result, error = None, raised
            self._loop.call_soon_threadsafe(done, result, error)


class InlineWorker:
    """Calls at once, answers in the next turn of the loop; for logs in memory."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def submit(self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        try:
            result, error = call(), None
        except Exception as raised:  # noqa: BLE001  the border of one work item: whatever failed is told to the submitter
            self._loop.call_soon(done, None, raised)
            return
        self._loop.call_soon(done, result, error)

    def stop(self) -> None:
        pass

"""Two filters that protect the server: a bound on requests at once, and on how long one may take. Long-running requests are exempt."""

from __future__ import annotations

import asyncio

from kubecosm.api.errors import Timeout, TooManyRequests

from .handler import Filter, Handler
from .metrics import RequestMetrics
from .request import Request
from .response import Answer

READ_ONLY_VERBS = frozenset(("get", "list", "watch", "head", "options"))
LONG_RUNNING_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
TOO_MANY = "Too many requests, please try again later."
RETRY_AFTER_SECONDS = 1


def is_long_running(request: Request) -> bool:
    """Watches, and streams to kubelets (genericfilters.BasicLongRunningRequestCheck)."""
    return request.verb == "watch" or (request.info.is_resource and request.info.subresource in LONG_RUNNING_SUBRESOURCES)


def with_max_in_flight(metrics: RequestMetrics, read_only_max: int, mutating_max: int) -> Filter:
    """429 beyond so many requests at once (0: no bound)."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if is_long_running(request):
                metrics.long_running_started(request)
                try:
                    return await inner(request)
                finally:
                    metrics.long_running_ended(request)
            if request.verb in READ_ONLY_VERBS:
                if metrics.read_only_in_flight >= read_only_max > 0:
                    raise TooManyRequests(TOO_MANY, retry_after_seconds=RETRY_AFTER_SECONDS)
                metrics.read_only_in_flight += 1
                try:
                    return await inner(request)
                finally:
                    metrics.read_only_in_flight -= 1
            if metrics.mutating_in_flight >= mutating_max > 0:
                raise TooManyRequests(TOO_MANY, retry_after_seconds=RETRY_AFTER_SECONDS)
            metrics.mutating_in_flight += 1
            try:
                return await inner(request)
            finally:
                metrics.mutating_in_flight -= 1

        return handle

    return wrap


class _Deadline:
    """One request under way."""

    __slots__ = ("at", "passed", "task")

    def __init__(self, at: float, task: asyncio.Task[object]) -> None:
        self.at = at
        self.task = task
        self.passed = False


class Deadlines:
    """Deadlines of many requests under one timer: asyncio.timeout would set and cancel one for each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._open: dict[_Deadline, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> _Deadline:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        deadline = _Deadline(loop.time() + self.seconds, task)
        self._open[deadline] = None
        if self._sweeper is None:
            self._sweeper = loop.call_later(self.seconds, self._sweep, loop)
        return deadline

    def end(self, deadline: _Deadline) -> None:
        self._open.pop(deadline, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is overdue; come back when the next one is due."""
        now, self._sweeper = loop.time(), None
        while self._open:
            oldest = next(iter(self._open))
            if oldest.at > now:
                self._sweeper = loop.call_at(oldest.at, self._sweep, loop)
                return
            del self._open[oldest]
            oldest.passed = True
            oldest.task.cancel()


def with_timeout(seconds: float) -> Filter:
    """504 when a request that waits for something takes too long. Reads are served from memory without waiting and need no timer."""
    deadlines = Deadlines(seconds)

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if request.method in ("GET", "HEAD") or is_long_running(request):
                return await inner(request)
            deadline = deadlines.start()
            try:
                return await inner(request)
            except asyncio.CancelledError:
                if not deadline.passed or deadline.task.uncancel() > 0:
                    raise  # the client is gone, or the server stops
                raise Timeout(f"Timeout: request did not complete within the allotted timeout of {seconds:g}s") from None
            finally:
                deadlines.end(deadline)

        return handle

    return wrap

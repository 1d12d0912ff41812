"""Two filters that protect the server: a bound on requests at once, and on how long one may take. Long-running requests are exempt."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from kubecosm.api.errors import BadRequest, Timeout, TooManyRequests
from kubecosm.api.field import go_quote
from kubecosm.runtime.flags import parse_duration

from .alike import is_long_running_verb
from .handler import Filter, Handler
from .info import READ_ONLY_VERBS
from .request import Request
from .response import Answer

if TYPE_CHECKING:
    from .metrics import RequestMetrics

TOO_MANY = "Too many requests, please try again later."
RETRY_AFTER_SECONDS = 1
WAITING_MAX = 5000
"""Requests that may wait for a seat: as many as a large cluster's nodes, which tend to call at the same moment."""


class Seats:
    """So many requests at once; more wait in order, and beyond so many waiting ones they are turned away."""

    def __init__(self, limit: int) -> None:
        """`limit` 0: no bound."""
        self.limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Returns with a seat. Raises TooManyRequests."""
        if self.taken < self.limit or not self.limit:
            self.taken += 1
            return
        if len(self._waiting) >= WAITING_MAX:
            raise TooManyRequests(TOO_MANY, retry_after_seconds=RETRY_AFTER_SECONDS)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # the seat came too late
            raise

    def give_back(self) -> None:
        """The next in line gets the seat."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1


def with_max_in_flight(metrics: RequestMetrics) -> Filter:
    """Bounds the reads and the writes at once. Streams count for themselves."""
    reading, writing = metrics.read_only, metrics.mutating

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if request.alike.is_long_running:
                metrics.long_running_started(request)
                try:
                    return await inner(request)
                finally:
                    metrics.long_running_ended(request)
            seats = reading if request.verb in READ_ONLY_VERBS else writing
            await seats.take()
            try:
                return await inner(request)
            finally:
                seats.give_back()

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


def timed_out(seconds: float) -> Timeout:
    return Timeout(f"Timeout: request did not complete within the allotted timeout of {seconds:g}s")


def timeout_of(request: Request) -> float:
    """Seconds that the client gives its request with `?timeout=`, 0 if it does not say. Raises BadRequest, in the words of Go's parser."""
    text = request.param("timeout")
    if text in ("", "0"):
        return 0.0
    try:
        if text[-1:].isdigit():
            raise ValueError(f"time: missing unit in duration {go_quote(text)}" if is_number(text) else "")
        return parse_duration(text)
    except ValueError as error:
        why = str(error) if str(error).startswith("time: ") else f"time: invalid duration {go_quote(text)}"
        raise BadRequest(f"invalid timeout specified in the request URL - {why}") from None


def is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def with_timeout(seconds: float) -> Filter:
    """504 when a request that waits for something takes too long, or longer than its client allows (`?timeout=`).

    Reads are served from memory without waiting and need no timer of the server's.
    """
    deadlines = Deadlines(seconds)

    async def within(allowed: float, inner: Handler, request: Request) -> Answer:
        try:
            async with asyncio.timeout(allowed):
                return await inner(request)
        except TimeoutError:
            raise timed_out(allowed) from None

    async def before_deadline(inner: Handler, request: Request) -> Answer:
        deadline = deadlines.start()
        try:
            return await inner(request)
        except asyncio.CancelledError:
            if not deadline.passed or deadline.task.uncancel() > 0:
                raise  # the client is gone, or the server stops
            raise timed_out(seconds) from None
        finally:
            deadlines.end(deadline)

    def wrap(inner: Handler) -> Handler:
        def handle(request: Request) -> Awaitable[Answer]:
            streams = is_long_running_verb(request.verb, request.info)
            if "timeout=" in request.raw_query and not streams and (wanted := timeout_of(request)):
                return within(min(wanted, seconds), inner, request)
            if request.method in ("GET", "HEAD") or streams:
                return inner(request)
            return before_deadline(inner, request)

        return handle

    return wrap

"""Decides when each request of a limited level starts.

A request needs free seats of its level, as in Kubernetes. It also needs its turn on the event loop, which is what an overloaded server
really runs out of: once the requests started in one turn of the loop have used up TURN_SECONDS, others wait in their queues, and go on
in fair order after the loop has looked at its sockets again. So whoever comes with little work waits a few turns, however much others
bring. While seats are free and the loop keeps up, a request starts at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .flows import Flow
from .level import Level
from .queues import Ticket

TURN_SECONDS = 0.005
"""Work started in one turn of the event loop before others wait for the next."""

QUEUE_FULL, CONCURRENCY_LIMIT, TIME_OUT, CANCELLED = "queue-full", "concurrency-limit", "time-out", "cancelled"
"""Why a request was rejected, as apiserver_flowcontrol_rejected_requests_total tells it."""


class Rejected(Exception):
    """There is no room for the request; the message is the reason."""


class Dispatcher:
    """The turns of one event loop, shared by all levels."""

    def __init__(self, now: Callable[[], float], wait_seconds_max: float) -> None:
        self.now = now
        self.wait_seconds_max = wait_seconds_max
        self._turn_open = False
        self._turn_began = 0.0
        self._crowded: dict[Level, None] = {}
        self._charged = 0.0
        self._waiting: dict[Ticket, None] = {}  # in the order in which they came
        self._sweeper: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def enter(self, ticket: Ticket, now: float) -> None:
        """Start the request, or queue it: then its `turn` is set, and `wait` must follow. Raises Rejected."""
        level, stats = ticket.flow.level, ticket.flow.stats
        if not self._turn_open:
            self._open_turn(now)
        has_turn = now - self._turn_began < TURN_SECONDS
        if level.spec.queuing is None:
            if not level.fits(ticket.seats, now):
                stats.reject(CONCURRENCY_LIMIT)
                raise Rejected(CONCURRENCY_LIMIT)
            level.start(ticket, now)
        elif has_turn and level not in self._crowded and level.fits(ticket.seats, now):
            level.start(ticket, now)
        elif level.enqueue(ticket, ticket.flow.hand, now):
            self._queue(ticket, level)
            return
        else:
            stats.reject(QUEUE_FULL)
            raise Rejected(QUEUE_FULL)
        stats.executing += 1
        stats.seats += ticket.seats

    def begin(self, flow: Flow, now: float) -> bool:
        """Start a request that takes one seat, if it can start at once: `end` must follow. Nobody looks for it: it needs no ticket."""
        level = flow.level
        if not self._turn_open:
            self._open_turn(now)
        if now - self._turn_began >= TURN_SECONDS or level in self._crowded or not level.fits(1, now):
            return False
        level.take_seat(now)
        stats = flow.stats
        stats.executing += 1
        stats.seats += 1
        return True

    def end(self, flow: Flow, started: float, now: float, *, learn: bool) -> None:
        """What `begin` started has ended. `learn` as for `leave`."""
        level, stats = flow.level, flow.stats
        level.give_seat_back(now)
        stats.executing -= 1
        stats.seats -= 1
        stats.took(now - started)
        if learn:
            flow.learn_cost(now - started)
        if level in self._crowded and not self._turn_open:
            self._open_turn(now)

    def _queue(self, ticket: Ticket, level: Level) -> None:
        loop = asyncio.get_running_loop()
        ticket.turn = loop.create_future()
        ticket.flow.stats.waiting += 1
        if level not in self._crowded:
            self._crowded[level] = None
            level.charged = max(level.charged, self._charged)
        self._waiting[ticket] = None
        if self._sweeper is None:
            self._sweeper = loop.call_later(self.wait_seconds_max, self._sweep)

    async def wait(self, ticket: Ticket) -> None:
        """Return when a queued request may start. Raises Rejected when it has waited too long."""
        assert ticket.turn is not None
        stats = ticket.flow.stats
        try:
            started = await ticket.turn
        except asyncio.CancelledError:
            if ticket.turn.done() and not ticket.turn.cancelled() and ticket.turn.result():
                self.leave(ticket, self.now(), learn=False)  # its turn came too late
            else:
                self._withdraw(ticket, CANCELLED)
            raise
        if not started:
            raise Rejected(TIME_OUT)
        stats.waited(ticket.started - ticket.arrived, executed=True)

    def leave(self, ticket: Ticket, now: float, *, learn: bool, watches: bool = False) -> None:
        """The request has ended, or a watch has begun. `learn`: it kept the loop busy all the while, so its cost is known."""
        flow, level = ticket.flow, ticket.flow.level
        level.finish(ticket, now)
        flow.stats.executing -= 1
        flow.stats.seats -= ticket.seats
        if watches:
            flow.stats.watches.observe(now - ticket.started)
        else:
            flow.stats.took(now - ticket.started)
        if learn and ticket.turn is None:
            flow.learn_cost(now - ticket.started)
        if level in self._crowded and not self._turn_open:
            self._open_turn(now)

    def _withdraw(self, ticket: Ticket, reason: str) -> None:
        if ticket not in self._waiting:
            return
        del self._waiting[ticket]
        level, stats, now = ticket.flow.level, ticket.flow.stats, self.now()
        level.withdraw(ticket, now)
        stats.waiting -= 1
        stats.reject(reason)
        stats.waited(now - ticket.arrived, executed=False)
        if not level.queues.waiting:
            self._crowded.pop(level, None)

    def _sweep(self) -> None:
        """Reject who has waited too long; come back when the next one has."""
        self._sweeper, now = None, self.now()
        while self._waiting:
            oldest = next(iter(self._waiting))
            left = oldest.arrived + self.wait_seconds_max - now
            if left > 0:
                self._sweeper = asyncio.get_running_loop().call_later(left, self._sweep)
                return
            self._withdraw(oldest, TIME_OUT)
            assert oldest.turn is not None
            if not oldest.turn.done():
                oldest.turn.set_result(False)

    # ---- turns

    def _open_turn(self, now: float) -> None:
        self._turn_open, self._turn_began = True, now
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn_open = False
        if self._crowded:
            self._dispatch(self.now())

    def _dispatch(self, now: float) -> None:
        """Start waiting requests of the levels that had least, as many as the next turn has time for."""
        left = TURN_SECONDS
        while left > 0:
            found = self._next(now)
            if found is None:
                break
            ticket, level = found
            flow, cost = ticket.flow, ticket.flow.cost
            level.start_queued(ticket, now)
            self._charged = level.charged
            level.charged += cost / max(level.limit, 1)
            left -= cost
            self._started(ticket, level, flow)
        if self._crowded and left < TURN_SECONDS:
            self._open_turn(now)
        elif self._crowded:
            self._wake_for_lingering(now)

    def _next(self, now: float) -> tuple[Ticket, Level] | None:
        best: tuple[Ticket, Level] | None = None
        for level in self._crowded:
            if best is not None and best[1].charged <= level.charged:
                continue
            ticket = level.next(now)
            if ticket is not None:
                best = ticket, level
        return best

    def _started(self, ticket: Ticket, level: Level, flow: Flow) -> None:
        del self._waiting[ticket]
        flow.stats.waiting -= 1
        flow.stats.executing += 1
        flow.stats.seats += ticket.seats
        if not level.queues.waiting:
            del self._crowded[level]
        assert ticket.turn is not None
        if not ticket.turn.done():
            ticket.turn.set_result(True)

    def _wake_for_lingering(self, now: float) -> None:
        """Nobody could start, and perhaps no request will end to change that: seats that linger come free by themselves."""
        if self._alarm is not None:
            return
        times = [until for level in self._crowded if (until := level.lingers_until()) is not None]
        if times:
            self._alarm = asyncio.get_running_loop().call_later(max(min(times) - now, 0.0), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if not self._turn_open:
            self._end_turn()

    def kick(self) -> None:
        """Seats may have come free: limits have changed."""
        if self._crowded and not self._turn_open:
            self._open_turn(self.now())

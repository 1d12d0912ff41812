"""Fair queuing of one priority level: who waits in which queue, and which queue goes next. Pure: time is an argument.

Every queue has a virtual start time that grows by the work it was given; the queue that is least far goes next, so queues that ask for
much get no more than those that ask for little. Imitates fairqueuing/queueset, with two differences: a request that finds free seats and
nobody waiting starts without being put in a queue, and virtual time is where the last start was (start-time fair queuing) instead of an
integral over seats, because seats are not what this server runs out of first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..http.request import Request
    from .flows import Flow

ESTIMATED_SECONDS = 0.003
"""What a request is charged per seat before it is known how long it really takes."""


class Ticket:
    """One request on its way through its level. `turn` is done when it may start; None if it could at once."""

    __slots__ = ("arrived", "final_seats", "flow", "linger_seconds", "queue", "request", "seats", "started", "turn")

    def __init__(self, flow: Flow, request: Request, seats: int, final_seats: int, linger_seconds: float, now: float) -> None:
        self.flow = flow
        self.request = request
        self.seats = seats
        self.final_seats = final_seats
        self.linger_seconds = linger_seconds
        """How long `final_seats` stay taken after the answer: the work of telling the watchers."""
        self.arrived = self.started = now
        self.turn: asyncio.Future[bool] | None = None
        self.queue: Queue | None = None

    @property
    def work(self) -> float:
        """Estimated seat-seconds."""
        return self.seats * ESTIMATED_SECONDS + self.final_seats * self.linger_seconds


class Queue:
    """First come, first served."""

    __slots__ = ("executing", "index", "next_start", "seats", "waiting", "work")

    def __init__(self, index: int, start: float) -> None:
        self.index = index
        self.next_start = start
        self.waiting: deque[Ticket] = deque()
        self.work = 0.0
        """Estimated seat-seconds of those waiting."""
        self.executing = 0
        self.seats = 0

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.executing


class FairQueues:
    """The queues of one level; only those in use are kept."""

    def __init__(self, length_limit: int) -> None:
        self.length_limit = length_limit
        self.waiting = 0
        self.progress = 0.0
        """R: virtual time, the start of the request that went last; queues that were idle begin here."""
        self.active: dict[int, Queue] = {}
        self._last = -1

    def put(self, ticket: Ticket, hand: Sequence[int]) -> bool:
        """Queue a ticket in the emptiest queue of its hand; False if that is full."""
        queue = self._emptiest(hand)
        if len(queue.waiting) >= self.length_limit:
            return False
        self.active[queue.index] = queue
        queue.waiting.append(ticket)
        queue.work += ticket.work
        ticket.queue = queue
        self.waiting += 1
        return True

    def _emptiest(self, hand: Sequence[int]) -> Queue:
        best: Queue | None = None
        for index in hand:
            queue = self.active.get(index)
            if queue is None:
                return Queue(index, self.progress)
            if best is None or queue.work + queue.seats * ESTIMATED_SECONDS < best.work + best.seats * ESTIMATED_SECONDS:
                best = queue
        assert best is not None, "a hand is never empty"
        return best

    def head(self) -> Ticket | None:
        """The ticket that goes next: that of the queue which is least far in virtual time; equals take turns."""
        best: Queue | None = None
        best_key = (0.0, 0)
        for queue in self.active.values():
            if not queue.waiting:
                continue
            key = (queue.next_start, 0 if queue.index > self._last else 1)
            if best is None or key < best_key or (key == best_key and queue.index < best.index):
                best, best_key = queue, key
        return None if best is None else best.waiting[0]

    def take(self, ticket: Ticket) -> None:
        """`ticket` is the head, and starts."""
        queue = ticket.queue
        assert queue is not None
        assert queue.waiting[0] is ticket
        self._forget(queue.waiting.popleft())
        self.progress = max(self.progress, queue.next_start)
        queue.next_start += ticket.work
        queue.executing += 1
        queue.seats += ticket.seats
        self._last = queue.index

    def withdraw(self, ticket: Ticket) -> None:
        """It waits no longer."""
        assert ticket.queue is not None
        ticket.queue.waiting.remove(ticket)
        self._forget(ticket)
        self._drop_idle(ticket.queue)

    def _forget(self, ticket: Ticket) -> None:
        assert ticket.queue is not None
        ticket.queue.work -= ticket.work
        self.waiting -= 1

    def finish(self, ticket: Ticket, seconds: float) -> None:
        """A ticket that was queued has ended after so long: its queue is charged what it really took."""
        queue = ticket.queue
        assert queue is not None
        queue.next_start += ticket.seats * (seconds - ESTIMATED_SECONDS)
        queue.executing -= 1
        queue.seats -= ticket.seats
        self._drop_idle(queue)

    def _drop_idle(self, queue: Queue) -> None:
        if queue.is_idle:
            self.active.pop(queue.index, None)
            if not self.active:
                self.progress = 0.0  # nobody is ahead of anybody

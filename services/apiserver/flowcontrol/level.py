"""One priority level as it runs: its seats, its queues, and what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from kubecosm.api.resources import Object

from .allocation import Bounds
from .demand import Demand
from .queues import FairQueues, Ticket


@dataclass(frozen=True, slots=True)
class Queuing:
    """How requests wait for seats."""

    queues: int
    hand_size: int
    length_limit: int


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """A PriorityLevelConfiguration taken apart; `queuing` None: what finds no seat is rejected."""

    name: str
    uid: str
    exempt: bool
    shares: int
    lendable_percent: int
    borrowing_percent: int | None
    queuing: Queuing | None


def level_spec(obj: Object) -> LevelSpec:
    """From the stored, defaulted object."""
    meta, spec = obj["metadata"], obj["spec"]
    exempt = spec["type"] == "Exempt"
    kind: Object = spec.get("exempt" if exempt else "limited") or {}
    queuing = (kind.get("limitResponse") or {}).get("queuing")
    return LevelSpec(
        name=meta["name"], uid=meta.get("uid", ""), exempt=exempt, shares=kind.get("nominalConcurrencyShares") or 0,
        lendable_percent=kind.get("lendablePercent") or 0, borrowing_percent=kind.get("borrowingLimitPercent"),
        queuing=Queuing(queuing["queues"], queuing["handSize"], queuing["queueLengthLimit"]) if queuing else None,
    )  # fmt: skip


class Level:
    """Seats taken and waited for. Exempt levels take seats without end."""

    def __init__(self, spec: LevelSpec, now: float) -> None:
        self.spec = spec
        self.name = spec.name
        self.exempt = spec.exempt
        self.bounds = Bounds(0, 0, 0)
        self.limit = 0
        """Seats it has at present."""
        self.target = 0.0
        """Seats it asked for when seats were divided last."""
        self.taken = 0
        self.executing = 0
        self.demand = Demand(now)
        self.queues = FairQueues(spec.queuing.length_limit if spec.queuing else 0)
        self.charged = 0.0
        """Work started so far by its seats: the level that had least of its share goes first."""
        self._lingering: list[tuple[float, int]] = []

    @property
    def in_use(self) -> bool:
        return bool(self.taken or self.queues.waiting)

    def configure(self, spec: LevelSpec) -> None:
        """A changed object: who waits goes on waiting where he is."""
        self.spec = spec
        self.exempt = spec.exempt
        self.queues.length_limit = spec.queuing.length_limit if spec.queuing else 0

    def fits(self, seats: int, now: float) -> bool:
        """Whether so many seats are free; what is wider than the whole level may have it alone."""
        if self._lingering and self._lingering[0][0] <= now:
            self._release_lingering(now)
        return self.taken + seats <= self.limit or not self.taken

    def start(self, ticket: Ticket, now: float) -> None:
        """Begin without waiting."""
        self.taken += ticket.seats
        self.executing += 1
        self.demand.change(ticket.seats, now)

    def take_seat(self, now: float) -> None:
        """Begin something that takes one."""
        self.taken += 1
        self.executing += 1
        self.demand.change(1, now)

    def give_seat_back(self, now: float) -> None:
        self.taken -= 1
        self.executing -= 1
        self.demand.change(-1, now)

    def enqueue(self, ticket: Ticket, hand: Sequence[int], now: float) -> bool:
        """False if its queue is full."""
        if not self.queues.put(ticket, hand):
            return False
        self.demand.change(ticket.seats, now)
        return True

    def next(self, now: float) -> Ticket | None:
        """The ticket that goes next, if there are seats for it."""
        head = self.queues.head()
        return head if head is not None and self.fits(head.seats, now) else None

    def start_queued(self, ticket: Ticket, now: float) -> None:
        self.queues.take(ticket)
        ticket.started = now
        self.taken += ticket.seats
        self.executing += 1

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """It has waited in vain."""
        self.queues.withdraw(ticket)
        self.demand.change(-ticket.seats, now)

    def finish(self, ticket: Ticket, now: float) -> None:
        """Its seats are free, but for those that its watchers keep busy a little longer."""
        if ticket.queue is not None:
            self.queues.finish(ticket, now - ticket.started)
        self.executing -= 1
        released = ticket.seats
        if ticket.linger_seconds:
            released -= ticket.final_seats
            heappush(self._lingering, (now + ticket.linger_seconds, ticket.final_seats))
        self.taken -= released
        self.demand.change(-released, now)

    def _release_lingering(self, now: float) -> None:
        while self._lingering and self._lingering[0][0] <= now:
            seats = heappop(self._lingering)[1]
            self.taken -= seats
            self.demand.change(-seats, now)

    def lingers_until(self) -> float | None:
        """When the next seats come free that no request holds."""
        return self._lingering[0][0] if self._lingering else None

"""The flow of a request: its FlowSchema, its level and its hand of queues, found once for requests that are alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..tallies import SAMPLED, Durations
from .level import Level
from .shuffle import deal, flow_hash

WAIT_BUCKETS = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)
"""apiserver_flowcontrol_request_wait_duration_seconds, and of execution."""
COST_SECONDS_FIRST = 0.0005
"""What a request is thought to keep the event loop busy with before one has been measured."""
COST_WEIGHT = 0.2
"""How much the newest measurement counts."""


@dataclass
class FlowStats:
    """What happened to the requests of one FlowSchema in one level, reads and writes apart."""

    schema: str
    level: str
    mutating: bool
    ended: int = 0
    """But for watches."""
    executing: int = 0
    seats: int = 0
    waiting: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    waits: dict[bool, list[float]] = field(default_factory=dict)
    """executed or not → counts by WAIT_BUCKETS and beyond, then the sum."""
    executions: Durations = field(default_factory=lambda: Durations(WAIT_BUCKETS))
    """Seconds that one in SAMPLED of them took, but for watches."""
    watches: Durations = field(default_factory=lambda: Durations(WAIT_BUCKETS))
    """Seconds until watches had begun."""

    def took(self, seconds: float) -> None:
        """One has ended that is no watch."""
        if not self.ended % SAMPLED:
            self.executions.observe(seconds)
        self.ended += 1

    @property
    def dispatched(self) -> int:
        return self.ended + self.watches.count

    def reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def waited(self, seconds: float, *, executed: bool) -> None:
        counts = self.waits.setdefault(executed, [0.0] * (len(WAIT_BUCKETS) + 2))
        counts[next((i for i, bound in enumerate(WAIT_BUCKETS) if seconds <= bound), len(WAIT_BUCKETS))] += 1
        counts[-1] += seconds


class Flow:
    """Where requests of one user, verb and resource belong."""

    __slots__ = ("_hand", "cost", "distinguisher", "exempt", "head", "level", "schema", "stats")

    def __init__(self, schema: str, schema_uid: str, distinguisher: str, level: Level, stats: FlowStats) -> None:
        self.schema = schema
        self.distinguisher = distinguisher
        self.level = level
        self.exempt = level.exempt
        self.stats = stats
        self.head = b"X-Kubernetes-Pf-Flowschema-Uid: %b\r\nX-Kubernetes-Pf-Prioritylevel-Uid: %b\r\n" % (
            schema_uid.encode(), level.spec.uid.encode(),
        )  # fmt: skip
        self.cost = COST_SECONDS_FIRST
        """Seconds of the event loop that such a request takes, by experience."""
        self._hand: tuple[int, ...] = ()

    @property
    def hand(self) -> tuple[int, ...]:
        """The queues that its requests may wait in; none if the level does not queue."""
        queuing = self.level.spec.queuing
        if not self._hand and queuing is not None:
            self._hand = deal(flow_hash(self.schema, self.distinguisher), queuing.queues, queuing.hand_size)
        return self._hand

    def learn_cost(self, seconds: float) -> None:
        self.cost += COST_WEIGHT * (seconds - self.cost)

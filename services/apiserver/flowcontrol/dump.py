"""/debug/api_priority_and_fairness/dump_…: levels, queues and waiting requests as text. Imitates apf_controller_debug.go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from ..http.request import Request
from .controller import FlowController
from .level import Level
from .queues import Ticket

PREFIX = "/debug/api_priority_and_fairness/dump_"
LEVEL_COLUMNS = (
    "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests", "DispatchedRequests",
    "RejectedRequests", "TimedoutRequests", "CancelledRequests",
)  # fmt: skip
QUEUE_COLUMNS = (
    "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR", "InitialSeatsSum",
    "MaxSeatsSum", "TotalWorkSum",
)  # fmt: skip
REQUEST_COLUMNS = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "InitialSeats",
    "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip
DETAIL_COLUMNS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
CELL_WIDTH_MIN = 8


def dump(control: FlowController, path: str, *, details: bool, wall: datetime) -> str | None:
    """The table that a path asks for; None if there is none. `wall`: the time of day now."""
    what = path.removeprefix(PREFIX)
    if what == "priority_levels":
        return table([LEVEL_COLUMNS, *_levels(control)])
    if what == "queues":
        return table([QUEUE_COLUMNS, *_queues(control)])
    if what == "requests":
        columns = (*REQUEST_COLUMNS, *DETAIL_COLUMNS) if details else REQUEST_COLUMNS
        return table([columns, *_requests(control, details, wall)])
    return None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells end in commas and are padded to columns, as Go's tabwriter does."""
    cells = [[*(f"{cell}," for cell in row[:-1]), row[-1]] for row in rows]
    widths = [max(CELL_WIDTH_MIN, max(len(row[i]) for row in cells if i < len(row)) + 1) for i in range(len(cells[0]))]
    return "".join("".join(c.ljust(w) for c, w in zip(row[:-1], widths, strict=False)) + row[-1] + "\n" for row in cells)


def _all(control: FlowController) -> Iterator[tuple[Level, bool]]:
    yield from ((level, False) for level in control.levels.values())
    yield from ((level, True) for level in control.quiescing.values())


def _levels(control: FlowController) -> Iterator[list[str]]:
    for level, quiescing in _all(control):
        stats = [s for s in control.stats.values() if s.level == level.name]
        executing, waiting = sum(s.executing for s in stats), level.queues.waiting
        active = sum(1 for queue in level.queues.active.values() if queue.waiting)
        reasons = ({"queue-full", "concurrency-limit"}, {"time-out"}, {"cancelled"})
        lost = [sum(n for s in stats for reason, n in s.rejected.items() if reason in some) for some in reasons]
        numbers = (waiting, executing, sum(s.dispatched for s in stats), *lost)
        flags = ("true" if not executing and not waiting else "false", "true" if quiescing else "false")
        yield [level.name, str(active), *flags, *map(str, numbers)]


def _queues(control: FlowController) -> Iterator[list[str]]:
    for level, _ in _all(control):
        if level.spec.queuing is None:
            yield [level.name, *["<none>"] * (len(QUEUE_COLUMNS) - 1)]
            continue
        for index in range(level.spec.queuing.queues):
            queue = level.queues.active.get(index)
            if queue is None:
                yield [level.name, str(index), "0", "0", "0", "0.00000000ss", "0", "0", "0.00000000ss"]
                continue
            seats = sum(ticket.seats for ticket in queue.waiting)
            counts = (len(queue.waiting), queue.executing, queue.seats)
            yield [level.name, str(index), *map(str, counts), f"{queue.next_start:.8f}ss", str(seats), str(seats), f"{queue.work:.8f}ss"]


def _requests(control: FlowController, details: bool, wall: datetime) -> Iterator[list[str]]:
    for level, _ in _all(control):
        for index, queue in sorted(level.queues.active.items()):
            for place, ticket in enumerate(queue.waiting):
                yield [level.name, *_request(control, ticket, index, place, wall), *(_details(ticket.request) if details else ())]


def _request(control: FlowController, ticket: Ticket, index: int, place: int, wall: datetime) -> list[str]:
    arrived = (wall - timedelta(seconds=control.now() - ticket.arrived)).astimezone(UTC)
    text = arrived.isoformat(timespec="microseconds").replace("+00:00", "Z")
    seats, latency = (str(ticket.seats), str(ticket.final_seats)), f"{ticket.linger_seconds * 1000:g}ms" if ticket.linger_seconds else "0s"
    return [ticket.flow.schema, str(index), str(place), ticket.flow.distinguisher, text, *seats, latency, "0001-01-01T00:00:00Z"]


def _details(request: Request) -> list[str]:
    info = request.info
    version = f"{info.group}/{info.version}" if info.group else info.version
    return [request.user.name, request.verb, info.path, info.namespace, info.name, version, info.resource, info.subresource]

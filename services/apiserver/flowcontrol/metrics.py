"""apiserver_flowcontrol_… metrics, made from the running figures when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .controller import FlowController
from .flows import WAIT_BUCKETS, FlowStats
from .level import Level

PREFIX = "apiserver_flowcontrol_"
FLOW = ("flow_schema", "priority_level")
_GAUGES = (
    ("current_executing_requests", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage.", "executing"),
    ("current_executing_seats", "Number of seats occupied by the currently executing requests.", "seats"),
    ("current_inqueue_requests", "Number of requests currently pending in queues.", "waiting"),
)
_LEVEL_GAUGES: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level.", lambda level: level.bounds.nominal),
    ("lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level.",
     lambda level: level.bounds.lower),
    ("upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level.",
     lambda level: level.bounds.upper),
    ("current_limit_seats", "Current derived number of execution seats available to each priority level.", lambda level: level.limit),
    ("demand_seats_high_watermark", "High watermark, over the last adjustment period, of seat demand.",
     lambda level: level.demand.highest),
    ("demand_seats_average", "Time-weighted average, over the last adjustment period, of seat demand.", lambda level: level.demand.mean),
    ("demand_seats_stdev", "Time-weighted standard deviation, over the last adjustment period, of seat demand.",
     lambda level: level.demand.deviation),
    ("target_seats", "Seat allocation targets.", lambda level: level.target),
    ("demand_seats_smoothed", "Smoothed seat demands.", lambda level: level.demand.smoothed),
    ("current_r", "R(time of last change).", lambda level: level.queues.progress),
)  # fmt: skip


class FlowMetrics(Collector):
    """A Prometheus collector over one controller."""

    def __init__(self, control: FlowController) -> None:
        self._control = control

    def collect(self) -> Iterable[Metric]:
        stats = _merged(self._control.stats.values())
        for name, text, field in _GAUGES:
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=FLOW)
            for one in stats:
                gauge.add_metric((one.schema, one.level), getattr(one, field))
            yield gauge
        dispatched = CounterMetricFamily(PREFIX + "dispatched_requests", "Number of requests executed.", labels=FLOW)
        rejected = CounterMetricFamily(PREFIX + "rejected_requests", "Number of requests rejected.", labels=(*FLOW, "reason"))
        for one in stats:
            dispatched.add_metric((one.schema, one.level), one.dispatched)
            for reason, count in one.rejected.items():
                rejected.add_metric((one.schema, one.level, reason), count)
        yield dispatched
        yield rejected
        yield _waits(stats)
        yield _executions(stats)
        yield from self._levels(tuple(self._control.levels.values()))

    @staticmethod
    def _levels(levels: Iterable[Level]) -> Iterator[Metric]:
        for name, text, value in _LEVEL_GAUGES:
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=("priority_level",))
            for level in levels:
                gauge.add_metric((level.name,), value(level))
            yield gauge


def _merged(stats: Iterable[FlowStats]) -> list[FlowStats]:
    """Reads and writes of a FlowSchema as one."""
    merged: dict[tuple[str, str], FlowStats] = {}
    for one in stats:
        into = merged.setdefault((one.schema, one.level), FlowStats(one.schema, one.level, False))
        into.ended += one.ended
        into.executions = into.executions.plus(one.executions.scaled_to(one.ended))
        into.watches = into.watches.plus(one.watches)
        into.executing += one.executing
        into.seats += one.seats
        into.waiting += one.waiting
        for reason, count in one.rejected.items():
            into.rejected[reason] = into.rejected.get(reason, 0) + count
        for executed, counts in one.waits.items():
            sums = into.waits.setdefault(executed, [0.0] * len(counts))
            into.waits[executed] = [a + b for a, b in zip(sums, counts, strict=True)]
    return list(merged.values())


def _waits(stats: Iterable[FlowStats]) -> Metric:
    """Requests that started at once have waited for 0 seconds."""
    text = "Length of time a request spent waiting in its queue."
    family = HistogramMetricFamily(PREFIX + "request_wait_duration_seconds", text, labels=("execute", *FLOW))
    for one in stats:
        for executed in (True, False):
            counts = list(one.waits.get(executed) or [0.0] * (len(WAIT_BUCKETS) + 2))
            if executed:
                counts[0] += max(0.0, one.dispatched + one.executing - sum(counts[:-1]))
            elif not any(counts):
                continue
            total, buckets = 0.0, []
            for bound, count in zip((*map(str, map(float, WAIT_BUCKETS)), "+Inf"), counts[:-1], strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(("true" if executed else "false", one.schema, one.level), buckets, counts[-1])
    return family


def _executions(stats: Iterable[FlowStats]) -> Metric:
    text = "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution."
    family = HistogramMetricFamily(PREFIX + "request_execution_seconds", text, labels=(*FLOW, "type"))
    for one in stats:
        for kind, took in (("regular", one.executions), ("watch", one.watches)):
            if took.count:
                took.add_to(family, (one.schema, one.level, kind))
    return family

"""Request metrics under Kubernetes' names, nearly free: a request costs one dict look-up and a few additions; text is made on scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.metrics import REQUEST_DURATION_BUCKETS

from .handler import Filter, Handler
from .limits import Seats
from .request import Request
from .response import Answer

LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
Key = tuple[str, str, str, str, str, str, str]

_REPORTED = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION", "post": "POST", "put": "PUT", "head": "HEAD", "options": "OPTIONS",
}  # fmt: skip
_CONNECT = frozenset(("attach", "exec", "proxy", "portforward"))


class _Series:
    __slots__ = ("buckets", "codes", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(REQUEST_DURATION_BUCKETS) + 1)
        self.codes: dict[int, int] = {}
        self.sum = 0.0


class RequestMetrics(Collector):
    """Counts requests; a Prometheus collector."""

    def __init__(self, read_only: Seats, mutating: Seats, in_flight: Callable[[], tuple[int, int]] | None = None) -> None:
        """`in_flight` answers (reads, writes) being served, where the seats do not know."""
        self._series: dict[Key, _Series] = {}
        self._long_running: dict[Key, int] = {}
        self.read_only = read_only
        self.mutating = mutating
        self._in_flight = in_flight or (lambda: (read_only.taken, mutating.taken))

    def observe(self, request: Request, code: int, seconds: float) -> None:
        key = key_of(request)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        series.buckets[bisect_left(REQUEST_DURATION_BUCKETS, seconds)] += 1
        series.sum += seconds
        series.codes[code] = series.codes.get(code, 0) + 1

    def long_running_started(self, request: Request) -> None:
        key = key_of(request)
        self._long_running[key] = self._long_running.get(key, 0) + 1

    def long_running_ended(self, request: Request) -> None:
        self._long_running[key_of(request)] -= 1

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        in_flight = GaugeMetricFamily(
            "apiserver_current_inflight_requests", "Requests being served, by kind.", labels=("request_kind",)
        )
        reads, writes = self._in_flight()
        in_flight.add_metric(("mutating",), writes)
        in_flight.add_metric(("readOnly",), reads)
        yield in_flight
        labels = _without_dry_run(LABELS)
        running = GaugeMetricFamily("apiserver_longrunning_requests", "Long-running requests being served.", labels=labels)
        for key, count in self._long_running.items():
            running.add_metric(_without_dry_run((*key, "apiserver")), count)
        yield running

    def _requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily("apiserver_request", "Requests answered, by HTTP code.", labels=(*LABELS, "code"))
        duration = HistogramMetricFamily("apiserver_request_duration_seconds", "How long answers took.", labels=LABELS)
        for key, series in self._series.items():
            labels = (*key, "apiserver")
            for code, count in series.codes.items():
                total.add_metric((*labels, str(code)), count)
            cumulated, buckets = 0, []
            for bound, count in zip((*map(float, REQUEST_DURATION_BUCKETS), "+Inf"), series.buckets, strict=True):
                cumulated += count
                buckets.append((str(bound), float(cumulated)))
            duration.add_metric(labels, buckets, series.sum)
        yield total
        yield duration


def key_of(request: Request) -> Key:
    info = request.info
    verb = "CONNECT" if info.subresource in _CONNECT else _REPORTED.get(request.verb, "OTHER")
    if verb == "PATCH" and request.headers.get("Content-Type", "").startswith("application/apply-patch"):
        verb = "APPLY"
    dry_run = request.param("dryRun") if request.raw_query else ""
    if not info.is_resource:
        scope = ""
    elif info.name:
        scope = "resource"
    else:
        scope = "namespace" if info.namespace else "cluster"
    return verb, dry_run, info.group, info.version, info.resource, info.subresource, scope


def _without_dry_run(labels: tuple[str, ...]) -> tuple[str, ...]:
    return (labels[0], *labels[2:])


def with_metrics(metrics: RequestMetrics, clock: Clock) -> Filter:
    """Counts every answer that is not a watch or a stream by its time to the last byte handed over; those by their whole life."""
    now = clock.monotonic

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            started = request.started = now()
            answer = await inner(request)
            metrics.observe(request, answer.status, now() - started)
            return answer

        return handle

    return wrap

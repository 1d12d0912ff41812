"""Request metrics under Kubernetes' names, nearly free: a request costs one dict look-up and a few additions; text is made on scrape."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.metrics import REQUEST_DURATION_BUCKETS, RESPONSE_SIZE_BUCKETS

from ..tallies import Durations
from .handler import Filter, Handler
from .limits import Seats
from .request import NOTHING_ALIKE, Request
from .response import Answer, Response, Streamed

LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
Key = tuple[str, str, str, str, str, str, str]

_REPORTED = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION", "post": "POST", "put": "PUT", "head": "HEAD", "options": "OPTIONS",
}  # fmt: skip
_CONNECT = frozenset(("attach", "exec", "proxy", "portforward"))
WATCH_LIST_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60)
FINE_BUCKETS = 2
"""The lowest bounds of durations, which service levels do without."""
_READS = ("GET", "LIST")
TIMEOUT = 504


class Series:
    """One verb on one resource."""

    __slots__ = ("codes", "is_read", "moved", "seconds", "sizes", "terminated")

    def __init__(self, *, is_read: bool) -> None:
        self.is_read = is_read
        self.seconds = Durations(REQUEST_DURATION_BUCKETS)
        self.moved: Durations | None = None
        """What time in queues and for webhooks makes of the durations, when it is taken off them."""
        self.terminated = 0
        """Requests for which there was no room."""
        self.sizes = Durations(RESPONSE_SIZE_BUCKETS)
        self.codes: dict[int | tuple[int, str], int] = {}
        """HTTP code, with the system's client if it was one → answers."""


class RequestMetrics(Collector):
    """Counts requests; a Prometheus collector."""

    def __init__(self, read_only: Seats, mutating: Seats, in_flight: Callable[[], tuple[int, int]] | None = None) -> None:
        """`in_flight` answers (reads, writes) being served, where the seats do not know."""
        self._series: dict[Key, Series] = {}
        self._long_running: dict[Key, int] = {}
        self._watch_lists: dict[Key, Durations] = {}
        self._deprecated_requests: set[tuple[str, str, str, str]] = set()
        self.read_only = read_only
        self.mutating = mutating
        self._in_flight = in_flight or (lambda: (read_only.taken, mutating.taken))

    def _series_of(self, request: Request) -> Series:
        alike = request.alike
        if alike.series is not None and not request.raw_query:
            return alike.series
        key = key_of(request)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(is_read=key[0] in _READS)
        if alike is not NOTHING_ALIKE and not alike.is_patch and not request.raw_query:
            alike.series = series
        return series

    def observe(self, request: Request, answer: Answer, seconds: float) -> None:
        series, client = self._series_of(request), request.alike.client
        series.seconds.observe(seconds)
        code = answer.status if client is None else (answer.status, client)
        series.codes[code] = series.codes.get(code, 0) + 1
        if request.waited:
            if series.moved is None:
                series.moved = Durations(REQUEST_DURATION_BUCKETS)
            series.moved.move(seconds, max(0.0, seconds - request.waited))
        if series.is_read and isinstance(answer, Response):
            series.sizes.observe(len(answer.body))

    def watch_list_sent(self, request: Request, seconds: float) -> None:
        """A watch has sent the state that it begins with."""
        self._watch_lists.setdefault(key_of(request), Durations(WATCH_LIST_BUCKETS)).observe(seconds)

    def terminated(self, request: Request) -> None:
        """A request is turned away because there is no room for it."""
        self._series_of(request).terminated += 1

    def deprecated_requested(self, request: Request) -> None:
        info = request.info
        self._deprecated_requests.add((info.group, info.version, info.resource, info.subresource))

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
        text = "Counter of apiserver requests broken out by what they were, who asked, and HTTP response code."
        total = CounterMetricFamily("apiserver_request", text, labels=(*LABELS, "code", "system_client"))
        duration = HistogramMetricFamily("apiserver_request_duration_seconds", "Response latency distribution in seconds.", labels=LABELS)
        sizes = HistogramMetricFamily("apiserver_response_sizes", "Response sizes of reads in bytes.", labels=_without_dry_run(LABELS))
        by_size: dict[tuple[str, ...], Durations] = {}
        for key, series in self._series.items():
            labels = (*key, "apiserver")
            for code, count in series.codes.items():
                status, client = (code, "") if isinstance(code, int) else code
                total.add_metric((*labels, str(status), client), count)
            series.seconds.add_to(duration, labels)
            if key[0] in _READS:
                short = _without_dry_run(labels)
                by_size[short] = by_size[short].plus(series.sizes) if short in by_size else series.sizes
        for short, counted in by_size.items():
            counted.add_to(sizes, short)
        yield from (total, duration, sizes, self._terminations(), self._deprecated(), self._lists(), self._service_levels())

    def _terminations(self) -> Metric:
        """429 for want of room and 504 for want of time."""
        text = "Number of requests which apiserver terminated in self-defense."
        family = CounterMetricFamily("apiserver_request_terminations", text, labels=(*_without_dry_run(LABELS), "code"))
        counts: Counter[tuple[str, ...]] = Counter()
        for key, series in self._series.items():
            labels = _without_dry_run((*key, "apiserver"))
            counts[*labels, "429"] += series.terminated
            for code, count in series.codes.items():
                if (code if isinstance(code, int) else code[0]) == TIMEOUT:
                    counts[*labels, str(TIMEOUT)] += count
        for labels, count in counts.items():
            if count:
                family.add_metric(labels, count)
        return family

    def _service_levels(self) -> Metric:
        text = "Response latency distribution in seconds, not counting webhook duration and priority & fairness queue wait times."
        family = HistogramMetricFamily("apiserver_request_sli_duration_seconds", text, labels=_without_dry_run(LABELS))
        found: dict[tuple[str, ...], Durations] = {}
        for key, series in self._series.items():
            labels = _without_dry_run((*key, "apiserver"))
            seconds = series.seconds if series.moved is None else series.seconds.plus(series.moved)
            found[labels] = found[labels].plus(seconds) if labels in found else seconds
        for labels, seconds in found.items():
            seconds.without_first(FINE_BUCKETS).add_to(family, labels)
        return family

    def _deprecated(self) -> Metric:
        labels = ("group", "version", "resource", "subresource", "removed_release")
        text = "Gauge of deprecated APIs that have been requested."
        family = GaugeMetricFamily("apiserver_requested_deprecated_apis", text, labels=labels)
        for group, version, resource, subresource in sorted(self._deprecated_requests):
            family.add_metric((group, version, resource, subresource, ""), 1)
        return family

    def _lists(self) -> Metric:
        text = "Response latency distribution in seconds for watch list requests."
        family = HistogramMetricFamily("apiserver_watch_list_duration_seconds", text, labels=("group", "version", "resource", "scope"))
        for (_, _, group, version, resource, _, scope), seconds in self._watch_lists.items():
            seconds.add_to(family, (group, version, resource, scope))
        return family


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
            try:
                answer = await inner(request)
            except asyncio.CancelledError:  # the client is gone, which is how most streams end
                if request.alike.is_long_running:
                    metrics.observe(request, Streamed(101 if "Upgrade" in request.headers else 200), now() - started)
                raise
            metrics.observe(request, answer, now() - started)
            return answer

        return handle

    return wrap

"""What the client library counts, under Kubernetes' metric names; nothing is counted unless a registry is given.

Names, labels and buckets are those of k8s.io/component-base/metrics/prometheus/{workqueue,restclient}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
QUEUE_SECONDS_BUCKETS = tuple(10.0**exponent for exponent in range(-8, 2))
"""ExponentialBuckets(10e-9, 10, 10): 10 ns to 10 s."""
REQUEST_SECONDS_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True)
class Family:
    """A metric that a controller declares in its spec: name without suffix rules, kind, help, labels, upper bounds of a histogram."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Meter:
    """How controllers count in the families that they declared; this class counts nothing."""

    def declare(self, families: Iterable[Family]) -> None:
        """Make the families known before the first count. Idempotent."""

    def add(self, family: Family, *labels: str, by: float = 1.0) -> None:
        """Count up a counter."""

    def set(self, family: Family, value: float, *labels: str) -> None:
        """Set a gauge."""

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """One more value of a histogram."""

    def forget(self, family: Family, *labels: str) -> None:
        """What these labels stood for is gone: no more of them."""


class QueueMetrics:
    """The hooks of one work queue; this class counts nothing."""

    def depth(self, length: int) -> None:
        """So many keys wait to be worked on now."""

    def added(self) -> None:
        """A key became due."""

    def waited(self, seconds: float) -> None:
        """A key was handed out after waiting so long."""

    def worked(self, seconds: float) -> None:
        """Work on a key ended."""

    def retried(self) -> None:
        """A key was added with back-off."""

    def watch(self, unfinished_seconds: Callable[[], float], longest_seconds: Callable[[], float]) -> None:
        """Functions to ask when somebody reads the metrics: the work going on, summed, and the longest of it."""


class ClientMetrics:
    """Makes hooks that count nothing; `prometheus_metrics` makes ones that do."""

    def __init__(self) -> None:
        self.meter = Meter()

    def queue(self, name: str) -> QueueMetrics:
        return QueueMetrics()

    def request(self, method: str, host: str, code: str, seconds: float) -> None:
        """One HTTP request was answered with this code (`<error>` when it failed without an answer)."""

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        """One work item ended: result is success, requeue_after or error (controller-runtime's words)."""


class _PrometheusQueueMetrics(QueueMetrics):
    def __init__(
        self, set_depth: Callable[[float], None], add: Callable[[], None], observe_wait: Callable[[float], None],
        observe_work: Callable[[float], None], retry: Callable[[], None], unfinished: Gauge, longest: Gauge,
    ) -> None:  # fmt: skip
        self._set_depth, self._add, self._observe_wait, self._observe_work, self._retry = set_depth, add, observe_wait, observe_work, retry
        self._unfinished, self._longest = unfinished, longest

    def depth(self, length: int) -> None:
        self._set_depth(length)

    def added(self) -> None:
        self._add()

    def waited(self, seconds: float) -> None:
        self._observe_wait(seconds)

    def worked(self, seconds: float) -> None:
        self._observe_work(seconds)

    def retried(self) -> None:
        self._retry()

    def watch(self, unfinished_seconds: Callable[[], float], longest_seconds: Callable[[], float]) -> None:
        self._unfinished.set_function(unfinished_seconds)
        self._longest.set_function(longest_seconds)


class _PrometheusMeter(Meter):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._families: dict[Family, Any] = {}

    def declare(self, families: Iterable[Family]) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        for family in families:
            if family in self._families:
                continue
            name, text, labels = family.name, family.help, family.labels
            if family.kind == HISTOGRAM:
                self._families[family] = Histogram(name, text, labels, registry=self._registry, buckets=family.buckets)
            else:
                self._families[family] = (Counter if family.kind == COUNTER else Gauge)(name, text, labels, registry=self._registry)

    def _of(self, family: Family, labels: tuple[str, ...]) -> Any:
        metric = self._families[family]
        return metric.labels(*labels) if labels else metric

    def add(self, family: Family, *labels: str, by: float = 1.0) -> None:
        self._of(family, labels).inc(by)

    def set(self, family: Family, value: float, *labels: str) -> None:
        self._of(family, labels).set(value)

    def observe(self, family: Family, value: float, *labels: str) -> None:
        self._of(family, labels).observe(value)

    def forget(self, family: Family, *labels: str) -> None:
        self._families[family].remove(*labels)


class PrometheusClientMetrics(ClientMetrics):
    """Counts into a prometheus_client registry. One instance per registry: names may be registered once only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # the command line counts nothing

        self.meter = _PrometheusMeter(registry)
        name = ("name",)
        self._depth = Gauge("workqueue_depth", "Current depth of workqueue", name, registry=registry)
        self._adds = Counter("workqueue_adds_total", "Total number of adds handled by workqueue", name, registry=registry)
        self._wait = Histogram(
            "workqueue_queue_duration_seconds", "How long in seconds an item stays in workqueue before being requested.",
            name, registry=registry, buckets=QUEUE_SECONDS_BUCKETS,
        )  # fmt: skip
        self._work = Histogram(
            "workqueue_work_duration_seconds", "How long in seconds processing an item from workqueue takes.",
            name, registry=registry, buckets=QUEUE_SECONDS_BUCKETS,
        )  # fmt: skip
        self._unfinished = Gauge(
            "workqueue_unfinished_work_seconds",
            "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate "
            "stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
            name, registry=registry,
        )  # fmt: skip
        self._longest = Gauge(
            "workqueue_longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.", name, registry=registry,
        )  # fmt: skip
        self._retries = Counter("workqueue_retries_total", "Total number of retries handled by workqueue", name, registry=registry)
        self._requests = Counter(
            "rest_client_requests_total", "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "host", "method"), registry=registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds", "Request latency in seconds. Broken down by verb, and host.",
            ("host", "verb"), registry=registry, buckets=REQUEST_SECONDS_BUCKETS,
        )  # fmt: skip
        self._request_hooks: dict[tuple[str, str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._reconciles = Counter(
            "controller_runtime_reconcile_total", "Total number of reconciliations per controller",
            ("controller", "result"), registry=registry,
        )  # fmt: skip
        self._reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds", "Length of time per reconciliation per controller",
            ("controller",), registry=registry,
        )  # fmt: skip

    def queue(self, name: str) -> QueueMetrics:
        return _PrometheusQueueMetrics(
            self._depth.labels(name).set, self._adds.labels(name).inc, self._wait.labels(name).observe,
            self._work.labels(name).observe, self._retries.labels(name).inc, self._unfinished.labels(name), self._longest.labels(name),
        )  # fmt: skip

    def request(self, method: str, host: str, code: str, seconds: float) -> None:
        hooks = self._request_hooks.get((method, host, code))
        if hooks is None:  # looking up a labelled metric costs more than counting
            hooks = self._requests.labels(code, host, method).inc, self._request_seconds.labels(host, method).observe
            self._request_hooks[method, host, code] = hooks
        count, observe = hooks
        count()
        observe(seconds)

    def reconciled(self, controller: str, result: str, seconds: float) -> None:
        self._reconciles.labels(controller, result).inc()
        self._reconcile_seconds.labels(controller).observe(seconds)

"""The scheduler's metrics, under kube-scheduler's names. Label children are looked up once and kept: they are touched for every pod."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from prometheus_client import Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import SCHEDULING_BUCKETS, Metrics, exponential_buckets

from .figures import FigureSource, NoFigures

SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"
POINT_BUCKETS = exponential_buckets(0.0001, 2, 12)
SLI_BUCKETS = exponential_buckets(0.01, 2, 20)
ATTEMPT_BUCKETS = exponential_buckets(1, 2, 5)
PLUGIN_BUCKETS = exponential_buckets(0.00001, 1.5, 20)
PREPARE_BUCKETS = exponential_buckets(0.1, 2, 14)
VICTIM_BUCKETS = exponential_buckets(1, 2, 7)
ATTEMPTS_LABEL_MAX = 15
LABEL_CHILDREN_MAX = 1024


class SchedulerMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.counter(
            "scheduler_schedule_attempts_total", "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could "
            "not be scheduled, while 'error' means an internal scheduler problem.", ("result", "profile"),
        )  # fmt: skip
        self._attempt_seconds = metrics.histogram(
            "scheduler_scheduling_attempt_duration_seconds", "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            ("result", "profile"), SCHEDULING_BUCKETS,
        )  # fmt: skip
        self._algorithm_seconds = metrics.histogram(
            "scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", (), SCHEDULING_BUCKETS
        )
        self._sli_seconds = metrics.histogram(
            "scheduler_pod_scheduling_sli_duration_seconds", "E2e latency for a pod being scheduled, from the time the pod enters the "
            "scheduling queue and might involve multiple scheduling attempts.", ("attempts",), SLI_BUCKETS,
        )  # fmt: skip
        self._pod_attempts = metrics.histogram(
            "scheduler_pod_scheduling_attempts", "Number of attempts to successfully schedule a pod.", (), ATTEMPT_BUCKETS
        )
        self._point_seconds = metrics.histogram(
            "scheduler_framework_extension_point_duration_seconds", "Latency for running all plugins of a specific extension point.",
            ("extension_point", "status", "profile"), POINT_BUCKETS,
        )  # fmt: skip
        self._incoming = metrics.counter(
            "scheduler_queue_incoming_pods_total", "Number of pods added to scheduling queues by event and queue type.", ("queue", "event")
        )
        self._preemption_attempts = metrics.counter(
            "scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now"
        )
        self._victims = metrics.histogram("scheduler_preemption_victims", "Number of selected preemption victims", (), VICTIM_BUCKETS)
        self._goroutines: Gauge = metrics.gauge(
            "scheduler_goroutines", "Number of running goroutines split by the work they do such as binding.", ("operation",)
        )
        self._permit_seconds = metrics.histogram(
            "scheduler_permit_wait_duration_seconds", "Duration of waiting on permit.", ("result",), SCHEDULING_BUCKETS
        )
        self._event_seconds = metrics.histogram(
            "scheduler_event_handling_duration_seconds", "Event handling latency in seconds.", ("event",), POINT_BUCKETS
        )
        self._plugin_seconds = metrics.histogram(
            "scheduler_plugin_execution_duration_seconds", "Duration for running a plugin at a specific extension point.",
            ("plugin", "extension_point", "status"), PLUGIN_BUCKETS,
        )  # fmt: skip
        self._eviction_seconds = metrics.histogram(
            "scheduler_preemption_goroutines_duration_seconds", "Duration in seconds for running goroutines for the preemption.",
            ("result",), SLI_BUCKETS,
        )  # fmt: skip
        self._evictions = metrics.counter(
            "scheduler_preemption_goroutines_execution_total", "Number of preemption goroutines executed.", ("result",)
        )
        self._add_later_ones(metrics)
        self._hint = lru_cache(LABEL_CHILDREN_MAX)(lambda plugin, event, answer: self._hint_seconds.labels(plugin, event, answer))
        self.bindings = self._goroutines.labels("binding")
        self._point = lru_cache(LABEL_CHILDREN_MAX)(lambda point, status, profile: self._point_seconds.labels(point, status, profile))
        self._run = lru_cache(LABEL_CHILDREN_MAX)(lambda plugin, point, status: self._plugin_seconds.labels(plugin, point, status))
        self._arrival = lru_cache(LABEL_CHILDREN_MAX)(lambda queue, event: self._incoming.labels(queue, event))
        self._event = lru_cache(LABEL_CHILDREN_MAX)(lambda event: self._event_seconds.labels(event))
        self._result: Callable[[str, str], tuple[object, Histogram]] = lru_cache(LABEL_CHILDREN_MAX)(
            lambda result, profile: (self._attempts.labels(result, profile), self._attempt_seconds.labels(result, profile))
        )
        self.figures: FigureSource = NoFigures()
        self._serve_figures(metrics)

    def _add_later_ones(self, metrics: Metrics) -> None:
        """Of queueing hints, and of devices."""
        self._hint_seconds = metrics.histogram(
            "scheduler_queueing_hint_execution_duration_seconds", "Duration for running a queueing hint function of a plugin.",
            ("plugin", "event", "hint"), PLUGIN_BUCKETS,
        )  # fmt: skip
        self._after_flush = metrics.counter(
            "scheduler_pod_scheduled_after_flush_total",
            "Number of pods that were successfully scheduled after being flushed from unschedulablePods due to timeout. "
            "This metric helps detect potential queueing hint misconfigurations or event handling issues.",
        )  # fmt: skip
        self._claims_created = metrics.counter(
            "scheduler_resourceclaim_creates_total", "Number of ResourceClaims creation requests within scheduler",
            ("status", "admin_access"),
        )  # fmt: skip
        driver_labels = ("profile", "driver", "status")
        self._prepared = metrics.counter(
            "scheduler_dra_bindingconditions_allocations_total",
            "Number of allocations using devices with BindingConditions, counted per driver per scheduling attempt", driver_labels,
        )  # fmt: skip
        self._prepare_seconds = metrics.histogram(
            "scheduler_dra_bindingconditions_wait_duration_seconds",
            "Time in seconds spent waiting for BindingConditions to be satisfied during PreBind.", driver_labels, PREPARE_BUCKETS,
        )  # fmt: skip

    def _serve_figures(self, metrics: Metrics) -> None:
        """What is read from `figures` when somebody scrapes."""
        for family, name, text, labels, read in (
            (GaugeMetricFamily, "scheduler_inflight_events", INFLIGHT_HELP, ("event",), lambda: self.figures.in_flight()),
            (GaugeMetricFamily, "scheduler_pending_pods", PENDING_HELP, ("queue",), lambda: self.figures.pending()),
            (GaugeMetricFamily, "scheduler_cache_size", CACHE_HELP, ("type",), lambda: self.figures.cached()),
            (GaugeMetricFamily, "scheduler_unschedulable_pods", UNSCHEDULABLE_HELP, ("plugin", "profile"), lambda: self.figures.rejected()),
            (
                CounterMetricFamily, "scheduler_plugin_evaluation", EVALUATION_HELP, ("plugin", "extension_point", "profile"),
                lambda: self.figures.evaluated(),
            ),
        ):  # fmt: skip
            metrics.registry.register(_Scraped(family, name, text, labels, read))

    def point(self, profile: str, extension_point: str, status: str, seconds: float) -> None:
        self._point(extension_point, status, profile).observe(seconds)

    def incoming(self, queue: str, event: str) -> None:
        self._arrival(queue, event).inc()

    def handled(self, event: str, seconds: float) -> None:
        """An event of the cluster has been looked at for all rejected pods."""
        self._event(event).observe(seconds)

    def plugin(self, plugin: str, extension_point: str, status: str, seconds: float) -> None:
        """A plugin was run in an attempt that is measured closely."""
        self._run(plugin, extension_point, status).observe(seconds)

    def evicted(self, result: str, seconds: float) -> None:
        """The victims of a preemption were told to go (`success`), or that failed (`error`)."""
        self._eviction_seconds.labels(result).observe(seconds)
        self._evictions.labels(result).inc()

    def attempted(self, result: str, profile: str, seconds: float) -> None:
        """An attempt ended: scheduled (bound), unschedulable or error."""
        count, histogram = self._result(result, profile)
        count.inc()  # type: ignore[attr-defined]
        histogram.observe(seconds)

    def algorithm(self, seconds: float) -> None:
        self._algorithm_seconds.observe(seconds)

    def hinted(self, plugin: str, event: str, answer: str, seconds: float) -> None:
        """A queueing hint was asked: `Queue` or `QueueSkip`."""
        self._hint(plugin, event, answer).observe(seconds)

    def claim_created(self, status: str) -> None:
        """The scheduler made a ResourceClaim for extended resources (`success`), or could not (`failure`)."""
        self._claims_created.labels(status, "false").inc()

    def devices_prepared(self, profile: str, drivers: Iterable[str], status: str, seconds: float) -> None:
        """Drivers were waited for: `success`, `failure` or `timeout`."""
        for driver in drivers:
            self._prepared.labels(profile, driver, status).inc()
            self._prepare_seconds.labels(profile, driver, status).observe(seconds)

    def bound(self, attempts: int, seconds_since_first: float, *, flushed: bool = False) -> None:
        """A pod found its node for good; `flushed`: it was tried because of its long wait, not because of an event."""
        if flushed:
            self._after_flush.inc()
        self._pod_attempts.observe(attempts)
        label = f"{ATTEMPTS_LABEL_MAX}+" if attempts >= ATTEMPTS_LABEL_MAX else str(attempts)
        self._sli_seconds.labels(label).observe(seconds_since_first)

    def preemption_tried(self) -> None:
        """A pod that fits nowhere looked for victims, whether it may preempt or not."""
        self._preemption_attempts.inc()

    def preempted(self, victims: int) -> None:
        """So many pods were chosen to go."""
        self._victims.observe(victims)

    def permit_waited(self, result: str, seconds: float) -> None:
        self._permit_seconds.labels(result).observe(seconds)


INFLIGHT_HELP = "Number of events currently tracked in the scheduling queue."
CACHE_HELP = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache."
PENDING_HELP = (
    "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; "
    "'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number "
    "of unschedulable pods that the scheduler never attempted to schedule because they are gated."
)


UNSCHEDULABLE_HELP = (
    "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that caused it to not "
    "schedule and so this metric have meaning only when broken down by plugin."
)
EVALUATION_HELP = (
    "Number of attempts to schedule pods by each plugin and the extension point (available only in PreFilter, Filter, PreScore, and Score)."
)


class _Scraped(Collector):
    """Figures that are read when somebody scrapes."""

    def __init__(
        self, family: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, help_text: str, labels: Sequence[str],
        read: Callable[[], Mapping[tuple[str, ...], int]],
    ) -> None:  # fmt: skip
        self._family, self._name, self._help, self._labels, self._read = family, name, help_text, labels, read

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        family = self._family(self._name, self._help, labels=self._labels)
        for values, figure in self._read().items():
            family.add_metric(values, figure)
        return [family]

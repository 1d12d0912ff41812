"""Metrics of admission, by Kubernetes' names. Imitates apiserver/pkg/admission/metrics and plugin/policy/{validating,mutating}/metrics.

A plugin is counted where it has a say: kube-apiserver also counts those that look at a write only to find that it is none of theirs.
Left out: quantiles (apiserver_admission_step_admission_duration_seconds_summary).
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import Metrics

from ..tallies import Durations

QUICK_SECONDS = 0.005
PLUGIN_BUCKETS = (QUICK_SECONDS, 0.025, 0.1, 0.5, 1.0, 2.5)
WEBHOOK_BUCKETS = (*PLUGIN_BUCKETS, 10.0, 25.0)
POLICY_BUCKETS = (5e-07, 0.001, 0.01, 0.1, 1.0)
CODE_MAX = 600
"""HTTP codes above count as this one: webhooks choose them."""
_ERROR_TYPES = {"compilation": "compile_error", "validation failed due to running out of cost budget": "out_of_budget"}
"""How the messages of expressions that could not be evaluated begin → error_type; others are invalid_error."""
CALLING_WEBHOOK_ERROR, SERVER_ERROR, NO_ERROR = "calling_webhook_error", "apiserver_internal_error", "no_error"


def error_type(message: str) -> str:
    """What metrics call the error of an expression (ErrorType of policy/validating/errors.go)."""
    return next((found for start, found in _ERROR_TYPES.items() if message.startswith(start)), "invalid_error")


class Timings(Collector):
    """A histogram whose series are kept by those who add to them; text is made on scrape."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._series: dict[tuple[str, ...], Durations] = {}

    def of(self, *labels: str) -> Durations:
        """The series of these labels, in the order in which they were named."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = Durations(PLUGIN_BUCKETS)
        return found

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, series in self._series.items():
            if series.count:
                series.add_to(family, labels)
        yield family


class Count(Gauge):
    """A counter whose name, as Kubernetes has it, does not end in _total: the library's own counters always do."""

    _type = "unknown"


class AdmissionMetrics:
    """Made with the chain, exposed once `register` has been called."""

    def __init__(self) -> None:
        each, check = ("name", "type", "operation", "rejected"), ("error_type", "enforcement_action", "policy", "policy_binding")
        outcome = ("type", "operation", "rejected")
        self.steps = Timings("apiserver_admission_step_admission_duration_seconds", "Latency of the steps of admission.", outcome)
        self.plugins = Timings(
            "apiserver_admission_controller_admission_duration_seconds", "Latency of admission plugins.", ("name", *outcome)
        )
        name = "apiserver_admission_webhook"
        self.webhook = Histogram(
            f"{name}_admission_duration_seconds", "Latency of admission webhooks.", each, buckets=WEBHOOK_BUCKETS, registry=None
        )
        self.webhook_requests = Counter(
            f"{name}_request_total", "Requests to admission webhooks.", ("name", "type", "operation", "code", "rejected"), registry=None
        )
        self.webhook_rejections = Count(
            f"{name}_rejection_count", "Requests rejected because of an admission webhook.",
            ("name", "type", "operation", "error_type", "rejection_code"), registry=None,
        )  # fmt: skip
        self.webhook_fail_open = Count(
            f"{name}_fail_open_count", "Failed calls of admission webhooks that were let pass.", ("name", "type"), registry=None
        )
        condition = ("name", "kind", "type", "operation")
        self.condition_seconds = Histogram(
            "apiserver_admission_match_condition_evaluation_seconds", "Latency of match conditions.", condition, buckets=PLUGIN_BUCKETS,
            registry=None,
        )  # fmt: skip
        self.exclusions = Counter(
            "apiserver_admission_match_condition_exclusions_total", "Requests that match conditions excluded.",
            condition, registry=None,
        )  # fmt: skip
        self.condition_errors = Counter(
            "apiserver_admission_match_condition_evaluation_errors_total", "Match conditions that could not be evaluated.",
            condition, registry=None,
        )  # fmt: skip
        self.checks = Counter("apiserver_validating_admission_policy_check_total", "Validations by outcome.", check, registry=None)
        self.check_seconds = Histogram(
            "apiserver_validating_admission_policy_check_duration_seconds", "Latency of validations.", check, buckets=POLICY_BUCKETS,
            registry=None,
        )  # fmt: skip

        self.of_plugins: list[Collector] = []
        """What built-in plugins add."""

        self.mutations = Counter("apiserver_mutating_admission_policy_check_total", "Mutations by outcome.", check, registry=None)
        self.mutation_seconds = Histogram(
            "apiserver_mutating_admission_policy_check_duration_seconds", "Latency of mutations.", check, buckets=POLICY_BUCKETS,
            registry=None,
        )  # fmt: skip

    def register(self, metrics: Metrics) -> None:
        collectors: tuple[Collector, ...] = (
            self.steps, self.plugins,
            self.webhook, self.webhook_requests, self.webhook_rejections, self.webhook_fail_open, self.exclusions, self.condition_errors,
            self.condition_seconds,
            self.checks, self.check_seconds, self.mutations, self.mutation_seconds,
        )  # fmt: skip
        for collector in (*collectors, *self.of_plugins):
            metrics.registry.register(collector)

    def observe_webhook(self, name: str, step: str, operation: str, seconds: float, *, rejected: bool, code: int) -> None:
        """`step` is admit or validating; `code` the HTTP code of the outcome."""
        said = str(rejected).lower()
        self.webhook.labels(name, step, operation, said).observe(seconds)
        self.webhook_requests.labels(name, step, operation, str(min(code, CODE_MAX)), said).inc()

    def count_rejection(self, name: str, step: str, operation: str, error: str, code: int) -> None:
        self.webhook_rejections.labels(name, step, operation, error, str(min(code, CODE_MAX))).inc()

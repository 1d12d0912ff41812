"""Metrics of dynamic admission, by Kubernetes' names.

Left out: durations of whole steps and of built-in plugins. Measuring those would cost more than they do.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import Metrics

PLUGIN_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
WEBHOOK_BUCKETS = (*PLUGIN_BUCKETS, 10.0, 25.0)
POLICY_BUCKETS = (5e-07, 0.001, 0.01, 0.1, 1.0)
CALLING_WEBHOOK_ERROR, SERVER_ERROR, NO_ERROR = "calling_webhook_error", "apiserver_internal_error", "no_error"


class AdmissionMetrics:
    """Made with the chain, exposed once `register` has been called."""

    def __init__(self) -> None:
        each, check = ("name", "type", "operation", "rejected"), ("error_type", "enforcement_action", "policy", "policy_binding")
        name = "apiserver_admission_webhook"
        self.webhook = Histogram(
            f"{name}_admission_duration_seconds", "Latency of admission webhooks.", each, buckets=WEBHOOK_BUCKETS, registry=None
        )
        self.webhook_requests = Counter(
            f"{name}_request_total", "Requests to admission webhooks.", ("name", "type", "operation", "code", "rejected"), registry=None
        )
        self.webhook_rejections = Counter(
            f"{name}_rejection_count", "Requests rejected because of an admission webhook.",
            ("name", "type", "operation", "error_type", "rejection_code"), registry=None,
        )  # fmt: skip
        self.webhook_fail_open = Counter(
            f"{name}_fail_open_count", "Failed calls of admission webhooks that were let pass.", ("name", "type"), registry=None
        )
        self.exclusions = Counter(
            "apiserver_admission_match_condition_exclusions_total", "Requests that match conditions excluded.",
            ("name", "kind", "type", "operation"), registry=None,
        )  # fmt: skip
        self.condition_errors = Counter(
            "apiserver_admission_match_condition_evaluation_errors_total", "Match conditions that could not be evaluated.",
            ("name", "kind", "type", "operation"), registry=None,
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
            self.webhook, self.webhook_requests, self.webhook_rejections, self.webhook_fail_open, self.exclusions, self.condition_errors,
            self.checks, self.check_seconds, self.mutations, self.mutation_seconds,
        )  # fmt: skip
        for collector in (*collectors, *self.of_plugins):
            metrics.registry.register(collector)

    def observe_webhook(self, name: str, step: str, operation: str, seconds: float, *, rejected: bool, code: int) -> None:
        """`step` is admit or validating; `code` the HTTP code of the outcome."""
        said = str(rejected).lower()
        self.webhook.labels(name, step, operation, said).observe(seconds)
        self.webhook_requests.labels(name, step, operation, str(code), said).inc()

"""Metrics of authorization by Kubernetes' names (apiserver/pkg/endpoints/filters/metrics.go, authorization/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import DEFAULT_BUCKETS, SCHEDULING_BUCKETS

from ..tallies import Durations

ALLOWED, DENIED, NO_OPINION, ERROR = "allowed", "denied", "no-opinion", "error"
_WEBHOOK = "apiserver_authorization_webhook_"


class WebhookCalls:
    """Calls of one authorization webhook."""

    def __init__(self) -> None:
        self.durations: dict[str, Durations] = {}
        """success, timeout or error → how long they took."""
        self.failed_open: Counter[str] = Counter()

    def called(self, result: str, seconds: float) -> None:
        self.durations.setdefault(result, Durations(DEFAULT_BUCKETS)).observe(seconds)


class AuthorizationMetrics(Collector):
    """`at_once` is counted by the filter itself: requests that were allowed without waiting for anybody."""

    def __init__(self) -> None:
        self.at_once = 0
        self._webhooks: dict[str, WebhookCalls] = {}
        self._samples = Durations(SCHEDULING_BUCKETS)
        self._measured: dict[str, Durations] = {}

    def sample(self, seconds: float) -> None:
        """How long one of those in `at_once` took."""
        self._samples.observe(seconds)

    def measured(self, result: str, seconds: float) -> None:
        """One request beside those in `at_once`."""
        self._measured.setdefault(result, Durations(SCHEDULING_BUCKETS)).observe(seconds)

    def calls_of(self, webhook: str) -> WebhookCalls:
        """Those of the webhook of that name, which outlast a reload of the configuration."""
        return self._webhooks.setdefault(webhook, WebhookCalls())

    def collect(self) -> Iterable[Metric]:
        found = dict(self._measured)
        if self.at_once:
            quick = self._samples.scaled_to(self.at_once)
            found[ALLOWED] = quick.plus(found[ALLOWED]) if ALLOWED in found else quick
        text = "Counter of authorization attempts broken down by result."
        attempts = CounterMetricFamily("authorization_attempts", text, labels=("result",))
        text = "Authorization duration in seconds broken out by result."
        seconds = HistogramMetricFamily("authorization_duration_seconds", text, labels=("result",))
        for result, durations in found.items():
            attempts.add_metric((result,), durations.count)
            durations.add_to(seconds, (result,))
        yield from (attempts, seconds)
        if self._webhooks:
            yield from self._of_webhooks()

    def _of_webhooks(self) -> Iterable[Metric]:
        labels = ("name", "result")
        calls = CounterMetricFamily(f"{_WEBHOOK}evaluations", "Round-trips to authorization webhooks.", labels=labels)
        seconds = HistogramMetricFamily(f"{_WEBHOOK}duration_seconds", "Request latency in seconds.", labels=labels)
        opened = CounterMetricFamily(
            f"{_WEBHOOK}evaluations_fail_open", "NoOpinion results due to webhook timeout or error.", labels=labels
        )
        for name, webhook in self._webhooks.items():
            for result, durations in webhook.durations.items():
                calls.add_metric((name, result), durations.count)
                durations.add_to(seconds, (name, result))
            for result, count in webhook.failed_open.items():
                opened.add_metric((name, result), count)
        yield from (calls, seconds, opened)

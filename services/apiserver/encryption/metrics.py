"""Metrics of encryption by Kubernetes' names (apiserver/pkg/storage/value/metrics.go, its envelope/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import exponential_buckets

from ..tallies import Durations
from .kms import Kms

TO_STORAGE, FROM_STORAGE = "to_storage", "from_storage"
BUCKETS = exponential_buckets(5e-6, 2, 25)
_KMS = "apiserver_envelope_encryption_"
_PREFIX = "apiserver_storage_transformation_"
Labels = tuple[str, str, str]
"""(resource, transformation_type, transformer_prefix)."""


class TransformationMetrics(Collector):
    """How often values were encrypted and decrypted, and how long that took."""

    def __init__(self, plugins: Callable[[], Iterable[Kms]]) -> None:
        """`plugins` gives the KMS providers there are."""
        self._plugins = plugins
        self._durations: dict[Labels, Durations] = {}
        self._operations: Counter[tuple[str, str, str, str]] = Counter()

    @contextmanager
    def timed(self, direction: str, resource: str, prefix: bytes) -> Iterator[None]:
        """Count one transformation; a ValueError of the block is its failure. Real time: it is the processor's that is meant."""
        labels = (resource, direction, prefix.decode() or "identity")
        started, status = perf_counter(), "OK"
        try:
            yield
        except ValueError:
            status = "Unknown"
            raise
        finally:
            self._operations[*labels, status] += 1
            if status == "OK":
                self._durations.setdefault(labels, Durations(BUCKETS)).observe(perf_counter() - started)

    def collect(self) -> Iterable[Metric]:
        labels = ("resource", "transformation_type", "transformer_prefix")
        total = CounterMetricFamily(f"{_PREFIX}operations", "Total number of transformations.", labels=(*labels, "status"))
        for key, count in self._operations.items():
            total.add_metric(key, count)
        seconds = HistogramMetricFamily(f"{_PREFIX}duration_seconds", "Latencies in seconds of value transformation.", labels=labels)
        for transformed, durations in self._durations.items():
            durations.add_to(seconds, transformed)
        yield from (total, seconds, *self._of_plugins())

    def _of_plugins(self) -> Iterable[Metric]:
        plugins = list(self._plugins())
        if not plugins:
            return
        labels = ("provider_name", "method_name", "grpc_status_code")
        calls = HistogramMetricFamily(f"{_KMS}kms_operations_latency_seconds", "KMS operation duration.", labels=labels)
        text = "The last time in seconds when a keyID was returned by the Status RPC call."
        status = GaugeMetricFamily(f"{_KMS}key_id_hash_status_last_timestamp_seconds", text, labels=("provider_name", "key_id_hash"))
        for kms in plugins:
            for (method, code), durations in list(kms.plugin.calls.items()):
                durations.add_to(calls, (kms.name, f"/v2.KeyManagementService/{method}", code))
            status.add_metric((kms.name, kms.status_seen[0]), kms.status_seen[1])
        yield from (calls, status)

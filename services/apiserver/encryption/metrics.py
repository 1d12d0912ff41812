"""Metrics of encryption by Kubernetes' names (apiserver/pkg/storage/value/metrics.go)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import exponential_buckets

from ..tallies import Durations

TO_STORAGE, FROM_STORAGE = "to_storage", "from_storage"
BUCKETS = exponential_buckets(5e-6, 2, 25)
_PREFIX = "apiserver_storage_transformation_"
Labels = tuple[str, str, str]
"""(resource, transformation_type, transformer_prefix)."""


class TransformationMetrics(Collector):
    """How often values were encrypted and decrypted, and how long that took."""

    def __init__(self) -> None:
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
        yield from (total, seconds)

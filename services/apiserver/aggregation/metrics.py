"""Metrics of aggregation by Kubernetes' names (kube-aggregator/pkg/controllers/status/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.api.resources import Object

from .conditions import is_available


class AggregatorMetrics(Collector):
    """Which APIServices are not available, and how often they stopped to be."""

    def __init__(self, stored: Callable[[], Iterable[Object]], builds: Callable[[], int]) -> None:
        """`stored` gives the APIServices, `builds` how often aggregated discovery was put together."""
        self._stored = stored
        self._builds = builds
        self.lost: Counter[tuple[str, str]] = Counter()
        """(name, reason) → how often an available APIService became unavailable."""

    def collect(self) -> Iterable[Metric]:
        text = "Gauge of APIServices which are marked as unavailable broken down by APIService name."
        gauge = GaugeMetricFamily("aggregator_unavailable_apiservice", text, labels=("name",))
        for obj in self._stored():
            gauge.add_metric((obj["metadata"]["name"],), not is_available(obj))
        text = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason."
        lost = CounterMetricFamily("aggregator_unavailable_apiservice", text, labels=("name", "reason"))
        for labels, count in self.lost.items():
            lost.add_metric(labels, count)
        yield from (gauge, lost)
        text = "Counter of number of times discovery was aggregated."
        yield CounterMetricFamily("aggregator_discovery_aggregation_count", text, value=self._builds())

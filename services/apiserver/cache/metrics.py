"""Figures of storage and caches, counted when somebody scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .caches import ROOT, Caches


class CacheMetrics(Collector):
    """Objects per resource, watchers, and the size of the database."""

    def __init__(self, caches: Caches, size_bytes: Callable[[], int]) -> None:
        self._caches = caches
        self._size_bytes = size_bytes

    def collect(self) -> Iterable[Metric]:
        objects = GaugeMetricFamily("apiserver_resource_objects", "Stored objects by group and resource.", labels=("group", "resource"))
        old = GaugeMetricFamily("apiserver_storage_objects", "Stored objects by resource (as before 1.34).", labels=("resource",))
        text = "Number of storage events received."
        events = CounterMetricFamily("apiserver_storage_events_received", text, labels=("group", "resource"))
        watchers = GaugeMetricFamily("apiserver_registered_watchers", "Watches being served.", labels=("group", "resource"))
        for prefix, cache in self._caches.items():
            group, _, resource = prefix[len(ROOT) : -1].partition("/")
            group = "" if group == "core" else group
            objects.add_metric((group, resource), len(cache))
            old.add_metric((f"{resource}.{group}" if group else resource,), len(cache))
            watchers.add_metric((group, resource), cache.watches.watcher_count)
            events.add_metric((group, resource), cache.history.received)
        yield from (objects, old, watchers, events)
        size = GaugeMetricFamily("apiserver_storage_size_bytes", "Size of the database file.", labels=("storage_cluster_id",))
        size.add_metric(("kubecosm-0",), self._size_bytes())
        yield size

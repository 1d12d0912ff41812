"""Figures of storage and caches, worked out when somebody scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import REQUEST_DURATION_BUCKETS

from ..storage.calls import Calls
from ..tallies import Durations
from .caches import ROOT, Caches
from .resource import ResourceCache

RESOURCE = ("group", "resource")
SIZED_MAX = 64
"""Objects whose size stands for that of all of their resource."""
Figure = Callable[[ResourceCache], float]
_GAUGES: tuple[tuple[str, str, Figure], ...] = (
    ("apiserver_resource_objects", "Stored objects by group and resource.", len),
    ("apiserver_resource_size_estimate_bytes", "Estimated size of stored objects in database.", lambda cache: size_estimate(cache)),
    ("apiserver_registered_watchers", "Watches being served.", lambda cache: cache.watches.watcher_count),
)
_COUNTERS: tuple[tuple[str, str, Figure], ...] = (
    ("apiserver_storage_events_received", "Number of storage events received.", lambda cache: cache.history.received),
    ("apiserver_watch_cache_events_received", "Counter of events received in watch cache.", lambda cache: cache.history.received),
    ("apiserver_watch_cache_events_dispatched", "Counter of events dispatched in watch cache.", lambda cache: cache.history.received),
    ("apiserver_cache_list_returned_objects", "Objects returned for LIST requests from the cache.", lambda cache: cache.returned),
)
_LISTS: tuple[tuple[str, str, Figure], ...] = (
    ("apiserver_cache_list", "LIST requests served from the cache.", lambda cache: cache.lists),
    ("apiserver_cache_list_fetched_objects", "Objects looked at to serve LIST requests from the cache.", lambda cache: cache.looked_at),
)
"""Those with the label `index`: lists go by key."""

Stored = tuple[str, str, str, dict[str, Calls]]
"""(group, version, plural, writes by operation) of what one store keeps in the storage."""


class CacheMetrics(Collector):
    """Objects, lists and watches by resource, writes by operation, and the size of the database."""

    def __init__(self, caches: Caches, size_bytes: Callable[[], int], stored: Callable[[], Iterable[Stored]]) -> None:
        """`stored`: every store there is; those of one resource in several versions write the same version."""
        self._caches, self._size_bytes, self._stored = caches, size_bytes, stored

    def collect(self) -> Iterable[Metric]:
        found = [(_split(prefix), cache) for prefix, cache in self._caches.items()]
        yield from _figures(GaugeMetricFamily, _GAUGES, found)
        yield from _figures(CounterMetricFamily, _COUNTERS, found)
        yield from _figures(CounterMetricFamily, _LISTS, found, ("index", ""))
        text = "Stored objects by resource (as before 1.34)."
        old = GaugeMetricFamily("apiserver_storage_objects", text, labels=("resource",))
        text = "Current resource version of watch cache broken by resource type."
        versions = GaugeMetricFamily("apiserver_watch_cache_resource_version", text, labels=RESOURCE)
        for (group, resource), cache in found:
            old.add_metric((f"{resource}.{group}" if group else resource,), len(cache))
            versions.add_metric((group, resource), self._caches.revision)
        size = GaugeMetricFamily("apiserver_storage_size_bytes", "Size of the database file.", labels=("storage_cluster_id",))
        size.add_metric(("kubecosm-0",), self._size_bytes())
        yield from (old, versions, size)
        stored = list(self._stored())
        yield from _watches(found, {(group, plural): version for group, version, plural, _ in stored})
        yield from _writes(stored)


def size_estimate(cache: ResourceCache) -> float:
    """Bytes of all objects, by some of them."""
    sizes = [len(entry.data) for entry in islice(cache.entries(), SIZED_MAX)]
    return sum(sizes) / len(sizes) * len(cache) if sizes else 0.0


def _split(prefix: str) -> tuple[str, str]:
    group, _, resource = prefix[len(ROOT) : -1].partition("/")
    return "" if group == "core" else group, resource


def _figures(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily], table: Iterable[tuple[str, str, Figure]],
    found: Iterable[tuple[tuple[str, str], ResourceCache]], more: tuple[str, str] | None = None,
) -> Iterator[Metric]:
    """One family a row; `more` is a further label and its value."""
    for name, text, figure in table:
        metric = family(name, text, labels=(*RESOURCE, *((more[0],) if more else ())))
        for names, cache in found:
            metric.add_metric((*names, *((more[1],) if more else ())), figure(cache))
        yield metric


def _watches(found: Iterable[tuple[tuple[str, str], ResourceCache]], versions: dict[tuple[str, str], str]) -> Iterator[Metric]:
    labels = ("group", "version", "resource")
    sent = CounterMetricFamily("apiserver_watch_events", "Number of events sent in watch clients", labels=labels)
    sizes = HistogramMetricFamily("apiserver_watch_events_sizes", "Watch event size distribution in bytes", labels=labels)
    for (group, resource), cache in found:
        if cache.watches.sent:
            names = group, versions.get((group, resource), ""), resource
            sent.add_metric(names, cache.watches.sent)
            cache.watches.sizes.scaled_to(cache.watches.sent).add_to(sizes, names)
    yield from (sent, sizes)


def _writes(stored: Iterable[Stored]) -> Iterator[Metric]:
    """Under the names they have where the storage is etcd, as dashboards ask for them."""
    labels = ("operation", "group", "resource")
    counts: Counter[tuple[str, str, str]] = Counter()
    failed: Counter[tuple[str, str, str]] = Counter()
    times: dict[tuple[str, str, str], Durations] = {}
    for group, _, plural, calls in stored:
        for operation, called in calls.items():
            if called.count:
                names = operation, group, plural
                counts[names] += called.count
                failed[names] += called.errors
                times[names] = times.get(names, Durations(REQUEST_DURATION_BUCKETS)).plus(called.samples)
    total = CounterMetricFamily("etcd_requests", "Storage request counts for each operation and object type.", labels=labels)
    errors = CounterMetricFamily("etcd_request_errors", "Storage failed request counts for each operation and object type.", labels=labels)
    text = "Storage request latency in seconds for each operation and object type."
    seconds = HistogramMetricFamily("etcd_request_duration_seconds", text, labels=labels)
    for names, count in counts.items():
        total.add_metric(names, count)
        if failed[names]:
            errors.add_metric(names, failed[names])
        times[names].scaled_to(count).add_to(seconds, names)
    yield from (total, errors, seconds)

"""Figures of the queue, the cache and the plugins that are read when somebody scrapes /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .metrics import CACHE_HELP, EVALUATION_HELP, INFLIGHT_HELP, PENDING_HELP, UNSCHEDULABLE_HELP

if TYPE_CHECKING:
    from .scheduler import Scheduler

Figures = Mapping[tuple[str, ...], int]


def serve_figures(scheduler: Scheduler) -> None:
    """Register them with the scheduler's metrics."""
    metrics, cluster = scheduler.metrics, scheduler.cluster

    def pending() -> Figures:
        return {(queue,): depth for queue, depth in scheduler.queue.depths().items()}

    def cached() -> Figures:
        return {("nodes",): cluster.nodes.count, ("pods",): cluster.pod_count, ("assumed_pods",): cluster.assumed_count}

    def rejected() -> Figures:
        return Counter((plugin, pod.info.scheduler_name) for pod in scheduler.queue for plugin in pod.rejectors)

    def evaluated() -> Figures:
        return {
            (plugin, point, profile.name): count
            for profile in scheduler.profiles.values()
            for (plugin, point), count in profile.evaluations.items()
        }

    def in_flight() -> Figures:
        return {(label,): count for label, count in scheduler.queue.in_flight.counts().items()}

    metrics.serve_sizes("scheduler_inflight_events", INFLIGHT_HELP, ("event",), in_flight)
    metrics.serve_sizes("scheduler_pending_pods", PENDING_HELP, ("queue",), pending)
    metrics.serve_sizes("scheduler_cache_size", CACHE_HELP, ("type",), cached)
    metrics.serve_sizes("scheduler_unschedulable_pods", UNSCHEDULABLE_HELP, ("plugin", "profile"), rejected)
    metrics.serve_counts("scheduler_plugin_evaluation", EVALUATION_HELP, ("plugin", "extension_point", "profile"), evaluated)

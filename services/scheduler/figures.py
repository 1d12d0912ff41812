"""Figures of the queue, the cache and the plugins that are read when somebody scrapes /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .scheduler import Scheduler

Figures = Mapping[tuple[str, ...], int]
"""Label values → value."""


class FigureSource(Protocol):
    def pending(self) -> Figures: ...

    def in_flight(self) -> Figures: ...

    def cached(self) -> Figures: ...

    def rejected(self) -> Figures: ...

    def evaluated(self) -> Figures: ...


class NoFigures:
    """Before the engine is loaded nothing waits for it."""

    def pending(self) -> Figures:
        return {(queue,): 0 for queue in ("active", "backoff", "unschedulable", "gated")}

    def in_flight(self) -> Figures:
        return {}

    def cached(self) -> Figures:
        return {(kind,): 0 for kind in ("nodes", "pods", "assumed_pods")}

    def rejected(self) -> Figures:
        return {}

    def evaluated(self) -> Figures:
        return {}


class SchedulerFigures:
    """Those of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def pending(self) -> Figures:
        return {(queue,): depth for queue, depth in self._scheduler.queue.depths().items()}

    def in_flight(self) -> Figures:
        return {(label,): count for label, count in self._scheduler.queue.in_flight.counts().items()}

    def cached(self) -> Figures:
        cluster = self._scheduler.cluster
        return {("nodes",): cluster.nodes.count, ("pods",): cluster.pod_count, ("assumed_pods",): cluster.assumed_count}

    def rejected(self) -> Figures:
        return Counter((plugin, pod.info.scheduler_name) for pod in self._scheduler.queue for plugin in pod.rejectors)

    def evaluated(self) -> Figures:
        return {
            (plugin, point, profile.name): count
            for profile in self._scheduler.profiles.values()
            for (plugin, point), count in profile.evaluations.items()
        }

"""How long the rules of custom resources take, by Kubernetes' metric names (apiserver/pkg/cel/metrics)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client import Histogram

from kubecosm.runtime.metrics import DEFAULT_BUCKETS, Metrics

T = TypeVar("T")


class CelTimes:
    """One per server; `monotonic` tells the time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        name = "apiserver_cel"
        self._now = monotonic
        self._compilation = Histogram(
            f"{name}_compilation_duration_seconds", "CEL compilation time in seconds.", buckets=DEFAULT_BUCKETS, registry=None
        )
        self._evaluation = Histogram(
            f"{name}_evaluation_duration_seconds", "CEL evaluation time in seconds.", buckets=DEFAULT_BUCKETS, registry=None
        )

    def register(self, metrics: Metrics) -> None:
        metrics.registry.register(self._compilation)
        metrics.registry.register(self._evaluation)

    def compiling(self, work: Callable[[], T]) -> T:
        """What `work` answers, which compiles the rules of a schema."""
        return self._timed(self._compilation, work)

    def evaluating(self, work: Callable[[], T]) -> T:
        """What `work` answers, which asks the rules about one object."""
        return self._timed(self._evaluation, work)

    def _timed(self, histogram: Histogram, work: Callable[[], T]) -> T:
        started = self._now()
        result = work()
        histogram.observe(self._now() - started)
        return result

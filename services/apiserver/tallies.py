"""Histograms that cost the request next to nothing: lists of counts that become Prometheus' families on scrape.

What mostly takes microseconds is measured one time in SAMPLED, and each sample stands for those around it; counts are exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import HistogramMetricFamily

SAMPLED = 16


class Durations:
    """Counts by bucket, and the sum; bounds are upper bounds in ascending order."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def move(self, value: float, to: float) -> None:
        """Count an observed value as another one."""
        self.counts[bisect_left(self.bounds, value)] -= 1
        self.counts[bisect_left(self.bounds, to)] += 1
        self.sum += to - value

    def without_first(self, bounds: int) -> Durations:
        """The same with so many of the lowest bounds left out."""
        coarser = Durations(self.bounds[bounds:])
        coarser.counts = [sum(self.counts[: bounds + 1]), *self.counts[bounds + 1 :]]
        coarser.sum = self.sum
        return coarser

    @property
    def count(self) -> int:
        return sum(self.counts)

    def scaled_to(self, total: int) -> Durations:
        """As if all of `total` had been measured, of which these are samples. The bucket with most samples takes what rounding leaves."""
        measured = self.count
        scaled = Durations(self.bounds)
        if not measured:
            scaled.counts[0] = total
            return scaled
        scaled.counts = [count * total // measured for count in self.counts]
        scaled.counts[self.counts.index(max(self.counts))] += total - sum(scaled.counts)
        scaled.sum = self.sum * total / measured
        return scaled

    def plus(self, other: Durations) -> Durations:
        both = Durations(self.bounds)
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        return both

    def add_to(self, family: HistogramMetricFamily, labels: Iterable[str]) -> None:
        """One child of a family, with its buckets cumulated."""
        total, buckets = 0, []
        for bound, count in zip((*(str(float(bound)) for bound in self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(list(labels), buckets, self.sum)

"""Prometheus metrics: one registry per process, Kubernetes' metric names and buckets.

A service makes one `Metrics`, hands it to whatever measures, and serves it under /metrics. Process figures are read from /proc
only when somebody scrapes. Left out: the OpenMetrics `_created` series.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import kubecosm

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    """`count` upper bounds from `start`, each `factor` times the one before (as Prometheus' ExponentialBuckets)."""
    return tuple(start * factor**i for i in range(count))


DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUEST_DURATION_BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
)  # fmt: skip
"""apiserver_request_duration_seconds."""
RESPONSE_SIZE_BUCKETS = exponential_buckets(1000, 10.0, 7)
"""apiserver_response_sizes."""
SCHEDULING_BUCKETS = exponential_buckets(0.001, 2, 15)
"""scheduler_scheduling_attempt_duration_seconds and its kin."""

SAMPLES_AT_ONCE = 400
"""Samples written before other work has its turn: some 4 ms."""
END = b"# EOF\n"
"""What OpenMetrics ends with."""
Encoder = Callable[[Collector], bytes]

COUNTERS_WITHOUT_TOTAL = (
    b"authenticated_user_requests", b"authentication_attempts", b"endpoint_slice_controller_changes", b"endpoint_slice_controller_syncs",
    b"endpoint_slice_mirroring_controller_changes",
)  # fmt: skip
"""Counters that Kubernetes named before `_total` was the rule: they stand so in Prometheus' text format. OpenMetrics demands it."""


class Metrics:
    """The metrics of one process, or of one service under test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        Info("python", "Python platform information", registry=self.registry).info(
            {"version": sys.version.split()[0], "implementation": sys.implementation.name}
        )
        self._build_info()
        self._healthcheck: Gauge | None = None
        self._healthchecks: Counter | None = None

    def _build_info(self) -> None:
        major, minor = kubecosm.KUBERNETES_VERSION.lstrip("v").split(".")[:2]
        said = {
            "major": major, "minor": minor, "git_version": kubecosm.KUBERNETES_VERSION, "git_commit": f"kubecosm-{kubecosm.__version__}",
            "git_tree_state": "clean", "build_date": "", "go_version": f"python{sys.version.split()[0]}",
            "compiler": sys.implementation.name, "platform": sys.platform,
        }  # fmt: skip
        build = self.gauge("kubernetes_build_info", "The version of Kubernetes that is imitated, and what does so.", tuple(said))
        build.labels(**said).set(1)

    def health_checked(self, endpoint: str, outcomes: Mapping[str, str | None]) -> None:
        """Count the checks of one answer of `/livez`, `/readyz` or `/healthz`: name → None when well, else why not."""
        if self._healthcheck is None or self._healthchecks is None:
            text = "This metric records the result of a single healthcheck."
            self._healthcheck = self.gauge("kubernetes_healthcheck", text, ("name", "type"))
            text = "This metric records the results of all healthcheck."
            self._healthchecks = self.counter("kubernetes_healthchecks_total", text, ("name", "type", "status"))
        for name, why in outcomes.items():
            self._healthcheck.labels(name, endpoint).set(why is None)
            self._healthchecks.labels(name, endpoint, "success" if why is None else "error").inc()

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """`name` as exposed, with its `_total`. Keep `counter.labels(…)` children on hot paths."""
        return Counter(name, help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS) -> Histogram:
        """Durations are in seconds, sizes in bytes."""
        return Histogram(name, help_text, labels, buckets=buckets, registry=self.registry)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The Content-Type and body of a /metrics answer; `accept` is the request's Accept header."""
        encoder, content_type = choose_encoder(accept)
        return content_type, b"".join(self._pieces(encoder, content_type))

    async def render_in_turns(self, accept: str = "") -> tuple[str, bytes]:
        """`render`, with other work going on between the pieces: thousands of series may be a tenth of a second of work."""
        encoder, content_type = choose_encoder(accept)
        pieces = []
        for piece in self._pieces(encoder, content_type):
            pieces.append(piece)
            await asyncio.sleep(0)
        return content_type, b"".join(pieces)

    def _pieces(self, encoder: Encoder, content_type: str) -> Iterator[bytes]:
        """The text, about `SAMPLES_AT_ONCE` samples at a time."""
        is_plain = content_type.startswith("text/plain")
        texts: list[bytes] = []
        room = SAMPLES_AT_ONCE
        for family in self.registry.collect():
            done = 0
            while not done or done < len(family.samples):
                part = copy.copy(family)
                part.samples = family.samples[done : done + room]
                texts.append(_encoded(encoder, part, is_new=not done))
                done += max(1, len(part.samples))
                room -= len(part.samples)
                if room <= 0:
                    yield _renamed(b"".join(texts)) if is_plain else b"".join(texts)
                    texts, room = [], SAMPLES_AT_ONCE
        yield _renamed(b"".join(texts)) if is_plain else b"".join(texts) + END


def _encoded(encoder: Encoder, part: Metric, *, is_new: bool) -> bytes:
    """A family, or more samples of the one before: those are without its HELP and TYPE."""
    text = encoder(_Collected(part)).removesuffix(END)
    while not is_new and text.startswith(b"# "):
        text = text[text.index(b"\n") + 1 :]
    return text


def _renamed(text: bytes) -> bytes:
    for name in COUNTERS_WITHOUT_TOTAL:
        text = text.replace(name + b"_total", name)
    return text


@dataclass(frozen=True)
class _Collected(Collector):
    """Hands out a family that has been collected."""

    family: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.family

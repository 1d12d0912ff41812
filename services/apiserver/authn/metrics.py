"""Metrics of authentication by Kubernetes' names (apiserver/pkg/endpoints/filters/metrics.go, authentication/token/cache/stats.go).

The token cache is that of `--authentication-token-webhook-*`: what is checked here needs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.runtime.metrics import SCHEDULING_BUCKETS

from ..tallies import Durations

SUCCESS, FAILURE, ERROR = "success", "failure", "error"
KNOWN_NAMES = frozenset(("admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"))
CACHE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CACHE = "authentication_token_cache_"


class TokenCacheMetrics:
    """Of one memory of tokens."""

    def __init__(self) -> None:
        self.requests = {"hit": Durations(CACHE_BUCKETS), "miss": Durations(CACHE_BUCKETS)}
        self.fetches: Counter[str] = Counter({"ok": 0, "error": 0})
        self.in_flight = 0

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(f"{_CACHE}request", "Requests to the token cache.", labels=("status",))
        seconds = HistogramMetricFamily(f"{_CACHE}request_duration_seconds", "Duration of requests to the token cache.", labels=("status",))
        for status, durations in self.requests.items():
            requests.add_metric((status,), durations.count)
            durations.add_to(seconds, (status,))
        fetches = CounterMetricFamily(f"{_CACHE}fetch", "Tokens that somebody outside was asked about.", labels=("status",))
        for status, count in self.fetches.items():
            fetches.add_metric((status,), count)
        active = GaugeMetricFamily(f"{_CACHE}active_fetch_count", "Tokens that somebody outside is being asked about.", labels=("status",))
        active.add_metric(("in_flight",), self.in_flight)
        yield from (requests, seconds, fetches, active)


class AuthenticationMetrics(Collector):
    """`at_once` is counted by the filter itself; whoever had to be waited for is told by `waited`."""

    def __init__(self) -> None:
        self.at_once = 0
        """Requests whose user was known without waiting for anybody."""
        self.token_caches: list[TokenCacheMetrics] = []
        self._samples = Durations(SCHEDULING_BUCKETS)
        self._measured: dict[str, Durations] = {}
        self._names: Counter[str] = Counter()

    def sample(self, seconds: float) -> None:
        """How long one of the requests in `at_once` took; asked for once in SAMPLED."""
        self._samples.observe(seconds)

    def measured(self, result: str, seconds: float) -> None:
        """One request beside those in `at_once`."""
        self._measured.setdefault(result, Durations(SCHEDULING_BUCKETS)).observe(seconds)

    def count_name(self, name: str) -> None:
        """A request of somebody whom Kubernetes' metrics tell from others."""
        self._names[name if name in KNOWN_NAMES else "email_id"] += 1

    def collect(self) -> Iterable[Metric]:
        found = dict(self._measured)
        if self.at_once:
            quick = self._samples.scaled_to(self.at_once)
            found[SUCCESS] = quick.plus(found[SUCCESS]) if SUCCESS in found else quick
        attempts = CounterMetricFamily("authentication_attempts", "Counter of authenticated attempts.", labels=("result",))
        text = "Authentication duration in seconds broken out by result."
        seconds = HistogramMetricFamily("authentication_duration_seconds", text, labels=("result",))
        for result, durations in found.items():
            attempts.add_metric((result,), durations.count)
            durations.add_to(seconds, (result,))
        text = "Counter of authenticated requests broken out by username."
        users = CounterMetricFamily("authenticated_user_requests", text, labels=("username",))
        for name, count in self._names.items():
            users.add_metric((name,), count)
        if SUCCESS in found and (others := found[SUCCESS].count - self._names.total()):
            users.add_metric(("other",), others)
        yield from (users, attempts, seconds)
        for cache in self.token_caches:
            yield from cache.collect()

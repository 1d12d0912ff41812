"""PodSecurity's metrics, by Kubernetes' names. Imitates k8s.io/pod-security-admission/metrics.

Counted in plain dicts, since every new pod counts; the metrics are made of them when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from .policy import LATEST, Standard

CURRENT = 36
"""The N of v1.N that this server is."""
KINDS = {"pods": "pod", "namespaces": "namespace"}
"""Everything else is a `controller`."""
_REQUEST = ("request_operation", "resource", "subresource")
_POLICY = ("decision", "policy_level", "policy_version", "mode")

Request = tuple[str, str, str]
"""Operation, plural and subresource."""


class PodSecurityMetrics(Collector):
    """Registered once; counts from its making on."""

    def __init__(self) -> None:
        self.evaluations: Counter[tuple[str, Standard, str, Request]] = Counter()
        """By decision (allow or deny), standard, mode and request."""
        self.exemptions: Counter[Request] = Counter()
        self.errors: Counter[Request] = Counter()
        """Labels that could not be understood; what they were taken for was evaluated."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        evaluations = CounterMetricFamily(
            "pod_security_evaluations", "Policy evaluations, without exempt requests.", labels=(*_POLICY, *_REQUEST)
        )
        for (decision, standard, mode, request), count in self.evaluations.items():
            evaluations.add_metric((decision, standard.level, _version(standard), mode, *_labels(request)), count)
        exemptions = CounterMetricFamily("pod_security_exemptions", "Exempt requests.", labels=_REQUEST)
        for request, count in self.exemptions.items():
            exemptions.add_metric(_labels(request), count)
        errors = CounterMetricFamily(
            "pod_security_errors", "Errors that prevented a normal evaluation.", labels=("fatal", *_REQUEST)
        )
        for request, count in self.errors.items():
            errors.add_metric(("false", *_labels(request)), count)
        yield from (evaluations, exemptions, errors)


def _version(standard: Standard) -> str:
    if standard.version == LATEST:
        return "latest"
    return "future" if standard.version > CURRENT else f"v1.{standard.version}"


def _labels(request: Request) -> tuple[str, str, str]:
    operation, plural, subresource = request
    return operation.lower(), KINDS.get(plural, "controller"), subresource

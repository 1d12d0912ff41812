"""Who uses what is deprecated is told so in a warning; it is counted, and noted in the audit event."""

from __future__ import annotations

from ..http.metrics import RequestMetrics
from ..http.request import Request

BUILTIN: dict[tuple[str, str, str], str] = {
    ("", "v1", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}
"""(group, version, resource) → the warning. No release is set that will not have them."""


def note(request: Request, warning: str, metrics: RequestMetrics | None) -> None:
    """A request uses something deprecated."""
    request.warn(warning)
    request.annotate("k8s.io/deprecated", "true")
    if metrics is not None:
        metrics.deprecated_requested(request)

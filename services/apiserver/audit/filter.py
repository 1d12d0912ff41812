"""The audit filter, behind authentication, and what is told of requests that fail there.

Imitates apiserver/pkg/endpoints/filters (audit.go, authn_audit.go).
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..authn.user import User
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer, error_response
from .backends import Backend
from .encoding import Stamps
from .events import Record
from .policy import COMPLETE, NONE, PANIC, RECEIVED, STARTED, Policy, Verdict

UNKNOWN = User("")


class Auditor(Collector):
    """Policy and backends of one server; a Prometheus collector."""

    def __init__(self, policy: Policy, backends: Sequence[Backend], clock: Clock) -> None:
        self.policy = policy
        self.backends = backends
        self.clock = clock
        self._stamps = Stamps()
        self._events = 0
        self._levels: dict[str, int] = {}

    def begin(self, request: Request) -> Record | None:
        """The record of an authenticated request; None if the policy does not want it."""
        verdict = request.alike.level
        if verdict is None:
            verdict = self.policy.of(request.user, request.verb, request.info)
            if not self.policy.looks_at_names:
                request.alike.level = verdict
        return self._record(request, verdict)

    def _record(self, request: Request, verdict: Verdict) -> Record | None:
        self._levels[verdict.level] = self._levels.get(verdict.level, 0) + 1
        return None if verdict.level == NONE else Record(request, verdict, self._stamps.of(self.clock.now()))

    def emit(self, request: Request, record: Record, stage: str, answer: Answer | None = None, status: Object | None = None) -> None:
        """One event, unless the policy leaves the stage out."""
        if stage in record.verdict.omitted:
            return
        self._events += 1
        now = record.received if stage == RECEIVED else self._stamps.of(self.clock.now())
        event = record.event(request, stage, now, answer, status)
        for backend in self.backends:
            backend.add(event)

    def refused(self, request: Request) -> None:
        """A request that nobody stands behind leaves an event as well."""
        request.user = UNKNOWN
        record = self._record(request, self.policy.of(UNKNOWN, request.verb, request.info))
        if record is None:
            return
        text = "Authentication failed, no credentials provided"
        if request.headers.get("Authorization"):
            text = "Authentication failed, attempted: bearer"
        status: Object = {"metadata": {}, "status": "Failure", "message": text, "reason": "Unauthorized", "code": 401}
        self.emit(request, record, STARTED, status=status)

    def collect(self) -> list[Metric]:
        events = CounterMetricFamily("apiserver_audit_event", "Counter of audit events generated and sent to the audit backend.")
        events.add_metric((), self._events)
        text = "Counter of policy levels for audit events (1 per request)."
        levels = CounterMetricFamily("apiserver_audit_level", text, labels=("level",))
        for level, count in self._levels.items():
            levels.add_metric((level,), count)
        text = "Counter of audit events that failed to be audited properly."
        lost = CounterMetricFamily("apiserver_audit_error", text, labels=("plugin",))
        for backend in self.backends:
            lost.add_metric((backend.name,), backend.dropped)
        return [events, levels, lost]


def with_audit(auditor: Auditor) -> Filter:
    """Records every request that the policy wants; failures are answered here, so that the event has the Status."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            record = request.audit = auditor.begin(request)
            if record is None:
                return await inner(request)
            auditor.emit(request, record, RECEIVED)
            if request.alike.is_long_running:
                request.on_response_started = lambda: auditor.emit(request, record, STARTED, status={"metadata": {}, "code": 200})
            try:
                answer = await inner(request)
            except ApiError as error:
                answer = error_response(error)
            except ConnectionError:
                auditor.emit(request, record, COMPLETE, status={"metadata": {}, "code": 0})
                raise
            except Exception as error:
                text = f"APIServer panic'd: {type(error).__name__}: {error}"
                status: Object = {"metadata": {}, "status": "Failure", "message": text, "reason": "InternalError", "code": 500}
                auditor.emit(request, record, PANIC, status=status)
                raise
            auditor.emit(request, record, COMPLETE, answer)
            return answer

        return handle

    return wrap



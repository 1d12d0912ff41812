"""The audit filter, behind authentication, and what is told of requests that fail there.

Imitates apiserver/pkg/endpoints/filters (audit.go, authn_audit.go).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..authn.user import User
from ..http.handler import Filter, Handler
from ..http.request import Request
from ..http.response import Answer, error_response, text_response
from .backends import Backend, NotRecorded, settle
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
        self._events = self._rejected = 0
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

    def emit(
        self, request: Request, record: Record, stage: str, answer: Answer | None = None, status: Object | None = None
    ) -> Sequence[Awaitable[None]]:
        """One event, unless the policy leaves the stage out; answers what the request must wait for. Raises NotRecorded when it begins."""
        if stage in record.verdict.omitted:
            return ()
        self._events += 1
        now = record.received if stage == RECEIVED else self._stamps.of(self.clock.now())
        event = record.event(request, stage, now, answer, status)
        waits: tuple[Awaitable[None], ...] = ()
        for backend in self.backends:
            try:
                pending = backend.add(event)
            except NotRecorded:
                if stage == RECEIVED:
                    raise
                continue
            if pending is not None:
                waits = (*waits, pending)
        return waits

    def reject(self, request: Request) -> Answer:
        """The answer to a request that must not go on unrecorded."""
        self._rejected += 1
        return text_response(500, f'Internal Server Error: "{request.message.path}": failed to store audit event\n')

    async def refused(self, request: Request) -> None:
        """A request that nobody stands behind leaves an event as well."""
        request.user = UNKNOWN
        record = self._record(request, self.policy.of(UNKNOWN, request.verb, request.info))
        if record is None:
            return
        text = "Authentication failed, no credentials provided"
        if request.headers.get("Authorization"):
            text = "Authentication failed, attempted: bearer"
        status: Object = {"metadata": {}, "status": "Failure", "message": text, "reason": "Unauthorized", "code": 401}
        await settle(self.emit(request, record, STARTED, status=status))

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
        text = "Counter of apiserver requests rejected due to an error in audit logging backend."
        rejected = CounterMetricFamily("apiserver_audit_requests_rejected", text, value=self._rejected)
        return [events, levels, lost, rejected]


CLOSED_EARLY: Object = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
"""The status of a request whose client was gone before it had an answer."""


def code_status(code: int) -> Object:
    return {"metadata": {}, "code": code}


class Start:
    """Tells of a long-running request that its answer has begun: once, when its head is sent, or at its end."""

    def __init__(self, emit: Callable[[Object], Sequence[Awaitable[None]]]) -> None:
        self._emit = emit
        self._waits: Sequence[Awaitable[None]] = ()
        self.status = CLOSED_EARLY
        """What has been answered so far."""

    def begin(self, code: int) -> None:
        """The head is sent; whoever must wait for the event does so at the end."""
        if self.status is CLOSED_EARLY:
            self.status = code_status(code)
            self._waits = self._emit(self.status)

    def end(self, status: Object) -> Sequence[Awaitable[None]]:
        """What is left to wait for, once there is nothing more to answer."""
        return self._emit(status) if self.status is CLOSED_EARLY else self._waits


def begin_long(auditor: Auditor, request: Request, record: Record) -> Start:
    start = Start(lambda status: auditor.emit(request, record, STARTED, status=status))
    request.on_response_started = start.begin
    return start


def with_audit(auditor: Auditor) -> Filter:
    """Records every request that the policy wants; failures are answered here, so that the event has the Status."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            record = request.audit = auditor.begin(request)
            if record is None:
                return await inner(request)
            try:
                for pending in auditor.emit(request, record, RECEIVED):
                    await pending
            except NotRecorded:
                return auditor.reject(request)
            started = begin_long(auditor, request, record) if request.alike.is_long_running else None
            try:
                answer = await inner(request)
            except ApiError as error:
                answer = error_response(error)
            except (ConnectionError, asyncio.CancelledError):  # the client is gone
                status = CLOSED_EARLY if started is None else started.status
                waits = started.end(CLOSED_EARLY) if started is not None else ()
                await settle((*waits, *auditor.emit(request, record, COMPLETE, status=status)))
                raise
            except Exception as error:
                text = f"APIServer panic'd: {type(error).__name__}: {error}"
                status = {"metadata": {}, "status": "Failure", "message": text, "reason": "InternalError", "code": 500}
                await settle(auditor.emit(request, record, PANIC, status=status))
                raise
            if started is not None:
                await settle(started.end(code_status(answer.status)))
            if waits := auditor.emit(request, record, COMPLETE, answer):
                await settle(waits)
            return answer

        return handle

    return wrap

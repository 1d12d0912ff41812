"""The priority and fairness filter. Imitates apiserver/pkg/server/filters/priority-and-fairness.go."""

from __future__ import annotations

from ..http.handler import Filter, Handler
from ..http.limits import TOO_MANY
from ..http.metrics import RequestMetrics
from ..http.request import Request
from ..http.response import Answer, text_response
from .controller import FlowController
from .dispatcher import Rejected
from .flows import Flow
from .queues import Ticket
from .work import ONE, Work, estimate, sends_objects


def with_priority_and_fairness(control: FlowController, metrics: RequestMetrics) -> Filter:
    """Every request belongs to a flow; those of limited levels wait for their seats. 429 when there is no room."""
    entrance, dispatcher, now, flow_of = Entrance(control, metrics), control.dispatcher, control.now, control.flow_of
    caches = control.caches

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            alike = request.alike
            if alike.is_long_running:
                return await entrance.stream(inner, request)
            flow = flow_of(request)
            request.extra_head = flow.head
            if flow.exempt:
                stats = flow.stats
                stats.executing += 1
                started = now()
                try:
                    return await inner(request)
                finally:
                    stats.executing -= 1
                    stats.took(now() - started)
            work = ONE if alike.takes_one_seat else estimate(request, flow.level, caches)
            if work is ONE and dispatcher.begin(flow, started := now()):
                try:
                    return await inner(request)
                finally:
                    dispatcher.end(flow, started, now(), learn=alike.is_read_only)
            ticket = await entrance.pass_through(flow, request, work)
            if ticket is None:
                return entrance.reject(flow, request)
            try:
                return await inner(request)
            finally:
                dispatcher.leave(ticket, now(), learn=alike.is_read_only)

        return handle

    return wrap


class Entrance:
    """Where requests of limited levels get their seats."""

    def __init__(self, control: FlowController, metrics: RequestMetrics) -> None:
        self._control = control
        self._metrics = metrics

    async def pass_through(self, flow: Flow, request: Request, work: Work) -> Ticket | None:
        """The request's ticket, once it may start; None if there is no room."""
        dispatcher = self._control.dispatcher
        seats, final_seats, linger_seconds = work
        ticket = Ticket(flow, request, seats, final_seats, linger_seconds, self._control.now())
        try:
            dispatcher.enter(ticket, ticket.arrived)
            if ticket.turn is not None:
                await dispatcher.wait(ticket)
                request.waited_for(self._control.now() - ticket.arrived)
        except Rejected:
            return None
        return ticket

    def reject(self, flow: Flow, request: Request) -> Answer:
        self._metrics.terminated(request)
        return text_response(429, TOO_MANY + "\n", (("Retry-After", str(self._control.retry_after(flow.level))),))

    async def stream(self, inner: Handler, request: Request) -> Answer:
        """Watches take seats while they begin; streams to kubelets take none."""
        self._metrics.long_running_started(request)
        try:
            return await (self._watch(inner, request) if request.verb == "watch" else inner(request))
        finally:
            self._metrics.long_running_ended(request)

    async def _watch(self, inner: Handler, request: Request) -> Answer:
        control = self._control
        flow = control.flow_of(request)
        request.extra_head = flow.head
        if flow.exempt or not sends_objects(request):
            return await inner(request)
        ticket = await self.pass_through(flow, request, estimate(request, flow.level, control.caches))
        if ticket is None:
            return self.reject(flow, request)
        request.on_initialized = lambda: control.dispatcher.leave(ticket, control.now(), learn=False, watches=True)
        try:
            return await inner(request)
        finally:
            request.initialized()

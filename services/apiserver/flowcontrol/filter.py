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
from .work import estimate, sends_objects


def with_priority_and_fairness(control: FlowController, metrics: RequestMetrics) -> Filter:
    """Every request belongs to a flow; those of limited levels wait for their seats. 429 when there is no room."""
    dispatcher, now, caches = control.dispatcher, control.now, control.caches

    def flow_of(request: Request) -> Flow:
        alike = request.alike
        flow = alike.flow
        if flow is None or alike.flow_epoch != control.epoch:
            flow = alike.flow = control.flow_of(request)
            alike.flow_epoch = control.epoch
        return flow

    def enter(flow: Flow, request: Request) -> Ticket:
        """Raises Rejected."""
        seats, final_seats, linger_seconds = estimate(request, flow.level, caches)
        ticket = Ticket(flow, request, seats, final_seats, linger_seconds, now())
        dispatcher.enter(ticket, ticket.arrived)
        return ticket

    def reject(flow: Flow) -> Answer:
        return text_response(429, TOO_MANY + "\n", (("Retry-After", str(control.retry_after(flow.level))),))

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            alike = request.alike
            if alike.is_long_running:
                return await stream(inner, request)
            flow = flow_of(request)
            request.extra_head = flow.head
            if flow.exempt:
                stats = flow.stats
                stats.executing += 1
                try:
                    return await inner(request)
                finally:
                    stats.executing -= 1
                    stats.dispatched += 1
            if alike.takes_one_seat and dispatcher.begin(flow, started := now()):
                try:
                    return await inner(request)
                finally:
                    dispatcher.end(flow, started, now())
            try:
                ticket = enter(flow, request)
                if ticket.turn is not None:
                    await dispatcher.wait(ticket)
            except Rejected:
                return reject(flow)
            try:
                return await inner(request)
            finally:
                dispatcher.leave(ticket, now(), learn=alike.is_read_only)

        return handle

    async def stream(inner: Handler, request: Request) -> Answer:
        """Watches take seats while they begin; streams to kubelets take none."""
        metrics.long_running_started(request)
        try:
            if request.verb != "watch":
                return await inner(request)
            flow = flow_of(request)
            request.extra_head = flow.head
            if flow.exempt or not sends_objects(request):
                return await inner(request)
            try:
                ticket = enter(flow, request)
                if ticket.turn is not None:
                    await dispatcher.wait(ticket)
            except Rejected:
                return reject(flow)
            request.on_initialized = lambda: dispatcher.leave(ticket, now(), learn=False)
            try:
                return await inner(request)
            finally:
                request.initialized()
        finally:
            metrics.long_running_ended(request)

    return wrap

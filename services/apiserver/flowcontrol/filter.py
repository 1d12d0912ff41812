"""The priority and fairness filter. Imitates apiserver/pkg/server/filters/priority-and-fairness.go."""

from __future__ import annotations

from ..http.handler import Filter, Handler
from ..http.limits import READ_ONLY_VERBS, TOO_MANY, is_long_running
from ..http.metrics import RequestMetrics
from ..http.request import Request
from ..http.response import Answer, text_response
from .controller import FlowController
from .dispatcher import Rejected
from .queues import Ticket
from .work import estimate, sends_objects


def with_priority_and_fairness(control: FlowController, metrics: RequestMetrics) -> Filter:
    """Every request belongs to a flow; those of limited levels wait for their seats. 429 when there is no room."""
    dispatcher = control.dispatcher

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if is_long_running(request):
                return await stream(inner, request)
            flow = control.flow_of(request)
            request.extra_head = flow.head
            if not flow.level.exempt:
                return await limited(inner, request)
            stats = flow.stats
            stats.executing += 1
            try:
                return await inner(request)
            finally:
                stats.executing -= 1
                stats.dispatched += 1

        return handle

    async def limited(inner: Handler, request: Request) -> Answer:
        try:
            ticket = await start(request)
        except Rejected:
            return reject(request)
        try:
            return await inner(request)
        finally:
            dispatcher.leave(ticket, control.now(), learn=request.verb in READ_ONLY_VERBS)

    async def start(request: Request) -> Ticket:
        """Raises Rejected."""
        flow = control.flow_of(request)
        seats, final_seats, linger_seconds = estimate(request, flow.level, control.caches)
        ticket = Ticket(flow, request, seats, final_seats, linger_seconds, control.now())
        dispatcher.enter(ticket, ticket.arrived)
        if ticket.turn is not None:
            await dispatcher.wait(ticket)
        return ticket

    def reject(request: Request) -> Answer:
        seconds = control.retry_after(control.flow_of(request).level)
        return text_response(429, TOO_MANY + "\n", (("Retry-After", str(seconds)),))

    async def stream(inner: Handler, request: Request) -> Answer:
        """Watches take seats while they begin; streams to kubelets take none."""
        metrics.long_running_started(request)
        ticket = None
        try:
            if request.verb == "watch":
                flow = control.flow_of(request)
                request.extra_head = flow.head
                if not flow.level.exempt and sends_objects(request):
                    try:
                        ticket = await start(request)
                    except Rejected:
                        return reject(request)
                    request.on_initialized = lambda: dispatcher.leave(ticket, control.now(), learn=False)
            return await inner(request)
        finally:
            if ticket is not None:
                request.initialized()
            metrics.long_running_ended(request)

    return wrap

"""The filters of a request, outermost first. Reading order is execution order.

    request_info     what the path means, the request's id (Audit-Id)
    metrics          counts and times
    errors           failures become Status objects
    authentication   who is asking
    impersonation    on whose behalf, if he may
    timeout          a request that is not long-running ends within --request-timeout
    flow control     who waits for a seat and a turn, and who is turned away (priority and fairness, or max in flight)
    authorization    whether he may

With an audit policy, audit stands behind authentication (which tells it of those who fail there). Admission is part of the REST verbs.

What the filters find out about a request is kept for all that are alike (`alike.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from .handler import Filter, Handler


def build_chain(filters: Sequence[Filter], innermost: Handler) -> Handler:
    """One handler out of ordered filters around the innermost one."""
    handler = innermost
    for wrap in reversed(filters):
        handler = wrap(handler)
    return handler

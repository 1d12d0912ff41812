"""The filters of a request, outermost first. Reading order is execution order.

    request_info     what the path means, the request's id (Audit-Id)
    metrics          counts and times
    errors           failures become Status objects
    authentication   who is asking
    impersonation    on whose behalf, if he may
    timeout          a request that is not long-running ends within --request-timeout
    max_in_flight    too many at once wait, far too many are turned away (priority and fairness will take this place)
    authorization    whether he may

Audit belongs behind authentication, admission is part of the REST verbs.
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

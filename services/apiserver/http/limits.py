"""Two filters that protect the server: a bound on requests at once, and on how long one may take. Long-running requests are exempt."""

from __future__ import annotations

import asyncio

from kubecosm.api.errors import Timeout, TooManyRequests

from .handler import Filter, Handler
from .metrics import RequestMetrics
from .request import Request
from .response import Answer

READ_ONLY_VERBS = frozenset(("get", "list", "watch", "head", "options"))
LONG_RUNNING_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
TOO_MANY = "Too many requests, please try again later."
RETRY_AFTER_SECONDS = 1


def is_long_running(request: Request) -> bool:
    """Watches, and streams to kubelets (genericfilters.BasicLongRunningRequestCheck)."""
    return request.verb == "watch" or (request.info.is_resource and request.info.subresource in LONG_RUNNING_SUBRESOURCES)


def with_max_in_flight(metrics: RequestMetrics, read_only_max: int, mutating_max: int) -> Filter:
    """429 beyond so many requests at once (0: no bound)."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if is_long_running(request):
                metrics.long_running_started(request)
                try:
                    return await inner(request)
                finally:
                    metrics.long_running_ended(request)
            if request.verb in READ_ONLY_VERBS:
                if metrics.read_only_in_flight >= read_only_max > 0:
                    raise TooManyRequests(TOO_MANY, retry_after_seconds=RETRY_AFTER_SECONDS)
                metrics.read_only_in_flight += 1
                try:
                    return await inner(request)
                finally:
                    metrics.read_only_in_flight -= 1
            if metrics.mutating_in_flight >= mutating_max > 0:
                raise TooManyRequests(TOO_MANY, retry_after_seconds=RETRY_AFTER_SECONDS)
            metrics.mutating_in_flight += 1
            try:
                return await inner(request)
            finally:
                metrics.mutating_in_flight -= 1

        return handle

    return wrap


def with_timeout(seconds: float) -> Filter:
    """504 when a request that waits for something takes too long. Reads are served from memory without waiting and need no timer."""

    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            if request.method in ("GET", "HEAD") or is_long_running(request):
                return await inner(request)
            try:
                async with asyncio.timeout(seconds):
                    return await inner(request)
            except TimeoutError:
                raise Timeout(
                    f"Timeout: request did not complete within the allotted timeout of {seconds:g}s", retry_after_seconds=None
                ) from None

        return handle

    return wrap

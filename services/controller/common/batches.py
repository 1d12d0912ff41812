"""Many API calls at once, and slow-start batches: an error that hits every call is met by one call, not by a thousand.

Imitates slowStartBatch of pkg/controller/replicaset: 1, 2, 4, … calls; a batch with an error ends the series.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from kubecosm.api.errors import ApiError
from kubecosm.api.resources import Object
from kubecosm.client.http import TRANSPORT_ERRORS

T = TypeVar("T")

CALL_ERRORS = (ApiError, *TRANSPORT_ERRORS)
"""Every expected failure of a call."""

SLOW_START_INITIAL_BATCH_SIZE = 1
CALLS_IN_FLIGHT_MAX = 256
"""Bound of one batch's concurrency; the client's connection pool bounds it further."""


async def settled(call: Awaitable[T]) -> T | Exception:
    """The call's result, or the API or transport error it ended with."""
    try:
        return await call
    except CALL_ERRORS as error:
        return error


async def all_settled(calls: Iterable[Awaitable[T]]) -> list[T | Exception]:
    """Run all calls concurrently; every one runs to its end, none cancels its siblings."""
    limit = asyncio.Semaphore(CALLS_IN_FLIGHT_MAX)

    async def bounded(call: Awaitable[T]) -> T | Exception:
        async with limit:
            return await settled(call)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bounded(call)) for call in calls]
    return [task.result() for task in tasks]


def raise_first(results: Sequence[object]) -> None:
    """Raise the first error among the results, if any."""
    for result in results:
        if isinstance(result, Exception):
            raise result


def errors_of(results: Sequence[object]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]


async def slow_start(items: Sequence[T], call: Callable[[T], Awaitable[Object]]) -> tuple[list[Object], list[Exception]]:
    """`call` every item in batches of 1, 2, 4, …; returns what succeeded and the errors of the batch that ended the series."""
    done: list[Object] = []
    position, size = 0, SLOW_START_INITIAL_BATCH_SIZE
    while position < len(items):
        results = await all_settled([call(item) for item in items[position : position + size]])
        done += [result for result in results if not isinstance(result, Exception)]
        if errors := errors_of(results):
            return done, errors
        position += size
        size *= 2
    return done, []

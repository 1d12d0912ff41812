"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING

import orjson

from kubecosm.api.resources import Object, Resource
from kubecosm.client.backoff import Backoff
from kubecosm.client.http import ApiClient
from kubecosm.client.informer import WATCH_FAILURES
from kubecosm.client.watcher import Apply, Delete, Init, InitApply, InitDone, Watcher

if TYPE_CHECKING:
    from kubecosm.runtime.clock import Clock

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.01

Condition = Callable[[Object | None], bool]
"""Judges an object; None means that there is none."""


async def wait_for_condition(
    client: ApiClient, resource: Resource, name: str, condition: Condition, namespace: str | None = None, *,
    timeout_seconds: float = WAIT_SECONDS, clock: Clock | None = None,
) -> Object | None:  # fmt: skip
    """Watch one object until `condition` holds and return it then; restarts of the server are survived.

    Raises AssertionError with the object's last state after `timeout_seconds` of the loop's time.
    """
    clock, random, found = clock or client.clock, Random(0), None
    watcher = Watcher(client, resource, clock=clock, random=random, namespace=namespace, field_selector=f"metadata.name={name}")
    backoff = Backoff(random)
    try:
        async with asyncio.timeout(timeout_seconds), aclosing(watcher):
            while True:
                try:
                    events = await watcher.step()
                except WATCH_FAILURES:
                    await clock.sleep(backoff.next_seconds())
                    continue
                for event in events:
                    match event:
                        case InitApply(obj) | Apply(obj):
                            found = obj
                        case Delete() | Init():
                            found = None
                    if isinstance(event, Apply | Delete | InitDone) and condition(found):
                        return found
    except TimeoutError:
        state = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
        where = f"{namespace}/{name}" if namespace else name
        raise AssertionError(f"{resource.kind} {where} did not reach the condition in {timeout_seconds} s; it is: {state}") from None


async def wait_until(condition: Callable[[], bool], *, timeout_seconds: float = WAIT_SECONDS, what: str = "") -> None:
    """Return when `condition()` holds; looks every 10 ms at first, later every twentieth of the time waited.

    Time is the loop's. Raises AssertionError when it never holds.
    """
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout_seconds):
            while not condition():  # nothing tells when an arbitrary condition changes
                waited = asyncio.get_running_loop().time() - started
                await asyncio.sleep(max(POLL_SECONDS, waited / 20))
    except TimeoutError:
        raise AssertionError(f"not so after {timeout_seconds} s: {what or condition}") from None

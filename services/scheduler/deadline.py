"""Waiting with a limit that follows the cluster's clock, where asyncio.timeout follows the event loop's; durations as Go writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from kubecosm.runtime.clock import Clock


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` for so many cluster seconds at most; whether it came to its end. What it raises comes out as an exception group."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work, name="work")
        alarm = tasks.create_task(_ring(clock, seconds, working), name="deadline")
        working.add_done_callback(lambda _: alarm.cancel())
    return not working.cancelled()


async def _ring(clock: Clock, seconds: float, working: asyncio.Task[None]) -> None:
    await clock.sleep(seconds)
    working.cancel()


def go_duration(seconds: float) -> str:
    """`1m30s`, `500ms`: how Go prints a time.Duration of a millisecond or more."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(round(seconds, 9), 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{round(rest, 9):.9g}s"

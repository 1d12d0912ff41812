"""Time as a dependency. No component reads the wall clock: it is handed a Clock, and all API timestamps come from it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What components know of time."""

    def now(self) -> datetime:
        """The cluster's wall-clock time, UTC, aware."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for so many cluster seconds."""


class RealClock:
    """The machine's own time. Under a virtual-time event loop `monotonic` and `sleep` follow the loop."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  this is where the clock is read

    monotonic = staticmethod(time.monotonic)  # noqa: TID251  this is where the clock is read; itself, as every request asks ten times

    async def sleep(self, seconds: float) -> None:
        import asyncio  # imported here: the command line needs the time but no event loop, which costs 40 ms

        await asyncio.sleep(seconds)

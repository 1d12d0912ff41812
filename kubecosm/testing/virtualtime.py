"""Virtual time: an event loop whose clock jumps over every wait, so hours of timers pass in milliseconds.

`run_virtual(main())` runs a coroutine like asyncio.run. Real sockets of the same process work (an aiohttp server and its client): before
a jump the loop gives loopback traffic a moment of real time to arrive. It does not see threads or other processes: what waits for those
needs real time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

LOOPBACK_GRACE_SECONDS = 0.002
"""Real time that loopback traffic is given to arrive before time jumps."""
EPOCH = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""Where virtual clocks begin."""


class _JumpingSelector(selectors.BaseSelector):
    """Waits for I/O a moment of real time only, then lets the rest of the wait pass in virtual time."""

    def __init__(self, grace_seconds: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._grace_seconds = grace_seconds
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._selector.select(0)
        ready = self._selector.select(None if timeout is None else self._grace_seconds)
        if not ready and timeout is not None:
            self.elapsed += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and moves only when everything waits."""

    def __init__(self, grace_seconds: float = LOOPBACK_GRACE_SECONDS) -> None:
        self._jumping = _JumpingSelector(grace_seconds)
        super().__init__(self._jumping)
        # Half a year in, a float of seconds is coarser than a nanosecond: a timer due exactly now would never count as due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumping.elapsed


class VirtualClock:
    """A Clock that follows the running loop: exact under `run_virtual`, and usable on a real loop too."""

    def __init__(self, epoch: datetime = EPOCH) -> None:
        self.epoch = epoch

    def now(self) -> datetime:
        return self.epoch + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:  # built before the loop runs
            return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A Clock that moves only when told to: for pure functions and for tests that step through time themselves."""

    def __init__(self, epoch: datetime = EPOCH) -> None:
        self.epoch = epoch
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.epoch + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, waiter))
        await waiter

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; sleepers whose time has come wake up, in order."""
        self._elapsed += seconds
        due = sorted((s for s in self._sleepers if s[0] <= self._elapsed), key=lambda s: s[0])
        self._sleepers = [s for s in self._sleepers if s[0] > self._elapsed]
        for _, waiter in due:
            if not waiter.done():
                waiter.set_result(None)


def run_virtual(main: Coroutine[Any, Any, T], *, grace_seconds: float = LOOPBACK_GRACE_SECONDS) -> T:
    """Run `main` to its end on a virtual-time loop; like asyncio.run it cancels what is left over.

    `grace_seconds` 0 suits tests without sockets: then a jump costs nothing at all.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(grace_seconds)) as runner:
        return runner.run(main)

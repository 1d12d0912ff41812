"""A thread for what would hold the event loop: rules and expressions whose evaluation turns out to take long.

They are begun on the loop, as most are done in microseconds, and raise `TooLong` when their patience is spent; then they are run again
here, while the loop goes on. One at a time: Python runs one thread at once, and the loop should have its half.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from .storage.worker import ThreadWorker, run_on

T = TypeVar("T")
PATIENCE = 20_000
"""Units of CEL's cost that may be spent on the loop at a stretch: some 20 ms at worst."""
SWITCH_SECONDS = 0.0005
"""How soon the loop gets the interpreter back when it wants it (Python's own: 5 ms)."""


class TooLong(Exception):
    """The patience is spent, and the work is not done."""


class Laborious(Exception):
    """An object cannot be checked on the loop: `work` is to be done aside, `keep` told what it gave, and the check made again at once."""

    def __init__(self, work: Callable[[], Any], keep: Callable[[Any], None]) -> None:
        super().__init__("takes too long for the event loop")
        self.work, self.keep = work, keep


class Aside:
    """The thread is started when it is first needed, and ends with the process."""

    def __init__(self) -> None:
        self._worker: ThreadWorker | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises. It goes on if nobody waits any more. Raises StorageError if too much is waiting."""
        if self._worker is None:
            self._worker = ThreadWorker("aside")
        return await run_on(self._worker, lambda: _yielding(work))

    async def settle(self, labor: Laborious) -> None:
        """Do the work of a check that is then made again, before anything else."""
        labor.keep(await self.run(labor.work))


def _yielding(work: Callable[[], T]) -> T:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        return work()
    finally:
        sys.setswitchinterval(usual)

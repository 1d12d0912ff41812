"""When Python looks for cycles: after a burst, not in it.

Nearly all our memory is decoded JSON, which has no cycles and is freed by its reference counts. The collector cannot know that: with its
usual thresholds a process that follows a watch spends five times as long collecting as decoding, with higher ones still a seventh of a
burst. So collections wait until nothing much is allocated any more; a threshold stays as the bound of what cycles may hold until then.
"""

from __future__ import annotations

import asyncio
import gc

THRESHOLDS = (1_000_000, 5, 100)
"""Containers allocated between collections of each generation, should it never become quiet: the first bounds the garbage of cycles."""
CHECK_SECONDS = 5.0
YOUNG_MIN = 20_000
"""Fewer new containers than this are not worth a collection."""
GROWTH_MAX = 5_000
"""More new containers than this between two checks mean that work is under way."""


def is_due(young: int, before: int) -> bool:
    """Whether to collect now, from the containers allocated since the last collection, now and at the last check."""
    return young >= YOUNG_MIN and young - before <= GROWTH_MAX


class QuietCollector:
    """Collects the younger generations of this process whenever it has become quiet. Lives as long as the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._before = 0

    def start(self) -> None:
        gc.set_threshold(*THRESHOLDS)
        self._loop.call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        young = gc.get_count()[0]
        if is_due(young, self._before):
            gc.collect(1)
            young = 0
        self._before = young
        self._loop.call_later(CHECK_SECONDS, self._check)

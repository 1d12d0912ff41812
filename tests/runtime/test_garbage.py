"""Cycles are looked for when a process has become quiet."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from kubecosm.runtime import garbage
from kubecosm.runtime.garbage import GROWTH_MAX, YOUNG_MIN, QuietCollector, is_due


@pytest.mark.parametrize(
    ("young", "before", "due"),
    [
        (YOUNG_MIN - 1, YOUNG_MIN - 1, False),
        (YOUNG_MIN, YOUNG_MIN, True),
        (YOUNG_MIN + GROWTH_MAX + 1, YOUNG_MIN, False),
        (YOUNG_MIN + GROWTH_MAX, YOUNG_MIN, True),
        (YOUNG_MIN, 2 * YOUNG_MIN, True),
    ],
)
def test_a_collection_is_due_when_much_is_new_and_no_more_comes(young: int, before: int, due: bool) -> None:
    assert is_due(young, before) is due


class _Ring:
    def __init__(self) -> None:
        self.itself = self


def test_cycles_left_by_a_burst_are_freed_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds = gc.get_threshold()
    monkeypatch.setattr(garbage, "CHECK_SECONDS", 0.01)

    async def scenario() -> None:
        freed = asyncio.Event()
        QuietCollector(asyncio.get_running_loop()).start()
        weakref.finalize(_Ring(), freed.set)
        burst = [{"number": [number]} for number in range(YOUNG_MIN)]
        async with asyncio.timeout(20):
            await freed.wait()
        assert len(burst) == YOUNG_MIN

    try:
        asyncio.run(scenario())
    finally:
        gc.set_threshold(*thresholds)

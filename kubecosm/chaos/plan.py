"""From a seed to a schedule of faults. Pure: the same seed and settings give the same plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["kill", "pause"]
PAUSE_SHARE = 0.2
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at_seconds` from the start do `action` to `component`; a pause ends after `lasts_seconds`."""

    at_seconds: float
    action: Action
    component: str
    lasts_seconds: float = 0.0


def plan_faults(seed: int, components: Sequence[str], *, count: int, gap_seconds: float, pauses: bool = True) -> list[Fault]:
    """`count` faults, `gap_seconds` apart on average. Every component gets its turn before one is hit again."""
    rng = random.Random(seed)
    faults: list[Fault] = []
    turn: list[str] = []
    moment = 0.0
    for _ in range(count):
        if not turn:
            turn = rng.sample(list(components), len(components))
        moment += gap_seconds * rng.uniform(0.5, 1.5)
        component = turn.pop()
        if pauses and rng.random() < PAUSE_SHARE:
            faults.append(Fault(round(moment, 3), "pause", component, round(rng.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX), 3)))
        else:
            faults.append(Fault(round(moment, 3), "kill", component))
    return faults

"""The score of a replay, and the floor below which it must not fall. Pure, but for reading and writing the floor's file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FLOOR = Path(__file__).with_name("floor.json")
STEP = 0.1
"""Percent between the figures a floor is kept in: what two runs of the same code differ by is smaller."""


@dataclass
class Score:
    """How many answers had the recorded status (`alike`) and were the same throughout (`identical`)."""

    exchanges: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)
    identical: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)

    def add(self, operation: str, *, alike: bool, identical: bool) -> None:
        self.exchanges[operation] += 1
        self.alike[operation] += alike
        self.identical[operation] += identical

    def percent(self) -> dict[str, float]:
        """{"alike": …, "identical": …} of all exchanges, in percent. ValueError when there were none."""
        total = self.exchanges.total()
        if not total:
            raise ValueError("the recording holds no exchange that was asked for")
        return {"alike": 100 * self.alike.total() / total, "identical": 100 * self.identical.total() / total}

    def lines(self) -> list[str]:
        """A table by operation, and the sum."""
        rows = []
        for name, count in sorted(self.exchanges.items()):
            alike, identical = 100 * self.alike[name] / count, 100 * self.identical[name] / count
            rows.append(f"{name:24s} {count:5d} exchanges  status alike {alike:5.1f}%  identical {identical:5.1f}%")
        figures = self.percent()
        total = f"golden: {self.exchanges.total()} exchanges, status alike {figures['alike']:.1f}%, identical {figures['identical']:.1f}%"
        return [*rows, total]


def below(figures: dict[str, float], floor: dict[str, float]) -> list[str]:
    """What to complain of: each figure under its floor."""
    return [f"{name}: {figures[name]:.2f} % is below the floor of {least} %" for name, least in floor.items() if figures[name] < least]


def raised(figures: dict[str, float], floor: dict[str, float]) -> dict[str, float]:
    """The floor after these figures: rounded down to whole steps, and never lower than it was."""
    steps = {name: int(figure / STEP) * STEP for name, figure in figures.items()}
    return {name: max(least, round(steps[name], 1)) for name, least in floor.items()}




def read_floor(path: Path = FLOOR) -> dict[str, float]:
    floor: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return floor


def write_floor(floor: dict[str, float], path: Path = FLOOR) -> None:
    path.write_text(json.dumps(floor, indent=2) + "\n", encoding="utf-8")

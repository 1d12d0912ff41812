"""What was found on each node for one kind of preemptor, in columns, so that hundreds of candidates are compared at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..framework.status import Status
from ..state.columns import BoolArray, IntArray
from .preemption_choice import CRITERIA, Candidate

UNKNOWN = -1
"""Generation of what only holds for the preemptor at hand."""

Found = Candidate | Status
Judged = tuple[Found, int]
"""What was found on a node, and the generation of the node for which that holds for all preemptors of the kind (or UNKNOWN)."""


class Memory:
    """Per row the last judgement, and whether it still holds."""

    def __init__(self, size: int) -> None:
        self.found: list[Found | None] = [None] * size
        self.generations: IntArray = np.full(size, UNKNOWN, np.int64)
        self.possible: BoolArray = np.zeros(size, np.bool_)
        self.figures: IntArray = np.zeros((CRITERIA, size), np.int64)
        """Of candidates: what makes one better than another, the first criterion first."""

    def put(self, row: int, judged: Judged) -> None:
        found, self.generations[row] = judged
        self.found[row] = found
        self.possible[row] = isinstance(found, Candidate)
        if isinstance(found, Candidate):
            self.figures[:, row] = found.figures

    def refusals(self, rows: IntArray) -> list[Status]:
        """Why these nodes are no candidates."""
        return [found for row in rows.tolist() if isinstance(found := self.found[row], Status)]


class Shortlist:
    """Candidates in the order in which they were tried."""

    def __init__(self, memory: Memory, rows: IntArray) -> None:
        self._memory, self._rows = memory, rows

    def __len__(self) -> int:
        return len(self._rows)

    def all(self) -> list[Candidate]:
        return [self._at(row) for row in self._rows.tolist()]

    def best(self) -> Candidate:
        """As `preemption_choice.pick` would choose."""
        rows = self._rows
        for figures in self._memory.figures:
            values = figures[rows]
            rows = rows[values == values.min()]
            if len(rows) == 1:
                break
        return self._at(int(rows[0]))

    def _at(self, row: int) -> Candidate:
        found = self._memory.found[row]
        assert isinstance(found, Candidate), "only candidates are on the list"
        return found


def search(rows: IntArray, enough: int, memory: Memory, holds: BoolArray, judge: Callable[[int], Judged]) -> tuple[Shortlist, IntArray]:
    """Try nodes in the order of `rows` until there are `enough` candidates, one of them without a broken budget (DryRunPreemption).

    `holds`: per row whether the memory may be used. Answers the candidates and the rows that were tried.
    """
    taken: list[IntArray] = []
    count, spares, tried = 0, False, 0
    while tried < len(rows) and not (count >= enough and spares):
        part = rows[tried : tried + enough]
        for row in part[~holds[part]].tolist():
            memory.put(row, judge(row))
        candidates = part[memory.possible[part]]
        taken.append(candidates)
        count, tried = count + len(candidates), tried + len(part)
        spares = spares or bool((memory.figures[0, candidates] == 0).any())
    chosen = np.concatenate(taken)
    if count > enough and spares:
        first = int(np.argmax(memory.figures[0, chosen] == 0))
        chosen = chosen[: max(enough, first + 1)]
    return Shortlist(memory, chosen), rows[:tried]

"""Why each node was refused in one attempt, compactly: one small integer per node row and a table of statuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..state.columns import BoolArray, IntArray
from .interface import Verdict
from .status import Code, Status, fit_message

PASSED = 0


class Diagnosis:
    """Filled by the Filter run; read for messages, preemption, queueing and explanations."""

    def __init__(self, exists: BoolArray, node_names: Sequence[str]) -> None:
        self.exists = exists
        self.node_names = node_names
        self.statuses: list[Status | None] = [None]
        self.of_row: IntArray = np.zeros(len(exists), np.int64)
        """Per row an index into `statuses`; 0 where the node passed (or there is no node)."""
        self.unschedulable_plugins: set[str] = set()
        self.pending_plugins: set[str] = set()
        self.prefilter_message = ""
        self.postfilter_message = ""

    @property
    def node_count(self) -> int:
        return int(np.count_nonzero(self.exists))

    def refuse(self, rows: IntArray, plugin: str, verdict: Verdict) -> None:
        """Note that `plugin` refused these rows."""
        base = len(self.statuses)
        self.statuses += [status.of(plugin) for status in verdict.statuses]
        self.of_row[rows] = base if verdict.codes is None else base + verdict.codes[rows]
        used = (0,) if verdict.codes is None else np.flatnonzero(np.bincount(verdict.codes[rows])).tolist()
        self.add_plugin(plugin, *{verdict.statuses[index].code for index in used})

    def refuse_all(self, status: Status) -> None:
        """PreFilter rejected the pod: every node has this status."""
        self.refuse_rest(self.exists, status)
        self.prefilter_message = status.message
        self.add_plugin(status.plugin, status.code)

    def refuse_rest(self, rows: BoolArray, status: Status) -> None:
        """Give these rows one status that no Filter gave (AbsentNodesStatus)."""
        self.of_row[rows] = len(self.statuses)
        self.statuses.append(status)

    def refuse_row(self, row: int, status: Status) -> None:
        self.of_row[row] = len(self.statuses)
        self.statuses.append(status)
        self.add_plugin(status.plugin, status.code)

    def add_plugin(self, plugin: str, *codes: Code) -> None:
        """Remember who rejected the pod: its events decide when the pod is tried again."""
        for code in codes:
            (self.pending_plugins if code is Code.PENDING else self.unschedulable_plugins).add(plugin)

    def status_of(self, row: int) -> Status | None:
        """Why the node of `row` was refused; None if it passed."""
        return self.statuses[int(self.of_row[row])]

    def rows_with(self, code: Code) -> IntArray:
        """Rows of nodes refused with this code."""
        wanted = np.array([status is not None and status.code is code for status in self.statuses])
        return np.flatnonzero(wanted[self.of_row] & self.exists)

    def reasons(self) -> dict[str, int]:
        """How many nodes gave each reason."""
        counts = np.bincount(self.of_row[self.exists], minlength=len(self.statuses))
        found: dict[str, int] = {}
        for status, count in zip(self.statuses, counts.tolist(), strict=True):
            if status is not None and count:
                for reason in status.reasons:
                    found[reason] = found.get(reason, 0) + count
        return found

    def message(self) -> str:
        """`0/3 nodes are available: …`."""
        return fit_message(self.node_count, self.reasons(), self.prefilter_message, self.postfilter_message)

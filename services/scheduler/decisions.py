"""What the scheduler decided and why, for the last attempts: the answer to "why not there?" (`/debug/scheduling?pod=ns/name`).

Bounded by bytes: with thousands of nodes a decision is tens of kilobytes, so fewer are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubecosm.api.times import format_micro_time

from .algorithm import Outcome
from .framework.status import Status

DECISIONS_BYTES_MAX = 8 * 1024 * 1024
DECISIONS_MAX = 10_000
NODES_SHOWN_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Preemption:
    """Where a pod that fits nowhere was nominated to run, and who has to go for it; both empty if preemption could not help."""

    node: str = ""
    victims: tuple[str, ...] = ()


NO_PREEMPTION = Preemption()


@dataclass(frozen=True, slots=True)
class Decision:
    """The last attempt for one pod, packed."""

    pod: str
    uid: str
    profile: str
    time: datetime
    attempt: int
    node: str
    message: str
    node_names: Sequence[str]
    statuses: Sequence[Status | None]
    of_row: NDArray[np.int16]
    feasible: NDArray[np.int32]
    scores: Sequence[tuple[str, NDArray[np.int16] | int]]
    total: NDArray[np.int32] | None
    preemption: Preemption = NO_PREEMPTION

    @property
    def size_bytes(self) -> int:
        scores = sum(scores.nbytes for _, scores in self.scores if not isinstance(scores, int))
        return 512 + self.of_row.nbytes + self.feasible.nbytes + scores + (self.total.nbytes if self.total is not None else 0)

    def explain(self, nodes_max: int = NODES_SHOWN_MAX) -> dict[str, Any]:
        """As JSON: the result, and per node either the refusal or the scores; the best nodes first."""
        feasible = {int(row): index for index, row in enumerate(self.feasible)}
        nodes = []
        for row, name in enumerate(self.node_names):
            if not name:
                continue
            status = self.statuses[int(self.of_row[row])] if row < len(self.of_row) else None
            if row in feasible:
                nodes.append({"node": name, "result": "feasible", **self._scores_of(feasible[row])})
            elif status is not None:
                nodes.append({"node": name, "result": status.code_name, "plugin": status.plugin, "reasons": list(status.reasons)})
            else:
                nodes.append({"node": name, "result": "not evaluated"})
        nodes.sort(key=lambda node: (node["node"] != self.node, -int(node.get("score", -1)), node["node"]))
        return {
            "pod": self.pod, "uid": self.uid, "schedulerName": self.profile, "time": format_micro_time(self.time), "attempt": self.attempt,
            "result": "Scheduled" if self.node else "Unschedulable", "nodeName": self.node, "message": self.message,
            "feasibleNodes": len(self.feasible), "nodes": nodes[:nodes_max],
            "preemption": {"nodeName": self.preemption.node, "victims": list(self.preemption.victims)} if self.preemption.node else None,
        }  # fmt: skip

    def _scores_of(self, index: int) -> dict[str, Any]:
        if self.total is None:
            return {"score": 0, "scores": {}}
        parts = {plugin: int(scores if isinstance(scores, int) else scores[index]) for plugin, scores in self.scores}
        return {"score": int(self.total[index]), "scores": parts}


class Decisions:
    """The last decision for each of the most recent pods."""

    def __init__(self, bytes_max: int = DECISIONS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._by_pod: OrderedDict[str, Decision] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_pod)

    def get(self, pod: str) -> Decision | None:
        """By `namespace/name`."""
        return self._by_pod.get(pod)

    def record(
        self, pod: str, uid: str, profile: str, time: datetime, attempt: int, outcome: Outcome, message: str, preemption: Preemption,
    ) -> None:  # fmt: skip
        """Keep an outcome; the oldest decisions make room."""
        diagnosis = outcome.diagnosis
        feasible = np.empty(0, np.int32) if outcome.feasible is None else outcome.feasible.astype(np.int32)
        scores = tuple(
            (part.plugin, part.scores if isinstance(part.scores, int) else part.scores.astype(np.int16)) for part in outcome.scores
        )
        total = None if outcome.total is None else outcome.total.astype(np.int32)
        decision = Decision(
            pod, uid, profile, time, attempt, outcome.node, message, diagnosis.node_names, tuple(diagnosis.statuses),
            diagnosis.of_row.astype(np.int16), feasible, scores, total, preemption,
        )  # fmt: skip
        self.forget(pod)
        self._by_pod[pod] = decision
        self._bytes += decision.size_bytes
        while self._bytes > self._bytes_max or len(self._by_pod) > DECISIONS_MAX:
            _, oldest = self._by_pod.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def forget(self, pod: str) -> None:
        decision = self._by_pod.pop(pod, None)
        if decision is not None:
            self._bytes -= decision.size_bytes

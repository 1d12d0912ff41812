"""NodeResourcesBalancedAllocation: prefers nodes whose resources would become more evenly used.

The score is the change that the pod makes: no change gives 75 (Kubernetes 1.36; before, the balance with the pod alone counted).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState
from ..framework.status import SKIP_STATUS, Status
from ..state.columns import BoolArray, FloatArray, IntArray, Rows
from ..state.podinfo import PodInfo
from ..state.requests import CPU, MEMORY, NATIVE


class NodeResourcesBalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def __init__(self, handle: Handle, resources: tuple[str, ...] = (CPU, MEMORY)) -> None:
        self._nodes = handle.cluster.nodes
        self._resources = resources

    def pre_score(self, state: CycleState, pod: PodInfo, rows: Rows) -> Status | None:
        """A pod that asks for none of the resources unbalances nothing."""
        return None if any(pod.requests.get(resource) for resource in self._resources) else SKIP_STATUS

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        asked = [r for r in self._resources if r in NATIVE or pod.requests.get(r)]
        before, after, present = [], [], []
        for resource in asked:
            available = self._nodes.allocatable(resource)[rows].astype(np.float64)
            used = self._nodes.requested(resource)[rows]
            divisor = np.maximum(available, 1.0)
            before.append(np.minimum(used / divisor, 1.0))
            after.append(np.minimum((used + pod.requests.get(resource, 0)) / divisor, 1.0))
            present.append(available > 0)
        with_pod, without_pod = balance(after, present), balance(before, present)
        half = SCORE_MAX // 2
        return half + (half + with_pod - without_pod) // 2


def balance(fractions: Sequence[FloatArray], present: Sequence[BoolArray]) -> IntArray:
    """SCORE_MAX when all used fractions are equal, less by their standard deviation; absent resources do not count."""
    if all(p.all() for p in present):
        if len(fractions) == 2:
            deviation = np.abs(fractions[0] - fractions[1]) / 2
        else:
            deviation = np.std(np.stack(fractions), axis=0)
    else:
        weights = np.stack(present).astype(np.float64)
        counts = np.maximum(weights.sum(axis=0), 1.0)
        stacked = np.stack(fractions)
        mean = (stacked * weights).sum(axis=0) / counts
        deviation = np.sqrt((weights * (stacked - mean) ** 2).sum(axis=0) / counts)
    return ((1 - deviation) * SCORE_MAX).astype(np.int64)

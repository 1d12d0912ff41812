"""ImageLocality: prefers nodes that already hold the pod's images; a large image on few nodes does not draw everything there."""

from __future__ import annotations

import numpy as np

from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState
from ..state.columns import IntArray, Rows
from ..state.podinfo import PodInfo

MEBIBYTE = 1024 * 1024
THRESHOLD_MIN_BYTES = 23 * MEBIBYTE
THRESHOLD_MAX_BYTES = 1000 * MEBIBYTE
"""Per container."""


def normalized_name(image: str) -> str:
    """The image with its default tag (normalizedImageName)."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"


class ImageLocality:
    name = "ImageLocality"

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        if not self._nodes.images:
            return 0
        spec = pod.pod["spec"]
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        held = [on_nodes for c in containers if (on_nodes := self._nodes.images.get(normalized_name(c.get("image") or "")))]
        if not held:
            return 0
        total = np.zeros(self._nodes.size, np.int64)
        for on_nodes in held:
            spread = len(on_nodes) / self._nodes.count
            holders = np.fromiter(on_nodes.keys(), np.intp, len(on_nodes))
            total[holders] += (np.fromiter(on_nodes.values(), np.float64, len(on_nodes)) * spread).astype(np.int64)
        highest = THRESHOLD_MAX_BYTES * len(containers)
        chosen = np.clip(total[rows], THRESHOLD_MIN_BYTES, highest)
        return SCORE_MAX * (chosen - THRESHOLD_MIN_BYTES) // (highest - THRESHOLD_MIN_BYTES)

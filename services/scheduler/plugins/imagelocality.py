"""ImageLocality: prefers nodes that already hold the pod's images; a large image on few nodes does not draw everything there."""

from __future__ import annotations

import numpy as np

from kubecosm.api.resources import Object

from ..framework.handle import Handle
from ..framework.interface import SCORE_MAX, CycleState
from ..state.columns import IntArray, Rows
from ..state.podinfo import PodInfo

MEBIBYTE = 1024 * 1024
THRESHOLD_MIN_BYTES = 23 * MEBIBYTE
THRESHOLD_MAX_BYTES = 1000 * MEBIBYTE
"""Per image."""


def normalized_name(image: str) -> str:
    """The image with its default tag (normalizedImageName)."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"


def images_of(spec: Object) -> list[str]:
    """The image of each container and of each image volume."""
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    volumes = [(volume["image"].get("reference") or "") for volume in spec.get("volumes") or () if volume.get("image")]
    return [(container.get("image") or "") for container in containers] + volumes


class ImageLocality:
    name = "ImageLocality"

    def __init__(self, handle: Handle) -> None:
        self._nodes = handle.cluster.nodes

    def score(self, state: CycleState, pod: PodInfo, rows: Rows) -> IntArray | int:
        if not self._nodes.images:
            return 0
        images = images_of(pod.pod["spec"])
        held = [on_nodes for image in images if (on_nodes := self._nodes.images.get(normalized_name(image)))]
        if not held:
            return 0
        total = np.zeros(self._nodes.size, np.int64)
        for on_nodes in held:
            spread = len(on_nodes) / self._nodes.count
            holders = np.fromiter(on_nodes.keys(), np.intp, len(on_nodes))
            total[holders] += (np.fromiter(on_nodes.values(), np.float64, len(on_nodes)) * spread).astype(np.int64)
        highest = THRESHOLD_MAX_BYTES * len(images)
        chosen = np.clip(total[rows], THRESHOLD_MIN_BYTES, highest)
        return SCORE_MAX * (chosen - THRESHOLD_MIN_BYTES) // (highest - THRESHOLD_MIN_BYTES)

"""PrioritySort: higher priority first, then who waited longest."""

from __future__ import annotations

from ..framework.handle import Handle
from ..queue.podqueue import QueuedPod


class PrioritySort:
    name = "PrioritySort"

    def __init__(self, handle: Handle) -> None:
        pass

    def queue_key(self, pod: QueuedPod) -> tuple[int, float]:
        return -pod.info.priority, pod.timestamp

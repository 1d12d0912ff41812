"""Events of pods, bounded: a burst goes out at once, the rest at a steady rate, so that a thousand starts do not drown the API server.

Rate and burst are the kubelet's --event-qps and --event-burst.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kubecosm.api.resources import PODS, Object
from kubecosm.client.events import EventRecorder
from kubecosm.runtime.clock import Clock

from ..cri.types import ContainerKind
from ..timers import Timers

QUEUED_MAX = 5000
"""Beyond this the oldest Normal events are dropped."""
NORMAL, WARNING = "Normal", "Warning"


class _Pending(NamedTuple):
    pod: Object
    type: str
    reason: str
    message: str
    field_path: str


class PodEvents:
    def __init__(self, recorder: EventRecorder, clock: Clock, timers: Timers, *, qps: float, burst: int) -> None:
        self._recorder = recorder
        self._clock = clock
        self._timers = timers
        self._qps = qps
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled_at = clock.monotonic()
        self._queue: deque[_Pending] = deque()
        self._is_waiting = False
        self.dropped = 0

    def container(self, pod: Object, kind: ContainerKind, name: str, type: str, reason: str, message: str) -> None:
        """An event about one container of the pod."""
        self.pod(pod, type, reason, message, f"spec.{kind.value}{{{name}}}")

    def pod(self, pod: Object, type: str, reason: str, message: str, field_path: str = "") -> None:
        """An event about the pod. Returns at once."""
        pending = _Pending(pod, type, reason, message, field_path)
        if self._qps <= 0:
            self._record(pending)
            return
        if len(self._queue) >= QUEUED_MAX:
            self.dropped += 1
            self._drop_one()
        self._queue.append(pending)
        if not self._is_waiting:
            self._flush()

    def _drop_one(self) -> None:
        for index, pending in enumerate(self._queue):
            if pending.type == NORMAL:
                del self._queue[index]
                return
        self._queue.popleft()

    def _flush(self) -> None:
        self._is_waiting = False
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._qps)
        self._refilled_at = now
        while self._queue and self._tokens >= 1:
            self._tokens -= 1
            self._record(self._queue.popleft())
        if self._queue:
            self._is_waiting = True
            self._timers.call_later((1 - self._tokens) / self._qps, self._flush)

    def _record(self, pending: _Pending) -> None:
        host = pending.pod["spec"].get("nodeName", "")
        self._recorder.event(pending.pod, PODS, pending.type, pending.reason, pending.message, field_path=pending.field_path, host=host)

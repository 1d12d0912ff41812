"""Events of pods and nodes, bounded: a burst goes out at once, the rest at a steady rate, so that a thousand starts drown no API server.

Rate and burst are the kubelet's --event-qps and --event-burst, and all nodes of the process share them: pods' events go first, and of
nodes' events no more than NODE_EVENTS_QUEUED_MAX wait (the start of 83 nodes). Those that find no place are dropped: what they tell is to
be seen in the Node's conditions too.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kubecosm.api.resources import NODES, PODS, Object, Resource
from kubecosm.client.events import EventRecorder
from kubecosm.runtime.clock import Clock

from ..cri.types import ContainerKind
from ..timers import Timers

QUEUED_MAX = 5000
"""Beyond this the oldest Normal events are dropped."""
NODE_EVENTS_QUEUED_MAX = 500
FLUSH_SECONDS_MIN = 0.001
"""Rounding may leave a hair of a token missing: a shorter wait would not move the clock."""
NORMAL, WARNING = "Normal", "Warning"


class _Pending(NamedTuple):
    subject: Object
    resource: Resource
    host: str
    type: str
    reason: str
    message: str
    field_path: str = ""


class KubeletEvents:
    def __init__(self, recorder: EventRecorder, clock: Clock, timers: Timers, *, qps: float, burst: int) -> None:
        self._recorder = recorder
        self._clock = clock
        self._timers = timers
        self._qps = qps
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled_at = clock.monotonic()
        self._queue: deque[_Pending] = deque()
        self._of_nodes: deque[_Pending] = deque()
        self._is_waiting = False
        self.dropped = 0

    def container(self, pod: Object, kind: ContainerKind, name: str, type: str, reason: str, message: str) -> None:
        """An event about one container of the pod."""
        self.pod(pod, type, reason, message, f"spec.{kind.value}{{{name}}}")

    def pod(self, pod: Object, type: str, reason: str, message: str, field_path: str = "") -> None:
        """An event about the pod. Returns at once."""
        pending = _Pending(pod, PODS, pod["spec"].get("nodeName", ""), type, reason, message, field_path)
        if self._qps > 0 and len(self._queue) >= QUEUED_MAX:
            self.dropped += 1
            self._drop_one()
        self._put(self._queue, pending)

    def node(self, name: str, type: str, reason: str, message: str) -> None:
        """An event about a node, which stands for its uid too: so `kubectl describe node` finds what kubelets write."""
        if self._qps > 0 and len(self._of_nodes) >= NODE_EVENTS_QUEUED_MAX:
            self.dropped += 1
            return
        self._put(self._of_nodes, _Pending({"metadata": {"name": name, "uid": name}}, NODES, name, type, reason, message))

    def _put(self, queue: deque[_Pending], pending: _Pending) -> None:
        if self._qps <= 0:
            self._record(pending)
            return
        queue.append(pending)
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
        while (queue := self._queue or self._of_nodes) and self._tokens >= 1:
            self._tokens -= 1
            self._record(queue.popleft())
        if queue:
            self._is_waiting = True
            self._timers.call_later(max((1 - self._tokens) / self._qps, FLUSH_SECONDS_MIN), self._flush)

    def _record(self, pending: _Pending) -> None:
        self._recorder.event(
            pending.subject, pending.resource, pending.type, pending.reason, pending.message, field_path=pending.field_path,
            host=pending.host,
        )  # fmt: skip

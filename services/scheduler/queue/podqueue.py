"""A pod in the queue, and the heaps it waits in."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..state.podinfo import PodInfo


@dataclass(slots=True)
class QueuedPod:
    """A pending pod and its history (QueuedPodInfo). Times are of the monotonic clock, in seconds."""

    info: PodInfo
    timestamp: float
    """When it was last put into a queue after an attempt, or first seen."""
    attempts: int = 0
    first_attempt: float | None = None
    unschedulable_count: int = 0
    """Attempts that plugins rejected; decides the back-off."""
    consecutive_errors: int = 0
    unschedulable_plugins: frozenset[str] = frozenset()
    pending_plugins: frozenset[str] = frozenset()
    gated_by: str = ""
    """The PreEnqueue plugin that keeps it out of the active queue."""
    backoff_until: float = 0.0
    flushed: bool = False
    """Its last stay among the unschedulable pods ended by the time limit."""

    @property
    def uid(self) -> str:
        return self.info.uid

    @property
    def rejectors(self) -> frozenset[str]:
        """The plugins whose events may help; empty after an error. While a plugin gates the pod, only that one's."""
        if self.gated_by:
            return frozenset((self.gated_by,))
        return self.unschedulable_plugins | self.pending_plugins


@dataclass(slots=True)
class _Entry:
    pod: QueuedPod
    valid: bool = True


@dataclass
class PodHeap:
    """A heap of pods by a key, with removal by uid. The key is taken when a pod is pushed."""

    key: Callable[[QueuedPod], Any]
    _heap: list[tuple[Any, int, _Entry]] = field(default_factory=list)
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _sequence: Iterator[int] = field(default_factory=itertools.count)

    def push(self, pod: QueuedPod) -> None:
        """Add the pod, or move it to where its key says now."""
        self.remove(pod.uid)
        entry = self._entries[pod.uid] = _Entry(pod)
        heapq.heappush(self._heap, (self.key(pod), next(self._sequence), entry))

    def remove(self, uid: str) -> QueuedPod | None:
        entry = self._entries.pop(uid, None)
        if entry is None:
            return None
        entry.valid = False
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = [item for item in self._heap if item[2].valid]
            heapq.heapify(self._heap)
        return entry.pod

    def get(self, uid: str) -> QueuedPod | None:
        entry = self._entries.get(uid)
        return entry.pod if entry else None

    def peek(self) -> QueuedPod | None:
        while self._heap and not self._heap[0][2].valid:
            heapq.heappop(self._heap)
        return self._heap[0][2].pod if self._heap else None

    def pop(self) -> QueuedPod | None:
        pod = self.peek()
        if pod is not None:
            heapq.heappop(self._heap)
            del self._entries[pod.uid]
        return pod

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[QueuedPod]:
        return (entry.pod for entry in self._entries.values())


Group = tuple[str, frozenset[str]]
"""Scheduler name and rejecting plugins: what decides whether an event matters."""


@dataclass
class UnschedulablePods:
    """Rejected or gated pods by uid, the longest waiting first; and by group, so that an event passes by thousands it cannot help."""

    _pods: dict[str, QueuedPod] = field(default_factory=dict)
    _groups: dict[Group, dict[str, QueuedPod]] = field(default_factory=dict)

    def add(self, pod: QueuedPod) -> None:
        self.pop(pod.uid)
        self._pods[pod.uid] = pod
        self._groups.setdefault(_group_of(pod), {})[pod.uid] = pod

    def pop(self, uid: str) -> QueuedPod | None:
        """Take a pod out; its rejectors must be those it was added with."""
        pod = self._pods.pop(uid, None)
        if pod is not None:
            group = _group_of(pod)
            members = self._groups[group]
            del members[uid]
            if not members:
                del self._groups[group]
        return pod

    def get(self, uid: str) -> QueuedPod | None:
        return self._pods.get(uid)

    def first(self) -> QueuedPod | None:
        return next(iter(self._pods.values()), None)

    def groups(self) -> list[Group]:
        return list(self._groups)

    def members(self, group: Group) -> list[QueuedPod]:
        return list(self._groups.get(group, {}).values())

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def __iter__(self) -> Iterator[QueuedPod]:
        return iter(self._pods.values())


def _group_of(pod: QueuedPod) -> Group:
    return pod.info.scheduler_name, pod.rejectors

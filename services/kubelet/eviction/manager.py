"""Ends pods of nodes that are short of memory, one after the other, until there is enough (pkg/kubelet/eviction/eviction_manager.go).

Simulated pods use what their requests make plausible, which nodes have room for. Only annotations make them use more, so only nodes with
such pods are looked at. Leaves out: soft thresholds, disks, process ids and images, which simulated pods do not use up.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol

from kubecosm.api.names import TAINT_MEMORY_PRESSURE
from kubecosm.api.placement import NO_SCHEDULE, untolerated
from kubecosm.api.resources import Object
from kubecosm.runtime.clock import Clock

from ..nodes.events import WARNING, Told
from ..nodes.power import NO_PRESSURES, Power, Powers
from ..notes import MEMORY, PREFIX
from ..pods.admission import Refused
from ..pods.spec import qos_class
from ..pods.status import Verdict
from ..timers import Timers
from .ranking import MEMORY_THRESHOLD, Candidate, eviction_message, rank

MONITOR_SECONDS = 10.0
PRESSURE_TRANSITION_SECONDS = 300.0
"""A pressure is over when it has not been seen for so long."""
GRACE_SECONDS = 1
REASON = "Evicted"
MEMORY_PRESSURE = "MemoryPressure"
PRESSED = frozenset((MEMORY_PRESSURE,))


def says_its_memory(pod: Object) -> bool:
    """Whether annotations tell what the pod's containers use."""
    return any(name.startswith(PREFIX + MEMORY) for name in pod["metadata"].get("annotations") or ())


class EvictablePods(Protocol):
    """The pods of a node; the kubelet's PodManager."""

    def active(self, node: str) -> list[Object]: ...

    def evict(self, pod: Object, verdict: Verdict) -> None: ...


class EvictionManager:
    """`consider` is told of pods that come or change; `refusal` is asked before a pod is let in."""

    def __init__(
        self, clock: Clock, timers: Timers, powers: Powers, pods: EvictablePods, *, memory_of: Callable[[str], Mapping[str, int]],
        capacity_of: Callable[[str], int], tell: Callable[[str, Told], None], post: Callable[[str], Coroutine[None, None, None]],
        spawn: Callable[[Coroutine[None, None, None], str], object],
    ) -> None:  # fmt: skip
        """`memory_of`: a pod (uid) → the bytes its containers use; `capacity_of`: those of a node."""
        self._clock, self._timers, self._powers, self._pods = clock, timers, powers, pods
        self._memory_of, self._capacity_of = memory_of, capacity_of
        self._tell, self._post, self._spawn = tell, post, spawn
        self._seen: dict[str, float] = {}
        """Node that is looked at → when it was short last (in seconds of the clock)."""

    def consider(self, pod: Object, node: str) -> None:
        if node not in self._seen and says_its_memory(pod):
            self._seen[node] = float("-inf")
            self._timers.call_later(MONITOR_SECONDS, lambda: self._look(node))

    def refusal(self, pod: Object, node: str) -> Refused | None:
        """A node that is short of memory takes no pod without requests, unless it tolerates that."""
        if MEMORY_PRESSURE not in self._powers.pressures_of(node) or qos_class(pod) != "BestEffort":
            return None
        taint = {"key": TAINT_MEMORY_PRESSURE, "effect": NO_SCHEDULE}
        if untolerated([taint], pod["spec"].get("tolerations") or (), (NO_SCHEDULE,)) is None:
            return None
        return Refused(REASON, f"The node had condition: [{MEMORY_PRESSURE}]. ")

    def _look(self, node: str) -> None:
        pods, is_pressed = self._pods.active(node), bool(self._powers.pressures_of(node))
        if self._powers.of(node) is Power.OFF or not (is_pressed or any(map(says_its_memory, pods))):
            self._powers.press(node, NO_PRESSURES)
            del self._seen[node]
            return
        self._timers.call_later(MONITOR_SECONDS, lambda: self._look(node))
        candidates = [Candidate(pod, self._memory_of(pod["metadata"]["uid"])) for pod in pods]
        available, now = max(0, self._capacity_of(node) - sum(one.used for one in candidates)), self._clock.monotonic()
        if available < MEMORY_THRESHOLD.value():
            self._seen[node] = now
            self._turn(node, is_pressed=True)
            self._tell(node, Told(WARNING, "EvictionThresholdMet", "Attempting to reclaim memory"))
            self._evict_first(candidates, available)
        elif is_pressed and now - self._seen[node] >= PRESSURE_TRANSITION_SECONDS:
            self._turn(node, is_pressed=False)

    def _turn(self, node: str, *, is_pressed: bool) -> None:
        if bool(self._powers.pressures_of(node)) is not is_pressed:
            self._powers.press(node, PRESSED if is_pressed else NO_PRESSURES)
            self._spawn(self._post(node), "node-status")

    def _evict_first(self, candidates: list[Candidate], available: int) -> None:
        for victim in rank(candidates)[:1]:
            message = eviction_message(victim, available)
            self._pods.evict(victim.pod, Verdict(REASON, message, grace_seconds=GRACE_SECONDS, is_disruption=True))

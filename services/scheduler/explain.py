"""Where a pod stands with the scheduler, and why: its place in the queue, what it waits for, and the last decision about it.

The answer of `/debug/scheduling` and of `kubecosm explain-scheduling`. Read-only; asked by people, so it may walk over all pending pods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .framework.events import Action, ClusterEvent, action_name
from .state.podinfo import PodInfo

if TYPE_CHECKING:
    from .queue.podqueue import QueuedPod
    from .scheduler import Scheduler

GATED, ACTIVE, BACK_OFF, UNSCHEDULABLE = "Gated", "Active", "BackOff", "Unschedulable"
WAITING, BINDING, SCHEDULED = "WaitingOnPermit", "Binding", "Scheduled"
NO_ATTEMPT: dict[str, Any] = {
    "time": None, "attempt": 0, "nodeName": "", "message": "", "feasibleNodes": 0, "nodes": [], "preemption": None,
}  # fmt: skip


class Explainer:
    """Answers for one running scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    @property
    def profiles(self) -> list[str]:
        """The scheduler names that pods may ask for here."""
        return list(self._scheduler.profiles)

    def explain(self, key: str) -> dict[str, Any] | None:
        """Everything known of the pod `namespace/name`; None if it does not wait and no decision about it is remembered."""
        scheduler = self._scheduler
        pending = next((pod for pod in scheduler.pending.values() if pod.key == key), None)
        decision = scheduler.decisions.get(key)
        if pending is not None and decision is not None and decision.uid != pending.uid:
            decision = None  # of an earlier pod of this name
        if pending is None:
            return None if decision is None else {**decision.explain(), "state": SCHEDULED, "nominatedNodeName": "", "queue": None}
        told = decision.explain() if decision is not None else {**self._unknown(pending), **NO_ATTEMPT}
        nominated = scheduler.nominator.node_of(pending.uid) or pending.nominated_node
        return {**told, "state": self._state(pending), "nominatedNodeName": nominated, "queue": self._queue(pending)}

    @staticmethod
    def _unknown(pod: PodInfo) -> dict[str, Any]:
        return {"pod": pod.key, "uid": pod.uid, "schedulerName": pod.scheduler_name, "result": "Pending"}

    def _state(self, pod: PodInfo) -> str:
        queue, uid = self._scheduler.queue, pod.uid
        if uid in queue.gated:
            return GATED
        if uid in queue.unschedulable:
            return UNSCHEDULABLE
        if queue.backoff.get(uid) or queue.error_backoff.get(uid):
            return BACK_OFF
        if queue.active.get(uid):
            return ACTIVE
        return WAITING if self._scheduler.waiting.get(uid) else BINDING

    def _queue(self, pod: PodInfo) -> dict[str, Any] | None:
        """What keeps a queued pod from the next attempt; None for one whose binding is under way."""
        scheduler = self._scheduler
        queued = scheduler.queue.get(pod.uid)
        if queued is None:
            waiting = scheduler.waiting.get(pod.uid)
            return {"waitingForPlugins": waiting.pending_plugins} if waiting else None
        told: dict[str, Any] = {"attempts": queued.attempts, "plugins": sorted(queued.rejectors)}
        state = self._state(pod)
        if state == GATED:
            told["gatedBy"] = queued.gated_by
            told["reason"] = self._gate_reason(queued)
        elif state == BACK_OFF:
            told["backoffSeconds"] = round(max(0.0, queued.backoff_until - scheduler.clock.monotonic()), 3)
        elif state == UNSCHEDULABLE:
            told["retriedOn"] = self._events(queued)
            told["retriedInSeconds"] = round(scheduler.queue.patience_left(queued), 3)
        return told

    def _gate_reason(self, queued: QueuedPod) -> str:
        profile = self._scheduler.profiles[queued.info.scheduler_name]
        status = profile.ask_gate(queued.gated_by, queued.info)
        return status.message if status is not None else ""

    def _events(self, queued: QueuedPod) -> dict[str, list[str]]:
        """Rejecting plugin → the events that make it worth another try."""
        hints = self._scheduler.profiles[queued.info.scheduler_name].hints
        return {plugin: [describe(event) for event in hints.registered(plugin)] for plugin in sorted(queued.rejectors)}


def describe(event: ClusterEvent) -> str:
    """`Node: ADD, UPDATE_NODE_LABEL` in Kubernetes' spelling: `Node: Add, UpdateNodeLabel`."""
    if event.action == Action.ALL:
        return f"{event.resource}: All"
    names = [action_name(action) for action in event.action]
    if event.action & Action.UPDATE == Action.UPDATE:
        names = [*(action_name(action) for action in event.action & ~Action.UPDATE), "Update"]
    return f"{event.resource}: {', '.join(names)}"

"""SchedulingGates: a pod with gates is not tried before the last one is gone."""

from __future__ import annotations

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.status import Status, unresolvable
from ..state.podinfo import PodInfo


class SchedulingGates:
    name = "SchedulingGates"

    def __init__(self, handle: Handle) -> None:
        pass

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        gates = pod.pod["spec"].get("schedulingGates")
        if not gates:
            return None
        return unresolvable(f"waiting for scheduling gates: [{' '.join(gate['name'] for gate in gates)}]")

    def events_to_register(self) -> list[HintedEvent]:
        return [HintedEvent(ClusterEvent(EventResource.UNSCHEDULED_POD, Action.UPDATE_POD_GATES_ELIMINATED))]

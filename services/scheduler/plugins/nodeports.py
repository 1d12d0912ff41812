"""NodePorts: a node's host ports go to one pod each; 0.0.0.0 stands for every address."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..framework.events import Action, ClusterEvent, EventResource, HintedEvent
from ..framework.handle import Handle
from ..framework.interface import CycleState, Verdict
from ..framework.status import SKIP_STATUS, Status, unschedulable
from ..state.columns import Rows
from ..state.podinfo import HostPort, PodInfo

REASON = "node(s) didn't have free ports for the requested pod ports"
ANY_IP = "0.0.0.0"


def conflict(wanted: HostPort, used: HostPort) -> bool:
    """Whether two host ports cannot live on one node."""
    same_port = wanted.protocol == used.protocol and wanted.port == used.port
    return same_port and (wanted.ip == used.ip or ANY_IP in (wanted.ip, used.ip))


class NodePorts:
    name = "NodePorts"

    def __init__(self, handle: Handle) -> None:
        self._cluster = handle.cluster

    def events_to_register(self) -> list[HintedEvent]:
        return [
            HintedEvent(ClusterEvent(EventResource.ASSIGNED_POD, Action.DELETE), self._pod_deleted),
            HintedEvent(ClusterEvent(EventResource.NODE, Action.ADD)),
        ]

    @staticmethod
    def _pod_deleted(pod: PodInfo, old: Any, new: Any) -> bool:
        """Worth a try when the deleted pod held a port that this one wants."""
        return any(conflict(wanted, used) for wanted in pod.host_ports for used in old.host_ports)

    def pre_filter(self, state: CycleState, pod: PodInfo) -> Status | None:
        return None if pod.host_ports else SKIP_STATUS

    def filter(self, state: CycleState, pod: PodInfo, rows: Rows) -> Verdict | None:
        taken = [
            row
            for wanted in pod.host_ports
            for ip, row in self._cluster.used_ports.get((wanted.protocol, wanted.port), {})
            if wanted.ip == ip or ANY_IP in (wanted.ip, ip)
        ]
        if not taken:
            return None
        ok = np.ones(self._cluster.nodes.size, np.bool_)
        ok[taken] = False
        return Verdict(ok[rows], (unschedulable(REASON),))

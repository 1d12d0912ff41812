"""What a kubelet tells of its node: when it starts, when a condition changes, when the node is cordoned. Pure.

Imitates pkg/kubelet/kubelet_node_status.go and nodestatus/setters.go. Leaves out what tells of a real machine only: InvalidDiskCapacity,
CgroupV1, image and container garbage collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kubecosm.api.resources import Object

NORMAL, WARNING = "Normal", "Warning"


class Told(NamedTuple):
    """Type, reason and message of an event."""

    type: str
    reason: str
    message: str


CHANGES = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
    "Ready": ("NodeReady", "NodeNotReady"),
}
"""Condition → the reasons of the events that tell that it has become True, and that it has not."""


def told_status(node: str, reason: str) -> Told:
    """A change of the node's status, in the words that are used for all of them."""
    return Told(NORMAL, reason, f"Node {node} status is now: {reason}")


def condition_events(node: str, before: Iterable[Object], after: Iterable[Object]) -> Iterator[Told]:
    """Of the conditions whose status differs; a condition that was not there before has changed."""
    known = {condition["type"]: condition["status"] for condition in before}
    for condition in after:
        if condition["type"] in CHANGES and known.get(condition["type"]) != condition["status"]:
            yield told_status(node, CHANGES[condition["type"]][condition["status"] != "True"])


def schedulable_event(node: str, *, is_unschedulable: bool) -> Told:
    return told_status(node, "NodeNotSchedulable" if is_unschedulable else "NodeSchedulable")


def rebooted_event(node: str, boot: str) -> Told:
    return Told(WARNING, "Rebooted", f"Node {node} has been rebooted, boot id: {boot}")


def start_events(node: str, before: Object | None, status: Object) -> Iterator[Told]:
    """Of a kubelet that starts; `before` is the Node as it found it, if it was there, `status` what the kubelet makes of it.

    A kubelet begins without knowledge of the pressures, so it tells of them at each start; of readiness only where that has changed.
    """
    old: Object = before.get("status") or {} if before is not None else {}
    yield Told(NORMAL, "Starting", "Starting kubelet.")
    boot, boot_before = status["nodeInfo"]["bootID"], (old.get("nodeInfo") or {}).get("bootID")
    if boot_before and boot_before != boot:
        yield rebooted_event(node, boot)
    ready_before = [condition for condition in old.get("conditions") or () if condition["type"] == "Ready"]
    changes = list(condition_events(node, ready_before, status["conditions"]))
    yield from (told for told in changes if told.reason != "NodeReady")
    yield Told(NORMAL, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
    if before is not None and (before.get("spec") or {}).get("unschedulable"):
        yield schedulable_event(node, is_unschedulable=True)
    yield from (told for told in changes if told.reason == "NodeReady")

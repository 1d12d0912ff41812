"""Statuses of plugins and the messages made of them. Imitates framework.Status and framework.FitError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

EXTENDER = "Extender"
"""Who rejected a pod when an extender did, and not a plugin (framework.ExtenderName)."""

MESSAGE_LENGTH_MAX = 1024
"""Longest note of an events.k8s.io Event (NoteLengthLimit)."""


class Code(IntEnum):
    SUCCESS = 0
    ERROR = 1
    UNSCHEDULABLE = 2
    UNSCHEDULABLE_AND_UNRESOLVABLE = 3
    WAIT = 4
    SKIP = 5
    PENDING = 6


_NAMES = {
    Code.SUCCESS: "Success", Code.ERROR: "Error", Code.UNSCHEDULABLE: "Unschedulable",
    Code.UNSCHEDULABLE_AND_UNRESOLVABLE: "UnschedulableAndUnresolvable", Code.WAIT: "Wait", Code.SKIP: "Skip", Code.PENDING: "Pending",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Status:
    """What a plugin answers when it is not simply content; success is None."""

    code: Code
    reasons: tuple[str, ...] = ()
    plugin: str = ""

    @property
    def is_rejected(self) -> bool:
        """The pod cannot be placed (now), as opposed to an error of the scheduler."""
        return self.code in (Code.UNSCHEDULABLE, Code.UNSCHEDULABLE_AND_UNRESOLVABLE, Code.PENDING)

    @property
    def message(self) -> str:
        return ", ".join(self.reasons)

    @property
    def code_name(self) -> str:
        return _NAMES[self.code]

    def of(self, plugin: str) -> Status:
        """The same status with the plugin that gave it, unless that is known already."""
        return self if self.plugin else replace(self, plugin=plugin)


def unschedulable(*reasons: str) -> Status:
    """Refused now; removing other pods might help."""
    return Status(Code.UNSCHEDULABLE, reasons)


def unresolvable(*reasons: str) -> Status:
    """Refused, and no preemption can help (UnschedulableAndUnresolvable)."""
    return Status(Code.UNSCHEDULABLE_AND_UNRESOLVABLE, reasons)


def error(reason: str) -> Status:
    return Status(Code.ERROR, (reason,))


SKIP_STATUS = Status(Code.SKIP)
"""PreFilter or PreScore: this plugin has nothing to say about the pod."""


def merge(statuses: Iterable[Status]) -> Status | None:
    """The gravest of several statuses with all their reasons (PluginToStatus.Merge), None if there are none."""
    chosen = list(statuses)
    if not chosen:
        return None
    order = (Code.ERROR, Code.UNSCHEDULABLE_AND_UNRESOLVABLE, Code.UNSCHEDULABLE, Code.PENDING)
    code = next((code for code in order if any(status.code is code for status in chosen)), chosen[0].code)
    return Status(code, tuple(reason for status in chosen for reason in status.reasons), chosen[0].plugin)


def fit_message(node_count: int, reasons: Mapping[str, int], prefilter_message: str = "", postfilter_message: str = "") -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: …` (FitError.Error).

    `reasons` counts the nodes that gave each reason; a PreFilter message stands instead of them.
    """
    message = f"0/{node_count} nodes are available:"
    if prefilter_message:
        message += f" {prefilter_message}."
    elif reasons:
        message += f" {', '.join(sorted(f'{count} {reason}' for reason, count in reasons.items()))}."
    return f"{message} {postfilter_message}" if postfilter_message else message


def truncate(message: str) -> str:
    """`message` cut to what an Event's note may hold (scheduler.truncateMessage)."""
    return message if len(message) <= MESSAGE_LENGTH_MAX else message[: MESSAGE_LENGTH_MAX - 4] + " ..."

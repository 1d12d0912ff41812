"""Which nodes of this process are shutting down or switched off; shared by all who act for nodes. Empty as long as all is well."""

from __future__ import annotations

import enum


class Power(enum.Enum):
    ON = "on"
    SHUTTING_DOWN = "shutting down"
    OFF = "off"


class Powers:
    """The nodes that are not simply on."""

    def __init__(self) -> None:
        self._states: dict[str, Power] = {}

    def of(self, node: str) -> Power:
        return self._states.get(node, Power.ON) if self._states else Power.ON

    def put(self, node: str, power: Power) -> None:
        if power is Power.ON:
            self._states.pop(node, None)
        else:
            self._states[node] = power

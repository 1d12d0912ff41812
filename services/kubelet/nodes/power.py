"""Which nodes of this process are shutting down, switched off or short of something; shared by all who act for nodes. Empty if all is well.

A file remembers what is off, as a real machine stays off whatever happens to the kubelet's program.
"""

from __future__ import annotations

import enum
from pathlib import Path

import orjson

FILE_NAME = "power.json"
NO_PRESSURES: frozenset[str] = frozenset()


class Power(enum.Enum):
    ON = "on"
    SHUTTING_DOWN = "shutting down"
    OFF = "off"


class Powers:
    """The nodes that are not simply on."""

    def __init__(self, directory: str = "") -> None:
        """`directory` keeps the file; nothing is remembered if it is empty."""
        self._file = Path(directory, FILE_NAME) if directory else None
        self._states: dict[str, Power] = dict.fromkeys(self._read(), Power.OFF)
        self._pressures: dict[str, frozenset[str]] = {}

    def of(self, node: str) -> Power:
        return self._states.get(node, Power.ON) if self._states else Power.ON

    def put(self, node: str, power: Power) -> None:
        if power is self.of(node):
            return
        if power is Power.ON:
            self._states.pop(node, None)
        else:
            self._states[node] = power
        self._write()

    def pressures_of(self, node: str) -> frozenset[str]:
        """The conditions that tell what the node is short of: `MemoryPressure`."""
        return self._pressures.get(node, NO_PRESSURES) if self._pressures else NO_PRESSURES

    def press(self, node: str, pressures: frozenset[str]) -> None:
        if pressures:
            self._pressures[node] = pressures
        else:
            self._pressures.pop(node, None)

    def _read(self) -> list[str]:
        """Nodes that were off, or on their way there, when the process ended: they got there without it."""
        try:
            return [str(name) for name in orjson.loads(self._file.read_bytes())] if self._file is not None else []
        except (FileNotFoundError, orjson.JSONDecodeError):
            return []

    def _write(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(".new")
            draft.write_bytes(orjson.dumps(sorted(self._states)))
            draft.replace(self._file)
